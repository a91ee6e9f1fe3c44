variable "name" {
  description = "Prefix of every name, such as aqueduct-dev."
  type        = string
}

variable "data_bucket_name" {
  description = "Name of the bucket that files are uploaded to. Bucket names are unique in the whole world."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.data_bucket_name))
    error_message = "data_bucket_name must have 3 to 63 lower-case letters, digits and hyphens, without dots (TLS certificates do not cover them)."
  }
}

variable "artifact_bucket_name" {
  description = "Name of the bucket of binaries, pipelines and the host's files."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.artifact_bucket_name))
    error_message = "artifact_bucket_name must have 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "force_destroy" {
  description = "Lets terraform destroy delete buckets with objects in them. For environments whose data nobody misses."
  type        = bool
  default     = false
}

variable "noncurrent_days" {
  description = "Days that overwritten and deleted object versions are kept: how long a wrong upload can be taken back."
  type        = number
  default     = 90

  validation {
    condition     = var.noncurrent_days >= 7 && var.noncurrent_days <= 3650
    error_message = "noncurrent_days must be between 7 and 3650."
  }
}

variable "watcher_enabled" {
  description = "Tells a queue of each new CSV object. Off: the host looks every minute by itself."
  type        = bool
  default     = false
}
