variable "name" {
  description = "Prefix of every name, such as aqueduct-dev."
  type        = string
}

variable "cidr" {
  description = "Address range of the VPC. A /16 leaves room for the four /24 subnets and for peering plans."
  type        = string
  default     = "10.20.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]), 0) >= 16 && try(tonumber(split("/", var.cidr)[1]), 32) <= 20
    error_message = "cidr must be an IPv4 range of /16 to /20, such as 10.20.0.0/16."
  }
}

variable "nat_gateway" {
  description = "Gives the private subnets a way out. About 33 USD a month and 0.045 USD a GB, more than the rest of a small environment together."
  type        = bool
  default     = false
}

variable "flow_log_retention_days" {
  description = "Days that flow logs are kept; null keeps none and makes no log group."
  type        = number
  default     = null

  validation {
    condition     = var.flow_log_retention_days == null || contains([7, 14, 30, 90, 180, 365], coalesce(var.flow_log_retention_days, 7))
    error_message = "flow_log_retention_days must be null or one of 7, 14, 30, 90, 180, 365."
  }
}

variable "log_group_prefix" {
  description = "What the flow logs' group begins with, such as /aqueduct/prod."
  type        = string
}

variable "permissions_boundary_arn" {
  description = "Boundary of the flow logs' role; null for none."
  type        = string
  default     = null
}
