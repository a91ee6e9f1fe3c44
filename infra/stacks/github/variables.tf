variable "region" {
  description = "Region of the environments: the roles may act there alone."
  type        = string
}

variable "project" {
  description = "First part of every name, as in the platform."
  type        = string
  default     = "aqueduct"
}

variable "owner" {
  description = "Owner as in the platform: the data buckets' names begin with it."
  type        = string
}

variable "environments" {
  description = "Environments that live in this account. With an account for each, apply this once in each."
  type        = set(string)
  default     = ["dev", "stage", "prod"]
}

variable "data_bucket_names" {
  description = "Data buckets that are not called after the rule of the platform, by environment."
  type        = map(string)
  default     = {}
}

variable "state_bucket" {
  description = "Bucket of Terraform's state."
  type        = string
}

variable "github_owner" {
  description = "Owner of the repository on GitHub."
  type        = string
}

variable "github_owner_id" {
  description = "The owner's number: gh api repos/OWNER/REPO --jq .owner.id"
  type        = number
}

variable "github_repository" {
  description = "Name of the repository."
  type        = string
}

variable "github_repository_id" {
  description = "The repository's number: gh api repos/OWNER/REPO --jq .id"
  type        = number
}

variable "legacy_subject" {
  description = "Also trusts the subject without numbers, for repositories made before 15 July 2026 that have not changed over."
  type        = bool
  default     = false
}

variable "oidc_provider_arn" {
  description = "GitHub's identity provider, where the account has it already; null makes it."
  type        = string
  default     = null
}

variable "access_key_users" {
  description = "Fallback without OIDC: a user for each environment that may take on its roles. A person makes the key."
  type        = bool
  default     = false
}

variable "commit" {
  description = "Commit that was applied: a tag."
  type        = string
  default     = "none"
}
