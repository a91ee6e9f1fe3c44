output "role_arns" {
  description = "Roles by environment and kind (plan, apply, teardown, deploy, upload): variables of the GitHub environments."
  value       = module.identity.role_arns
}

output "permissions_boundary_arns" {
  description = "TF_VAR_permissions_boundary_arn of the platform, by environment."
  value       = module.identity.permissions_boundary_arns
}

output "subjects" {
  description = "What each role trusts, to compare with a token that is refused."
  value       = module.identity.subjects
}
