output "identifier" {
  description = "Identifier of the instance."
  value       = aws_db_instance.this.identifier
}

output "host" {
  description = "Host name of the database."
  value       = aws_db_instance.this.address
}

output "port" {
  description = "Port of the database."
  value       = aws_db_instance.this.port
}

output "database_name" {
  description = "Name of the database."
  value       = aws_db_instance.this.db_name
}

output "security_group_id" {
  description = "The database's security group, for a client's rule of egress."
  value       = aws_security_group.this.id
}

output "master_secret_arn" {
  description = "ARN of the master login's secret, which RDS rotates."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "app_secret_arn" {
  description = "ARN of the loading login's secret."
  value       = aws_secretsmanager_secret.login["app"].arn

  depends_on = [aws_secretsmanager_secret_version.login] # a secret without a version cannot be read
}

output "read_secret_arn" {
  description = "ARN of the reading login's secret."
  value       = aws_secretsmanager_secret.login["read"].arn

  depends_on = [aws_secretsmanager_secret_version.login]
}

output "safeguards" {
  description = "What stands between the data and a mistake."
  value = {
    deletion_protection = aws_db_instance.this.deletion_protection
    final_snapshot      = !aws_db_instance.this.skip_final_snapshot
    backup_days         = aws_db_instance.this.backup_retention_period
    multi_az            = aws_db_instance.this.multi_az
    publicly_accessible = aws_db_instance.this.publicly_accessible
    encrypted           = aws_db_instance.this.storage_encrypted
  }
}
