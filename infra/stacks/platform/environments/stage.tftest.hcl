# What environments/stage.tfvars makes; run as for dev.
mock_provider "aws" {
  source          = "../../testing/aws"
  override_during = plan
}

variables {
  region      = "eu-central-1"
  owner       = "acme"
  alert_email = "data-team@example.com"
}

run "stage" {
  command = plan

  assert {
    condition     = output.data_bucket == "acme-hadrian-ml-data-bucket-stage"
    error_message = "The bucket's name does not collide with dev's."
  }
  assert {
    condition     = !output.safeguards.storage.force_destroy && output.safeguards.database.deletion_protection && output.safeguards.database.final_snapshot
    error_message = "Protected like prod."
  }
  assert {
    condition     = output.safeguards.network.flow_log_days == 30 && !output.safeguards.database.multi_az
    error_message = "Traffic is kept; one zone is enough."
  }
  assert {
    condition     = length(output.safeguards.host.ssh_from) == 0 && length(output.safeguards.host.http_from) == 0 && output.safeguards.database.encrypted && !output.safeguards.database.publicly_accessible
    error_message = "Closed and encrypted."
  }
}
