output "role_arns" {
  description = "Roles by environment and kind: plan, apply, teardown, deploy, upload."
  value = { for environment in keys(var.environments) : environment => {
    for kind in local.kinds : kind => aws_iam_role.this["${environment}-${kind}"].arn
  } }
}

output "permissions_boundary_arns" {
  description = "Boundaries by environment: TF_VAR_permissions_boundary_arn of the platform."
  value       = { for environment, policy in aws_iam_policy.boundary : environment => policy.arn }
}

output "subjects" {
  description = "What each role trusts, to compare with a token that is refused."
  value       = local.subjects
}
