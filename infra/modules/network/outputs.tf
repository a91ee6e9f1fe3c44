output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "public_subnet_ids" {
  description = "Public subnets, in the order of their zones."
  value       = [for letter in ["a", "b"] : aws_subnet.public[letter].id]
}

output "private_subnet_ids" {
  description = "Private subnets, in the order of their zones."
  value       = [for letter in ["a", "b"] : aws_subnet.private[letter].id]
}

output "safeguards" {
  description = "What is kept about traffic, and whether private subnets have a way out."
  value = {
    flow_log_days = one(aws_cloudwatch_log_group.flow[*].retention_in_days)
    nat_gateway   = length(aws_nat_gateway.this) > 0
  }
}
