# What environments/dev.tfvars makes: terraform test -test-directory=environments -filter=environments/dev.tftest.hcl -var-file=environments/dev.tfvars
mock_provider "aws" {
  source          = "../../testing/aws"
  override_during = plan
}

variables {
  region      = "eu-central-1"
  owner       = "acme"
  alert_email = "data-team@example.com"
}

run "dev" {
  command = plan

  assert {
    condition     = output.data_bucket == "acme-hadrian-ml-data-bucket" && output.artifact_bucket == "aqueduct-dev-artifacts-123456789012"
    error_message = "Buckets are called after their rules."
  }
  assert {
    condition     = output.safeguards.storage.force_destroy && !output.safeguards.database.deletion_protection && !output.safeguards.database.final_snapshot
    error_message = "Destroying dev asks for nothing and leaves nothing."
  }
  assert {
    condition     = output.safeguards.network.flow_log_days == null && !output.safeguards.network.nat_gateway && !output.safeguards.database.multi_az
    error_message = "Nothing that costs more than the rest."
  }
  assert {
    condition     = output.safeguards.database.encrypted && !output.safeguards.database.publicly_accessible && output.safeguards.database.backup_days >= 7
    error_message = "Disposable is not careless."
  }
  assert {
    condition     = length(output.safeguards.host.ssh_from) == 0 && length(output.safeguards.host.http_from) == 0 && !output.safeguards.host.database_setup
    error_message = "Nobody is let in."
  }
  assert {
    condition     = output.architecture == "arm64"
    error_message = "The cheaper architecture."
  }
}

run "dev_on_x86" {
  command = plan

  variables { instance_type = "t3.micro" }

  assert {
    condition     = output.architecture == "amd64"
    error_message = "One variable switches."
  }
}
