# The database of a dev environment: one micro instance, gone without a trace when destroyed.
module "database" {
  source = "../.."

  name                      = "example-dev"
  vpc_id                    = "vpc-0123456789abcdef0"
  subnet_ids                = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  client_security_group_ids = { host = "sg-0123456789abcdef0" }
  log_retention_days        = 14
  deletion_protection       = false
  disposable                = true
}

output "host" {
  description = "Where PostgreSQL answers."
  value       = module.database.host
}
