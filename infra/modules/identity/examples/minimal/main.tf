# The roles of one environment for one repository.
module "identity" {
  source = "../.."

  project      = "example"
  environments = { dev = { data_bucket = "example-hadrian-ml-data-bucket" } }
  state_bucket = "example-tfstate-123456789012-eu-central-1"
  github       = { owner = "octo-org", owner_id = 123456, repository = "octo-repo", repository_id = 789012 }
}

output "role_arns" {
  description = "What workflows assume."
  value       = module.identity.role_arns
}
