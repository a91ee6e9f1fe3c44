mock_provider "aws" {
  source          = "../../testing/aws"
  override_during = plan
}

variables {
  region               = "eu-central-1"
  owner                = "acme"
  environments         = ["dev", "stage", "prod"] # the default, whatever a terraform.tfvars here says
  state_bucket         = "aqueduct-tfstate-123456789012-eu-central-1"
  github_owner         = "octo-org"
  github_owner_id      = 123456
  github_repository    = "octo-repo"
  github_repository_id = 789012
}

run "three_environments" {
  command = plan

  assert {
    condition     = toset(keys(output.role_arns)) == toset(["dev", "stage", "prod"]) && alltrue([for roles in output.role_arns : toset(keys(roles)) == toset(["plan", "apply", "teardown", "deploy", "upload"])])
    error_message = "Five roles for each environment."
  }
  assert {
    condition     = alltrue([for environment in ["dev", "stage", "prod"] : output.subjects["${environment}-apply"] == ["repo:octo-org@123456/octo-repo@789012:environment:${environment}"]])
    error_message = "Each trusts its environment by the immutable subject."
  }
  assert {
    condition     = alltrue([for environment in ["dev", "stage", "prod"] : output.subjects["${environment}-teardown"] == ["repo:octo-org@123456/octo-repo@789012:environment:${environment}-teardown"]])
    error_message = "A teardown comes from an environment of its own."
  }
  assert {
    condition     = toset(keys(output.permissions_boundary_arns)) == toset(["dev", "stage", "prod"])
    error_message = "A boundary for each environment."
  }
}

run "an_account_for_prod" {
  command = plan

  variables {
    environments      = ["prod"]
    data_bucket_names = { prod = "acme-prod-imports" }
  }

  assert {
    condition     = keys(output.role_arns) == ["prod"]
    error_message = "Only prod's roles are in prod's account."
  }
}
