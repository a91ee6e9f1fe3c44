terraform {
  required_version = ">= 1.11" # native lock file, write-only arguments

  # The rest comes at init: bucket, region and key = platform/ENVIRONMENT.tfstate (infra/README.md).
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.47"
    }
    archive = {
      source  = "hashicorp/archive"
      version = "~> 2.7" # tar.gz
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      project     = var.project
      environment = var.environment
      owner       = var.owner
      repository  = var.repository
      commit      = var.commit
      managed-by  = "terraform"
      ttl         = var.ttl
    }
  }
}
