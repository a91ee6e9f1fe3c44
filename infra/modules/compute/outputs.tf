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
