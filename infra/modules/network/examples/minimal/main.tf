# The network of a dev environment: two zones, no NAT gateway, no flow logs.
module "network" {
  source = "../.."

  name             = "example-dev"
  log_group_prefix = "/example/dev"
}

output "public_subnet_ids" {
  description = "Where a host goes."
  value       = module.network.public_subnet_ids
}
