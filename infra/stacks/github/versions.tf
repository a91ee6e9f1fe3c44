terraform {
  required_version = ">= 1.11"

  # The rest comes at init: bucket, region and key = github/terraform.tfstate (infra/README.md).
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.47"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      project     = var.project
      environment = "account"
      owner       = var.owner
      repository  = "${var.github_owner}/${var.github_repository}"
      commit      = var.commit
      managed-by  = "terraform"
      ttl         = "none"
    }
  }
}
