variable "name" {
  description = "Prefix of every name, such as aqueduct-dev."
  type        = string
}

variable "log_group_prefix" {
  description = "What log groups begin with, such as /aqueduct/dev."
  type        = string
}

variable "retention_days" {
  description = "Days CloudWatch Logs keeps events. No default: forgetting it means paying for every event forever."
  type        = number

  validation {
    condition     = contains([7, 14, 30, 90, 180, 365], var.retention_days)
    error_message = "retention_days must be one of 7, 14, 30, 90, 180, 365."
  }
}

variable "alert_email" {
  description = "Address that alarms and the budget write to; null for none. AWS sends a mail to confirm first."
  type        = string
  default     = null

  validation {
    condition     = var.alert_email == null || can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", var.alert_email))
    error_message = "alert_email must be a mail address."
  }
}

variable "host" {
  description = "The host that is watched, whether it lives on CPU credits, and whether it goes on without them and is billed."
  type        = object({ instance_id = string, burstable = bool, unlimited = optional(bool, true) })
}

variable "database" {
  description = "The database that is watched: identifier, storage in GB, and the number of connections that is unusual for its class."
  type        = object({ identifier = string, storage_gb = number, burstable = bool, connections = number })
}

variable "rejects_per_hour" {
  description = "Rejected records in an hour that somebody should look at."
  type        = number
  default     = 1000
}

variable "queue" {
  description = "Names of the queue of new objects and of its dead letters; null without the watcher."
  type        = object({ name = string, dead_name = string })
  default     = null
}

variable "budget" {
  description = "Monthly limit in USD, and the cost allocation tag (key and value) it counts; without a tag it counts the whole account."
  type        = object({ usd = number, tag = optional(object({ key = string, value = string })) })

  validation {
    condition     = var.budget.usd > 0
    error_message = "budget.usd must be above 0."
  }
}
