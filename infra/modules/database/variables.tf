variable "name" {
  description = "Prefix of every name, such as aqueduct-dev."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the database."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in at least two zones."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids must name subnets in two zones: RDS wants them even for one instance."
  }
}

variable "client_security_group_ids" {
  description = "Security groups that may connect, by a name of the client. There is no way to let an address range in."
  type        = map(string)
}

variable "database_name" {
  description = "Name of the database that tables and the ledger stand in."
  type        = string
  default     = "warehouse"

  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,62}$", var.database_name))
    error_message = "database_name must be lower-case letters, digits and _, beginning with a letter."
  }
}

variable "major_version" {
  description = "Major version of PostgreSQL. Minor versions come by themselves in the maintenance window."
  type        = number
  default     = 18

  validation {
    condition     = var.major_version >= 17
    error_message = "major_version must be 17 or later: older ones are close to or past their end, and cannot be billed as extended support here."
  }
}

variable "instance_class" {
  description = "Instance class. db.t4g.micro has 1 GiB and is enough for a few million rows a day."
  type        = string
  default     = "db.t4g.micro"

  validation {
    condition     = can(regex("^db\\.[a-z][a-z0-9]*\\.[a-z0-9]+$", var.instance_class))
    error_message = "instance_class must look like db.t4g.micro."
  }
}

variable "storage_gb" {
  description = "Storage at the beginning, and the ceiling up to which RDS enlarges it by itself."
  type        = object({ initial = number, ceiling = number })
  default     = { initial = 20, ceiling = 100 }

  validation {
    condition     = var.storage_gb.initial >= 20 && var.storage_gb.ceiling >= var.storage_gb.initial * 1.1
    error_message = "storage_gb.initial must be 20 or more, and the ceiling at least a tenth above it, or RDS refuses to scale."
  }
}

variable "multi_az" {
  description = "A second instance in another zone that takes over. Doubles the price."
  type        = bool
  default     = false
}

variable "backup_retention_days" {
  description = "Days of backups, and of point-in-time restore."
  type        = number
  default     = 7

  validation {
    condition     = var.backup_retention_days >= 7 && var.backup_retention_days <= 35
    error_message = "backup_retention_days must be between 7 and 35."
  }
}

variable "log_retention_days" {
  description = "Days that PostgreSQL's log is kept in CloudWatch."
  type        = number
}

variable "deletion_protection" {
  description = "Refuses to delete the database. Lift it with an apply of its own before a destroy."
  type        = bool
  default     = true
}

variable "disposable" {
  description = "For data nobody misses: no final snapshot, backups deleted with the instance, secrets gone at once, changes without waiting for the window."
  type        = bool
  default     = false
}

variable "restore_snapshot" {
  description = "Snapshot that the instance is made from, once: only read when the instance does not exist."
  type        = string
  default     = null
}

variable "password_version" {
  description = "Raise it to make new passwords for the application's two logins; then run setup-database.sh, which tells PostgreSQL."
  type        = number
  default     = 1

  validation {
    condition     = var.password_version >= 1 && floor(var.password_version) == var.password_version
    error_message = "password_version must be a whole number from 1 on."
  }
}
