variable "name" {
  description = "Prefix of every name, such as aqueduct-dev."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the host."
  type        = string
}

variable "subnet_id" {
  description = "Subnet of the host."
  type        = string
}

variable "public_address" {
  description = "Gives the host a public address: its way out where there is no NAT gateway. It lets nobody in."
  type        = bool
  default     = true
}

variable "instance_type" {
  description = "Instance type; the architecture follows from it. t4g.micro is arm64, t3.micro is x86_64 and about a fifth dearer."
  type        = string
  default     = "t4g.micro"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", var.instance_type))
    error_message = "instance_type must look like t4g.micro."
  }
}

variable "cpu_credits" {
  description = "What a burstable host does without credits: unlimited goes on and is billed for what a day's credits do not pay; standard slows down, at the first boot too, because a new host of these families has none."
  type        = string
  default     = "unlimited"

  validation {
    condition     = contains(["standard", "unlimited"], var.cpu_credits)
    error_message = "cpu_credits must be standard or unlimited."
  }
}

variable "root_volume_gb" {
  description = "Size of the root volume. Logs wait here through an outage of CloudWatch, and Docker's images lie here."
  type        = number
  default     = 16

  validation {
    condition     = var.root_volume_gb >= 12 && var.root_volume_gb <= 500
    error_message = "root_volume_gb must be between 12 and 500."
  }
}

variable "user_data" {
  description = "Script of the first boot, without any secret: whoever may describe instances can read it. A change replaces the host."
  type        = string

  validation {
    condition     = length(var.user_data) <= 16384 && startswith(var.user_data, "#")
    error_message = "user_data must be a script or cloud-config of at most 16 KiB."
  }
  validation {
    condition     = !can(regex("(?i)(aws_secret_access_key|begin [a-z ]*private key|password=[^ $\"'])", var.user_data))
    error_message = "user_data must not hold secrets."
  }
}

variable "ec2_public_key" {
  description = "Public key for SSH as ubuntu; null for none. Session Manager needs neither key nor open port."
  type        = string
  default     = null

  validation {
    condition     = var.ec2_public_key == null || can(regex("^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+", var.ec2_public_key))
    error_message = "ec2_public_key must be one line as in ~/.ssh/id_ed25519.pub: a public key, never a private one."
  }
}

variable "ssh_cidrs" {
  description = "Address ranges that may use SSH. Empty: nobody, and Session Manager is the door."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.ssh_cidrs : can(cidrhost(cidr, 0))])
    error_message = "ssh_cidrs must be address ranges such as 203.0.113.7/32."
  }
  # The ranges of a provider or a continent are as good as the whole internet.
  validation {
    condition     = alltrue([for cidr in var.ssh_cidrs : try(tonumber(split("/", cidr)[1]), 0) >= (strcontains(cidr, ":") ? 32 : 16)])
    error_message = "ssh_cidrs must not be wide: /16 or longer for IPv4, /32 or longer for IPv6. 0.0.0.0/0 and ::/0 are refused."
  }
}

variable "http_cidrs" {
  description = "Address ranges that may use HTTP and HTTPS of what runs in containers. Empty: nobody. 0.0.0.0/0 is a decision, not an accident."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.http_cidrs : can(cidrhost(cidr, 0))])
    error_message = "http_cidrs must be address ranges such as 203.0.113.0/24."
  }
}

variable "database_security_group_id" {
  description = "Security group that the host may reach on PostgreSQL's port."
  type        = string
}

variable "data_bucket" {
  description = "Name of the data bucket; the host reads below incoming/."
  type        = string
}

variable "artifact_bucket" {
  description = "Name of the artifact bucket; the host reads binaries/, pipelines/ and host/."
  type        = string
}

variable "app_secret_arn" {
  description = "Secret of the loading login, the one secret that the host's own role reads."
  type        = string
}

variable "database_setup" {
  description = "Makes the role that setup-database.sh assumes, and the secrets it reads; null takes both away again. Only while somebody sets the database up."
  type = object({
    secret_arns = map(string)
  })
  default = null
}

variable "parameter_path" {
  description = "Path of the environment's parameters, such as /aqueduct/dev."
  type        = string

  validation {
    condition     = can(regex("^/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", var.parameter_path))
    error_message = "parameter_path must look like /aqueduct/dev: the host reads everything below it."
  }
}

variable "log_group_arns" {
  description = "Log groups that the host writes, by a name of their own."
  type        = map(string)
}

variable "queue_arn" {
  description = "Queue of new objects that the host works on; null without the watcher."
  type        = string
  default     = null
}

variable "permissions_boundary_arn" {
  description = "Boundary of the roles made here; null for none."
  type        = string
  default     = null
}
