# --- Who and where: given by the workflow or the shell as TF_VAR_… ---

variable "environment" {
  description = "dev, stage or prod."
  type        = string

  validation {
    condition     = contains(["dev", "stage", "prod"], var.environment)
    error_message = "environment must be dev, stage or prod."
  }
}

variable "region" {
  description = "AWS region."
  type        = string
}

variable "owner" {
  description = "Team or person that answers for the environment: a tag, and the beginning of the data bucket's name."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,30}$", var.owner))
    error_message = "owner must be 2 to 31 lower-case letters, digits and hyphens: a bucket's name begins with it."
  }
}

variable "alert_email" {
  description = "Address that alarms and the budget write to. AWS sends a mail to confirm first."
  type        = string
  default     = null

  validation {
    condition     = var.environment != "prod" || var.alert_email != null
    error_message = "alert_email must be given in prod: alarms that nobody hears are none."
  }
}

variable "repository" {
  description = "Repository that this comes from, as OWNER/NAME: a tag."
  type        = string
  default     = "none"
}

variable "commit" {
  description = "Commit that was applied: a tag. A drift check gives the applied one again (output commit), or every tag differs."
  type        = string
  default     = "none"
}

variable "ttl" {
  description = "Day after which the environment may be deleted, as 2026-12-31, or none: a tag for whoever looks for leftovers."
  type        = string
  default     = "none"

  validation {
    condition     = var.ttl == "none" || can(regex("^20[0-9]{2}-[01][0-9]-[0-3][0-9]$", var.ttl))
    error_message = "ttl must be a day such as 2026-12-31, or none."
  }
}

variable "permissions_boundary_arn" {
  description = "Boundary of all roles made here, from the stack github: the apply role can make none without it. null where a person applies."
  type        = string
  default     = null
}

variable "project" {
  description = "First part of every name."
  type        = string
  default     = "aqueduct"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}[a-z0-9]$", var.project))
    error_message = "project must be 3 to 22 lower-case letters, digits and hyphens."
  }
}

variable "data_bucket_name" {
  description = "Name of the data bucket. null: OWNER-hadrian-ml-data-bucket, with -stage or -prod behind it there, because bucket names are unique in the world."
  type        = string
  default     = null
}

# --- What differs by environment: environments/*.tfvars ---

variable "protected" {
  description = "Deletion protection of the database. A teardown lifts it by an apply of its own with protected = false."
  type        = bool
  default     = true
}

variable "vpc_cidr" {
  description = "Address range of the VPC; another one in each environment, so that they could be peered."
  type        = string
}

variable "nat_gateway" {
  description = "Puts the host into a private subnet behind a NAT gateway, about 33 USD a month."
  type        = bool
  default     = false
}

variable "flow_logs" {
  description = "Keeps who talked to whom, as long as other logs."
  type        = bool
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
}

variable "instance_type" {
  description = "The host's type; its architecture follows. t4g.micro is arm64, t3.micro x86_64."
  type        = string
  default     = "t4g.micro"
}

variable "cpu_credits" {
  description = "unlimited: a host without credits goes on, and what a day's credits do not pay is billed. standard: it slows down, at the first boot too."
  type        = string
  default     = "unlimited"
}

variable "root_volume_gb" {
  description = "Size of the host's disk."
  type        = number
  default     = 16
}

variable "ec2_public_key" {
  description = "Public key for SSH; null for none. Session Manager needs none."
  type        = string
  default     = null
}

variable "ssh_cidrs" {
  description = "Address ranges that may use SSH; nobody by default, and never wide ones."
  type        = list(string)
  default     = []
}

variable "http_cidrs" {
  description = "Address ranges that may use HTTP and HTTPS of containers on the host; nobody by default."
  type        = list(string)
  default     = []
}

variable "database_class" {
  description = "Instance class of the database."
  type        = string
  default     = "db.t4g.micro"
}

variable "database_storage_gb" {
  description = "Storage of the database at the beginning, and the ceiling of its growth."
  type        = object({ initial = number, ceiling = number })
  default     = { initial = 20, ceiling = 100 }
}

variable "database_connections_alarm" {
  description = "Connections that are unusual. PostgreSQL takes about 80 for each GiB of memory."
  type        = number
  default     = 40
}

variable "multi_az" {
  description = "A standby of the database in another zone; doubles its price."
  type        = bool
  default     = false
}

variable "backup_retention_days" {
  description = "Days of backups and point-in-time restore."
  type        = number
  default     = 7
}

variable "noncurrent_days" {
  description = "Days that overwritten and deleted objects are kept."
  type        = number
  default     = 90
}

variable "watcher_enabled" {
  description = "Tells a queue of each new CSV object."
  type        = bool
  default     = false
}

variable "rejects_per_hour" {
  description = "Rejected records in an hour that somebody should look at."
  type        = number
  default     = 1000
}

variable "monthly_budget_usd" {
  description = "Monthly budget."
  type        = number
}

variable "budget_by_tag" {
  description = "Counts this environment alone. Only once the tag environment is activated for cost allocation in the billing console: before that it counts nothing."
  type        = bool
  default     = false
}

# --- What somebody does once ---

variable "database_setup_enabled" {
  description = "Makes the role that reads the master secret and that the host may assume. For setup-database.sh; false again afterwards."
  type        = bool
  default     = false
}

variable "password_version" {
  description = "Raise it to make new passwords for the logins of etl-runner and of readers, then run setup-database.sh."
  type        = number
  default     = 1
}

variable "restore_snapshot" {
  description = "Snapshot that a database which does not exist is made from."
  type        = string
  default     = null
}
