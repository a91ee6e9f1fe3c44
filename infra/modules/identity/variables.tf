variable "project" {
  description = "Project, first part of every name."
  type        = string
}

variable "environments" {
  description = "Environments in this account: the name of each one's data bucket."
  type        = map(object({ data_bucket = string }))

  validation {
    condition     = alltrue([for name in keys(var.environments) : contains(["dev", "stage", "prod"], name)])
    error_message = "environments must be among dev, stage, prod."
  }
}

variable "state_bucket" {
  description = "Bucket of Terraform's state."
  type        = string
}

variable "github" {
  description = "The repository, by names and by the numbers that GitHub never gives a second time: gh api repos/OWNER/REPO --jq '.owner.id, .id'."
  type = object({
    owner         = string
    owner_id      = number
    repository    = string
    repository_id = number
  })

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+$", var.github.owner)) && can(regex("^[A-Za-z0-9._-]+$", var.github.repository))
    error_message = "github.owner and github.repository must be plain names, without slash or wildcard."
  }
  validation {
    condition     = var.github.owner_id >= 1 && var.github.repository_id >= 1
    error_message = "github.owner_id and github.repository_id must be GitHub's numbers."
  }
}

variable "legacy_subject" {
  description = "Also trusts the subject without numbers, which repositories made before 15 July 2026 send. A name can be taken over by somebody else; the numbers cannot."
  type        = bool
  default     = false
}

variable "oidc_provider_arn" {
  description = "GitHub's identity provider where the account has one already (there can be only one); null makes it."
  type        = string
  default     = null
}

variable "access_key_users" {
  description = "Fallback for a CI that cannot use OIDC: a user for each environment that may do nothing but take on the roles of its environment. Its key is made by a person, so that no state holds it."
  type        = bool
  default     = false
}
