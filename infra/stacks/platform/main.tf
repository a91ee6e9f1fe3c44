# One environment of the platform. Which one, is said by environments/ENVIRONMENT.tfvars and by the key of its state.

data "aws_caller_identity" "current" {}

locals {
  name = "${var.project}-${var.environment}"
  path = "/${var.project}/${var.environment}"

  # Data of dev is nobody's loss: there destroy leaves nothing and asks for nothing. Not a variable, so that no other
  # environment can be made careless by a line in a file.
  disposable = var.environment == "dev"

  data_bucket_name = var.data_bucket_name != null ? var.data_bucket_name : join("-", compact([
    var.owner, "hadrian-ml-data-bucket", local.disposable ? "" : var.environment,
  ]))
}

module "network" {
  source = "../../modules/network"

  name                     = local.name
  cidr                     = var.vpc_cidr
  nat_gateway              = var.nat_gateway
  log_group_prefix         = local.path
  flow_log_retention_days  = var.flow_logs ? var.log_retention_days : null
  permissions_boundary_arn = var.permissions_boundary_arn
}

module "storage" {
  source = "../../modules/storage"

  name                 = local.name
  data_bucket_name     = local.data_bucket_name
  artifact_bucket_name = "${local.name}-artifacts-${data.aws_caller_identity.current.account_id}"
  force_destroy        = local.disposable
  noncurrent_days      = var.noncurrent_days
  watcher_enabled      = var.watcher_enabled
}

module "database" {
  source = "../../modules/database"

  name                      = local.name
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.private_subnet_ids
  client_security_group_ids = { host = module.compute.security_group_id }
  instance_class            = var.database_class
  storage_gb                = var.database_storage_gb
  multi_az                  = var.multi_az
  backup_retention_days     = var.backup_retention_days
  log_retention_days        = var.log_retention_days
  deletion_protection       = var.protected
  disposable                = local.disposable
  password_version          = var.password_version
  restore_snapshot          = var.restore_snapshot
}

module "compute" {
  source = "../../modules/compute"

  name                       = local.name
  vpc_id                     = module.network.vpc_id
  subnet_id                  = var.nat_gateway ? module.network.private_subnet_ids[0] : module.network.public_subnet_ids[0]
  public_address             = !var.nat_gateway
  instance_type              = var.instance_type
  cpu_credits                = var.cpu_credits
  root_volume_gb             = var.root_volume_gb
  ec2_public_key             = var.ec2_public_key
  ssh_cidrs                  = var.ssh_cidrs
  http_cidrs                 = var.http_cidrs
  user_data                  = local.user_data
  database_security_group_id = module.database.security_group_id
  data_bucket                = module.storage.data_bucket
  artifact_bucket            = module.storage.artifact_bucket
  app_secret_arn             = module.database.app_secret_arn
  parameter_path             = local.path
  log_group_arns             = module.observability.log_group_arns
  queue_arn                  = one(module.storage.queue[*].arn)
  permissions_boundary_arn   = var.permissions_boundary_arn

  database_setup = var.database_setup_enabled ? {
    secret_arns = {
      master = module.database.master_secret_arn
      app    = module.database.app_secret_arn
      read   = module.database.read_secret_arn
    }
  } : null
}

module "observability" {
  source = "../../modules/observability"

  name             = local.name
  log_group_prefix = local.path
  retention_days   = var.log_retention_days
  alert_email      = var.alert_email
  rejects_per_hour = var.rejects_per_hour
  queue            = module.storage.queue

  host = {
    instance_id = module.compute.instance_id
    burstable   = module.compute.burstable
    unlimited   = var.cpu_credits == "unlimited"
  }
  database = {
    identifier  = module.database.identifier
    storage_gb  = var.database_storage_gb.initial
    burstable   = startswith(var.database_class, "db.t")
    connections = var.database_connections_alarm
  }
  budget = {
    usd = var.monthly_budget_usd
    tag = var.budget_by_tag ? { key = "environment", value = var.environment } : null
  }
}
