mock_provider "aws" {
  source          = "../../testing/aws"
  override_during = plan
}

# What is known at plan time cannot be applied; one run needs an apply.
mock_provider "aws" {
  alias  = "applied"
  source = "../../testing/aws"
}

variables {
  name                      = "aqueduct-prod"
  vpc_id                    = "vpc-0123456789abcdef0"
  subnet_ids                = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  client_security_group_ids = { host = "sg-0fedcba9876543210" }
  log_retention_days        = 365
}

run "private_and_encrypted" {
  command = plan

  assert {
    condition     = aws_db_instance.this.publicly_accessible == false
    error_message = "The database has no public address."
  }
  assert {
    condition     = aws_db_instance.this.storage_encrypted
    error_message = "Storage is encrypted."
  }
  assert {
    condition = alltrue([for rule in aws_vpc_security_group_ingress_rule.clients :
    rule.referenced_security_group_id != null && rule.cidr_ipv4 == null && rule.cidr_ipv6 == null && rule.from_port == 5432 && rule.to_port == 5432])
    error_message = "Only security groups are let in, and only to PostgreSQL."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.clients) == 1 && aws_vpc_security_group_ingress_rule.clients["host"].referenced_security_group_id == "sg-0fedcba9876543210"
    error_message = "The host is the one client."
  }
  assert {
    condition     = tolist(aws_db_instance.this.vpc_security_group_ids) == tolist([aws_security_group.this.id])
    error_message = "The database has its own security group and no other."
  }
}

run "passwords_are_nowhere" {
  command = plan

  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    error_message = "RDS makes the master's password."
  }
  assert {
    condition     = alltrue([for v in aws_secretsmanager_secret_version.login : v.secret_string == null && v.secret_string_wo == null && v.secret_string_wo_version == 1])
    error_message = "The passwords of the logins are write-only."
  }
  assert {
    condition     = alltrue([for s in aws_secretsmanager_secret.login : s.recovery_window_in_days == 30])
    error_message = "A deleted secret can be brought back for 30 days."
  }
}

run "supported_and_kept" {
  command = plan

  assert {
    condition     = aws_db_instance.this.engine_version == "18" && aws_db_instance.this.engine_lifecycle_support == "open-source-rds-extended-support-disabled"
    error_message = "A supported major, and no paid life after it."
  }
  assert {
    condition     = aws_db_instance.this.auto_minor_version_upgrade && !aws_db_instance.this.allow_major_version_upgrade
    error_message = "Minor upgrades by themselves, major ones by decision."
  }
  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && !aws_db_instance.this.delete_automated_backups
    error_message = "Protected, with a final snapshot, and backups outlive the instance."
  }
  assert {
    condition     = aws_db_instance.this.backup_retention_period >= 7 && aws_db_instance.this.copy_tags_to_snapshot
    error_message = "A week of backups."
  }
  assert {
    condition     = aws_db_instance.this.max_allocated_storage > aws_db_instance.this.allocated_storage && aws_db_instance.this.storage_type == "gp3"
    error_message = "Storage grows by itself up to a ceiling."
  }
  assert {
    condition     = aws_db_instance.this.performance_insights_enabled && aws_db_instance.this.enabled_cloudwatch_logs_exports == toset(["postgresql", "upgrade"])
    error_message = "Performance Insights and the logs are on."
  }
  assert {
    condition     = alltrue([for g in aws_cloudwatch_log_group.database : g.retention_in_days == 365]) && aws_cloudwatch_log_group.database["postgresql"].name == "/aws/rds/instance/aqueduct-prod/postgresql"
    error_message = "The groups RDS writes to exist before it and have a retention."
  }
  assert {
    condition     = !aws_db_instance.this.apply_immediately
    error_message = "Changes wait for the window."
  }
}

run "parameters" {
  command = plan

  assert {
    condition     = aws_db_parameter_group.this.family == "postgres18"
    error_message = "The family follows the major version."
  }
  assert {
    condition     = { for p in aws_db_parameter_group.this.parameter : p.name => p.value }["rds.force_ssl"] == "1"
    error_message = "Connections without TLS are refused."
  }
  assert {
    condition     = { for p in aws_db_parameter_group.this.parameter : p.name => p.value }["rds.accepted_password_auth_method"] == "scram"
    error_message = "No MD5 passwords."
  }
  assert {
    condition = alltrue([for name, value in { log_error_verbosity = "terse", log_parameter_max_length = "0" } :
    { for p in aws_db_parameter_group.this.parameter : p.name => p.value }[name] == value])
    error_message = "No value of a cell reaches PostgreSQL's log."
  }
  assert {
    condition     = !contains([for p in aws_db_parameter_group.this.parameter : p.name], "log_statement")
    error_message = "Statements that set a password are not logged."
  }
  assert {
    condition     = length(setintersection([for p in aws_db_parameter_group.this.parameter : p.name], ["synchronous_commit", "fsync", "full_page_writes"])) == 0
    error_message = "Speed is not bought with durability."
  }
}

run "disposable" {
  command = plan

  variables {
    disposable          = true
    deletion_protection = false
    password_version    = 2
  }

  assert {
    condition     = aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.final_snapshot_identifier == null && aws_db_instance.this.delete_automated_backups && aws_db_instance.this.apply_immediately
    error_message = "Nothing is left of it."
  }
  assert {
    condition     = alltrue([for s in aws_secretsmanager_secret.login : s.recovery_window_in_days == 0])
    error_message = "Its secrets are gone at once, so that a second create finds the way free."
  }
  assert {
    condition     = alltrue([for v in aws_secretsmanager_secret_version.login : v.secret_string_wo_version == 2])
    error_message = "A raised number writes new passwords."
  }
  assert {
    condition     = aws_db_instance.this.storage_encrypted && !aws_db_instance.this.publicly_accessible
    error_message = "Disposable is not careless."
  }
}

# The name of the final snapshot is known once something was made; an apply costs nothing here.
run "final_snapshot_is_unique" {
  command = apply

  providers = { aws = aws.applied }

  assert {
    condition     = can(regex("^aqueduct-prod-final-[0-9a-f]{8}$", aws_db_instance.this.final_snapshot_identifier))
    error_message = "The final snapshot's name ends in a part of its own."
  }
}

run "refuses_an_old_major" {
  command = plan

  variables { major_version = 13 }

  expect_failures = [var.major_version]
}

run "refuses_one_zone" {
  command = plan

  variables { subnet_ids = ["subnet-0123456789abcdef0"] }

  expect_failures = [var.subnet_ids]
}

run "refuses_short_backups" {
  command = plan

  variables { backup_retention_days = 0 }

  expect_failures = [var.backup_retention_days]
}

run "refuses_a_ceiling_without_room" {
  command = plan

  variables { storage_gb = { initial = 100, ceiling = 100 } }

  expect_failures = [var.storage_gb]
}
