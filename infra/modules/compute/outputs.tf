output "instance_id" {
  description = "The host's id."
  value       = aws_instance.host.id
}

output "public_ip" {
  description = "The host's public address; empty in a private subnet."
  value       = aws_instance.host.public_ip
}

output "security_group_id" {
  description = "The host's security group, to be let in by the database."
  value       = aws_security_group.host.id
}

output "architecture" {
  description = "arm64 or amd64."
  value       = local.architecture
}

output "burstable" {
  description = "Whether the host lives on CPU credits."
  value       = local.burstable
}

output "database_setup_role_arn" {
  description = "The role that setup-database.sh assumes; null unless the database is being set up."
  value       = one(aws_iam_role.database_setup[*].arn)
}

output "safeguards" {
  description = "Who is let in, and whether the host may take on the setup of the database."
  value = {
    ssh_from       = sort([for rule in aws_vpc_security_group_ingress_rule.ssh : coalesce(rule.cidr_ipv4, rule.cidr_ipv6)])
    http_from      = sort(distinct([for rule in aws_vpc_security_group_ingress_rule.http : coalesce(rule.cidr_ipv4, rule.cidr_ipv6)]))
    public_address = aws_instance.host.associate_public_ip_address
    database_setup = length(aws_iam_role.database_setup) > 0
  }
}
