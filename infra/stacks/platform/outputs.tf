output "instance_id" {
  description = "The host: aws ssm start-session --target …"
  value       = module.compute.instance_id
}

output "public_ip" {
  description = "The host's public address; empty behind a NAT gateway."
  value       = module.compute.public_ip
}

output "architecture" {
  description = "The host's architecture, arm64 or amd64: which binaries it takes."
  value       = module.compute.architecture
}

output "data_bucket" {
  description = "Where files are uploaded to, below incoming/."
  value       = module.storage.data_bucket
}

output "artifact_bucket" {
  description = "Where releases are put."
  value       = module.storage.artifact_bucket
}

output "database_host" {
  description = "The database, as the host sees it."
  value       = module.database.host
}

output "dashboard_url" {
  description = "Loads, rejects, lag, host and database on one screen."
  value       = module.observability.dashboard_url
}

output "commit" {
  description = "The commit that was applied, for a drift check."
  value       = var.commit
}

output "safeguards" {
  description = "What protects the environment, as it was applied. A teardown looks here first: with deletion_protection it would stop half-way."
  value = {
    database = module.database.safeguards
    storage  = module.storage.safeguards
    network  = module.network.safeguards
    host     = module.compute.safeguards
  }
}
