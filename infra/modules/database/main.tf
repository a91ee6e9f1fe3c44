# PostgreSQL on RDS, reachable from the named security groups alone.

locals {
  port = 5432
}

resource "aws_db_subnet_group" "this" {
  name        = var.name
  description = "Private subnets of ${var.name}"
  subnet_ids  = var.subnet_ids
}

# No rule for egress: the database answers, it does not call.
resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "PostgreSQL of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-database" }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = var.client_security_group_ids

  security_group_id            = aws_security_group.this.id
  description                  = "PostgreSQL from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  referenced_security_group_id = each.value
}

# RDS would make these groups itself, and keep events for ever.
resource "aws_cloudwatch_log_group" "database" {
  #checkov:skip=CKV_AWS_158: encrypted by CloudWatch Logs' own key; the parameter group keeps rows and parameters out of the log, see parameters.tf for what remains
  #checkov:skip=CKV_AWS_338: retention is the environment's decision, a year in prod
  for_each = toset(["postgresql", "upgrade"])

  name              = "/aws/rds/instance/${var.name}/${each.key}"
  retention_in_days = var.log_retention_days
}

# Changes when the database is made anew, so that the name of its final snapshot is never taken by an earlier one's.
resource "terraform_data" "generation" {}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_118: Performance Insights and the alarms cover one instance; enhanced monitoring adds a role and log costs
  #checkov:skip=CKV_AWS_157: multi_az is the environment's decision, on in prod
  #checkov:skip=CKV_AWS_161: logins come from Secrets Manager; IAM logins would be a second door
  #checkov:skip=CKV_AWS_293: deletion_protection is on by default and lifted by a separate apply before a destroy
  #checkov:skip=CKV_AWS_354: Performance Insights under AWS's own key; it shows statements, and those of loads carry no values
  #checkov:skip=CKV2_AWS_69: rds.force_ssl is set in parameters.tf, in a dynamic block that checkov does not read; a test does
  identifier = var.name

  engine                      = "postgres"
  engine_version              = tostring(var.major_version)
  engine_lifecycle_support    = "open-source-rds-extended-support-disabled" # else a forgotten major costs ten times the instance
  auto_minor_version_upgrade  = true
  allow_major_version_upgrade = false
  instance_class              = var.instance_class
  parameter_group_name        = aws_db_parameter_group.this.name
  ca_cert_identifier          = "rds-ca-rsa2048-g1" # one of the roots that etl-runner carries

  db_name                     = var.database_name
  username                    = "aqueduct_admin"
  manage_master_user_password = true # made, kept and rotated by RDS; never in a state, a plan or a workflow
  port                        = local.port

  storage_type          = "gp3"
  storage_encrypted     = true
  allocated_storage     = var.storage_gb.initial
  max_allocated_storage = var.storage_gb.ceiling

  multi_az               = var.multi_az
  publicly_accessible    = false
  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.this.id]

  backup_retention_period  = var.backup_retention_days
  backup_window            = "02:00-03:00"
  maintenance_window       = "sun:03:30-sun:04:30" # UTC, after the backup
  copy_tags_to_snapshot    = true
  delete_automated_backups = var.disposable
  apply_immediately        = var.disposable # elsewhere a change that restarts waits for the window

  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = var.disposable
  final_snapshot_identifier = var.disposable ? null : "${var.name}-final-${substr(terraform_data.generation.id, 0, 8)}"
  snapshot_identifier       = var.restore_snapshot

  performance_insights_enabled          = true
  performance_insights_retention_period = 7 # the days that are free
  enabled_cloudwatch_logs_exports       = ["postgresql", "upgrade"]

  lifecycle {
    # A snapshot is restored once, when the instance is made; naming or forgetting it later must not replace the database.
    ignore_changes = [snapshot_identifier]
  }

  depends_on = [aws_cloudwatch_log_group.database]
}
