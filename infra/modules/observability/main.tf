data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

# --- Logs: made here with their retention, before log-shipper would have to ---

locals {
  log_groups = toset(["etl-runner", "host"])
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158: encrypted by CloudWatch Logs' own key; the programs keep secrets and records out of their lines; a reason can quote one value
  #checkov:skip=CKV_AWS_338: retention is the environment's decision, a year in prod
  for_each = local.log_groups

  name              = "${var.log_group_prefix}/${each.key}"
  retention_in_days = var.retention_days
}

# --- Who is told ---

resource "aws_sns_topic" "alerts" {
  #checkov:skip=CKV_AWS_26: CloudWatch cannot publish to a topic under AWS's own key; alarms carry names and numbers, no data
  name = "${var.name}-alerts"
}

resource "aws_sns_topic_policy" "alerts" {
  arn = aws_sns_topic.alerts.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AlarmsOfThisAccount"
      Effect    = "Allow"
      Principal = { Service = "cloudwatch.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alerts.arn
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_sns_topic_subscription" "email" {
  count = var.alert_email == null ? 0 : 1

  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = var.alert_email
}

# --- The invoice ---

resource "aws_budgets_budget" "this" {
  name         = var.name
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.budget.usd)
  limit_unit   = "USD"

  dynamic "cost_filter" {
    for_each = var.budget.tag == null ? [] : [var.budget.tag]

    content {
      name   = "TagKeyValue"
      values = [format("user:%s$%s", cost_filter.value.key, cost_filter.value.value)]
    }
  }

  # A budget tells nobody without an address: the topic would need a second policy, and a mail is what it comes to.
  dynamic "notification" {
    for_each = var.alert_email == null ? {} : { ACTUAL = 80, FORECASTED = 100 }

    content {
      notification_type          = notification.key
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      comparison_operator        = "GREATER_THAN"
      subscriber_email_addresses = [var.alert_email]
    }
  }
}
