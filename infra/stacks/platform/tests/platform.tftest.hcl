# What holds in every environment.
mock_provider "aws" {
  source          = "../../testing/aws"
  override_during = plan
}

variables {
  environment        = "stage"
  region             = "eu-central-1"
  owner              = "acme"
  vpc_cidr           = "10.21.0.0/16"
  flow_logs          = true
  log_retention_days = 30
  monthly_budget_usd = 50
}

run "parameters" {
  command = plan

  assert {
    condition = toset(concat([for p in aws_ssm_parameter.before_boot : p.name], [for p in aws_ssm_parameter.after_boot : p.name], [for p in aws_ssm_parameter.written_by_others : p.name])) == toset([
      for name in [
        "region", "data-bucket", "artifact-bucket", "database/host", "database/port", "database/name", "database/master-secret",
        "database/app-secret", "database/read-secret", "database/setup-role", "host/instance-id", "host/ready", "alerts-topic", "dashboard-url",
        "release/binaries", "release/pipelines",
    ] : "/aqueduct/stage/${name}"])
    error_message = "Workflows and host find what they were promised, and nothing else."
  }
  assert {
    condition     = alltrue([for p in aws_ssm_parameter.written_by_others : p.insecure_value == "none"])
    error_message = "What others write begins with none."
  }
  assert {
    condition     = alltrue([for p in merge(aws_ssm_parameter.before_boot, aws_ssm_parameter.after_boot) : p.type == "String" && !can(regex("(?i)password", p.insecure_value))])
    error_message = "Parameters hold names, no secrets."
  }
  assert {
    condition     = aws_ssm_parameter.after_boot["database/setup-role"].insecure_value == "none" && !output.safeguards.host.database_setup
    error_message = "Nobody can read the master secret unless the database is being set up."
  }
}

run "host_archive" {
  command = plan

  assert {
    condition     = aws_s3_object.host.key == "host/${data.archive_file.host.output_sha256}.tar.gz" && can(regex("^[0-9a-f]{64}$", data.archive_file.host.output_sha256))
    error_message = "The archive is named by its digest."
  }
  assert {
    condition     = alltrue([for file in ["install.sh", "deploy.sh", "log-shipper.toml"] : contains([for s in data.archive_file.host.source : s.filename], file)])
    error_message = "The host's files are in it."
  }
  assert {
    condition     = length([for s in data.archive_file.host.source : s.filename if can(regex("^tests/|\\.md$|\\.tftpl$|__pycache__", s.filename))]) == 0
    error_message = "Tests and templates are not."
  }
  assert {
    condition     = data.archive_file.host.output_file_mode == "0755"
    error_message = "The digest does not depend on anybody's umask."
  }
  assert {
    condition     = strcontains(local.user_data, aws_s3_object.host.key) && strcontains(local.user_data, "/aqueduct/stage") && length(local.user_data) < 8192
    error_message = "The first boot knows its archive and its parameters, and is short."
  }
}

run "database_setup" {
  command = plan

  variables { database_setup_enabled = true }

  assert {
    condition     = startswith(aws_ssm_parameter.after_boot["database/setup-role"].insecure_value, "arn:aws:iam::") && output.safeguards.host.database_setup
    error_message = "setup-database.sh finds the role to assume."
  }
}

run "watcher" {
  command = plan

  variables { watcher_enabled = true }

  assert {
    condition     = startswith(aws_ssm_parameter.after_boot["queue-url"].insecure_value, "https://sqs.")
    error_message = "The host finds the queue."
  }
}

run "behind_a_nat_gateway" {
  command = plan

  variables { nat_gateway = true }

  assert {
    condition     = output.safeguards.network.nat_gateway && !output.safeguards.host.public_address
    error_message = "With a NAT gateway the host has no public address."
  }
}

run "disposable_by_name_alone" {
  command = plan

  variables { protected = false }

  assert {
    condition     = !output.safeguards.storage.force_destroy && output.safeguards.database.final_snapshot
    error_message = "No setting makes stage or prod lose its data with a destroy."
  }
}

run "opened_by_decision" {
  command = plan

  variables {
    ssh_cidrs  = ["203.0.113.7/32"]
    http_cidrs = ["198.51.100.0/24"]
  }

  assert {
    condition     = output.safeguards.host.ssh_from == tolist(["203.0.113.7/32"]) && output.safeguards.host.http_from == tolist(["198.51.100.0/24"])
    error_message = "Who is let in is who was named."
  }
}

run "refuses_an_unknown_environment" {
  command = plan

  variables { environment = "test" }

  expect_failures = [var.environment]
}

run "refuses_an_owner_that_is_no_name" {
  command = plan

  variables { owner = "ACME Corp." }

  expect_failures = [var.owner]
}

run "refuses_a_day_that_is_none" {
  command = plan

  variables { ttl = "soon" }

  expect_failures = [var.ttl]
}
