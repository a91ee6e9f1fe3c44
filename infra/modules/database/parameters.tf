# What differs from RDS's defaults, and why. All of it is for bulk loads by few connections, or for keeping data out of
# logs. Durability stays as it is: synchronous_commit, fsync and full_page_writes are not touched.

locals {
  parameters = {
    # Encrypted connections or none; logins by SCRAM alone.
    "rds.force_ssl"                     = "1"
    "rds.accepted_password_auth_method" = "scram"

    # Loads write a gigabyte of WAL a minute. With the defaults they force one checkpoint after the other, and each makes
    # every page be logged in full once more. MB and s; a crash then takes up to a quarter of an hour of WAL to recover.
    "max_wal_size"       = "4096"
    "checkpoint_timeout" = "900"

    # Half the WAL for little CPU. lz4, because zstd is what a burstable class pays for with its credits.
    "wal_compression" = "lz4"

    # A table's key is built after its rows: an eighth of the memory for that sort, in kB. Autovacuum has several workers
    # at once and gets a fixed share each instead.
    "maintenance_work_mem" = "{DBInstanceClassMemory/8192}"
    "autovacuum_work_mem"  = "65536"

    # Slow statements and lock waits are worth a line …
    "log_min_duration_statement" = "10000"
    "log_lock_waits"             = "1"

    # … but no whole rows: terse leaves out DETAIL and CONTEXT, which quote them; 0 leaves out bound parameters (of errors
    # they are left out by default). What remains are single values: a message can quote one (invalid input syntax for type
    # integer: "12a"), and a slow or failed statement that somebody types stands there with the literals in it.
    # log_statement stays off: with ddl, "alter role … password" would stand there in clear.
    "log_error_verbosity"      = "terse"
    "log_parameter_max_length" = "0"
  }
}

resource "aws_db_parameter_group" "this" {
  #checkov:skip=CKV2_AWS_30: log_statement would write every statement, and the passwords of alter role, into the log
  # The family is in the name, and the new group is there before the old one goes: a major upgrade needs both.
  name        = "${var.name}-postgres${var.major_version}"
  family      = "postgres${var.major_version}"
  description = "Bulk loads over TLS, terse logs"

  dynamic "parameter" {
    for_each = local.parameters

    content {
      name         = parameter.key
      value        = parameter.value
      apply_method = "immediate" # all of them are dynamic
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}
