# Both buckets of a dev environment, which may be deleted with what is in them.
module "storage" {
  source = "../.."

  name                 = "example-dev"
  data_bucket_name     = "example-hadrian-ml-data-bucket"
  artifact_bucket_name = "example-dev-artifacts-123456789012"
  force_destroy        = true
}

output "data_bucket" {
  description = "Where files go."
  value       = module.storage.data_bucket
}
