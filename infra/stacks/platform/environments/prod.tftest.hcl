# What environments/prod.tfvars makes; run as for dev.
mock_provider "aws" {
  source          = "../../testing/aws"
  override_during = plan
}

variables {
  region      = "eu-central-1"
  owner       = "acme"
  alert_email = "data-team@example.com"
}

run "prod" {
  command = plan

  assert {
    condition     = output.data_bucket == "acme-hadrian-ml-data-bucket-prod"
    error_message = "The bucket's name does not collide with dev's."
  }
  assert {
    condition     = !output.safeguards.storage.force_destroy && output.safeguards.storage.versions_kept_days >= 90
    error_message = "Objects are never deleted with the bucket, and can be brought back for three months."
  }
  assert {
    condition     = output.safeguards.database.deletion_protection && output.safeguards.database.final_snapshot && output.safeguards.database.multi_az && output.safeguards.database.backup_days == 30
    error_message = "The database is protected, doubled and kept."
  }
  assert {
    condition     = output.safeguards.network.flow_log_days == 365
    error_message = "Traffic is kept for a year."
  }
  assert {
    condition     = length(output.safeguards.host.ssh_from) == 0 && length(output.safeguards.host.http_from) == 0 && output.safeguards.database.encrypted && !output.safeguards.database.publicly_accessible
    error_message = "Closed and encrypted."
  }
}

run "lifted_for_a_teardown" {
  command = plan

  variables { protected = false }

  assert {
    condition     = !output.safeguards.database.deletion_protection && output.safeguards.database.final_snapshot && !output.safeguards.storage.force_destroy
    error_message = "Lifting the protection keeps the final snapshot, and the objects."
  }
}

run "refuses_alarms_that_nobody_hears" {
  command = plan

  variables { alert_email = null }

  expect_failures = [var.alert_email]
}
