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
