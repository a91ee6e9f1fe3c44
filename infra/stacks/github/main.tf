# What GitHub may do in this account. A root of its own, applied once by a person with administrator's rights: workflows
# need these roles before they can apply anything, an account has one identity provider for all of its environments, and
# a role that could change its own rights would have none that count.

module "identity" {
  source = "../../modules/identity"

  project      = var.project
  state_bucket = var.state_bucket

  # The same rule as in stacks/platform.
  environments = { for environment in var.environments : environment => {
    data_bucket = lookup(var.data_bucket_names, environment, join("-", compact([
      var.owner, "hadrian-ml-data-bucket", environment == "dev" ? "" : environment,
    ])))
  } }

  github = {
    owner         = var.github_owner
    owner_id      = var.github_owner_id
    repository    = var.github_repository
    repository_id = var.github_repository_id
  }

  legacy_subject    = var.legacy_subject
  oidc_provider_arn = var.oidc_provider_arn
  access_key_users  = var.access_key_users
}
