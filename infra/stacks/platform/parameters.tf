# What workflows and the host have to know, without access to the state: names and ARNs, no secret.

locals {
  before_boot = {
    "region"                 = var.region
    "data-bucket"            = module.storage.data_bucket
    "artifact-bucket"        = module.storage.artifact_bucket
    "database/host"          = module.database.host
    "database/port"          = tostring(module.database.port)
    "database/name"          = module.database.database_name
    "database/master-secret" = module.database.master_secret_arn
    "database/app-secret"    = module.database.app_secret_arn
    "database/read-secret"   = module.database.read_secret_arn
  }

  after_boot = merge(
    {
      "host/instance-id"    = module.compute.instance_id
      "alerts-topic"        = module.observability.alerts_topic_arn
      "dashboard-url"       = module.observability.dashboard_url
      "database/setup-role" = var.database_setup_enabled ? module.compute.database_setup_role_arn : "none"
    },
    var.watcher_enabled ? { "queue-url" = module.storage.queue.url } : {},
  )
}

resource "aws_ssm_parameter" "before_boot" {
  #checkov:skip=CKV2_AWS_34: names and ARNs, which are to be read in plans; secrets are in Secrets Manager
  for_each = local.before_boot

  name           = "${local.path}/${each.key}"
  type           = "String"
  insecure_value = each.value
}

resource "aws_ssm_parameter" "after_boot" {
  #checkov:skip=CKV2_AWS_34: names and ARNs, which are to be read in plans; secrets are in Secrets Manager
  for_each = local.after_boot

  name           = "${local.path}/${each.key}"
  type           = "String"
  insecure_value = each.value
}

# Written by deploys and by the host itself; Terraform only makes sure that they exist.
resource "aws_ssm_parameter" "written_by_others" {
  #checkov:skip=CKV2_AWS_34: release ids and a ready signal
  for_each = toset(["release/binaries", "release/pipelines", "host/ready"])

  name           = "${local.path}/${each.key}"
  type           = "String"
  insecure_value = "none"

  lifecycle {
    ignore_changes = [value, insecure_value]
  }
}
