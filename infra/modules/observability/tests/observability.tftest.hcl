mock_provider "aws" {
  source          = "../../testing/aws"
  override_during = plan
}

variables {
  name             = "aqueduct-dev"
  log_group_prefix = "/aqueduct/dev"
  retention_days   = 14
  alert_email      = "data-team@example.com"
  host             = { instance_id = "i-0123456789abcdef0", burstable = true }
  database         = { identifier = "aqueduct-dev", storage_gb = 20, burstable = true, connections = 40 }
  budget           = { usd = 40 }
}

run "minimal" {
  command = plan

  assert {
    condition     = toset([for g in aws_cloudwatch_log_group.this : g.name]) == toset(["/aqueduct/dev/etl-runner", "/aqueduct/dev/host"]) && alltrue([for g in aws_cloudwatch_log_group.this : g.retention_in_days == 14])
    error_message = "Two groups, with a retention."
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) + 1 <= 10
    error_message = "Ten alarms are free."
  }
  assert {
    condition     = alltrue([for a in aws_cloudwatch_metric_alarm.this : contains(["missing", "ignore", "breaching", "notBreaching"], a.treat_missing_data) && a.alarm_description != ""])
    error_message = "Each alarm says what silence means, and what to do."
  }
  assert {
    condition     = alltrue([for a in aws_cloudwatch_metric_alarm.this : a.alarm_actions == toset([aws_sns_topic.alerts.arn])]) && aws_cloudwatch_metric_alarm.disk.alarm_actions == toset([aws_sns_topic.alerts.arn])
    error_message = "Each alarm tells somebody."
  }
  assert {
    condition     = alltrue([for name in ["host-status", "database-storage"] : aws_cloudwatch_metric_alarm.this[name].treat_missing_data == "breaching"])
    error_message = "Silence of host and database is an alarm."
  }
  # Breaching would make every new environment red before its first release.
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["host-memory"].treat_missing_data == "missing" && [for name, a in aws_cloudwatch_metric_alarm.this : name if length(a.insufficient_data_actions) > 0] == ["host-memory"]
    error_message = "Silence of log-shipper is told when it begins."
  }
  assert {
    condition     = alltrue([for name in ["load-failed", "rejects", "runs-failed"] : aws_cloudwatch_metric_alarm.this[name].treat_missing_data == "notBreaching"])
    error_message = "Silence of loads is none."
  }
  assert {
    condition     = alltrue([for name in ["host-cpu-credits", "database-cpu-credits", "database-connections"] : contains(keys(aws_cloudwatch_metric_alarm.this), name)])
    error_message = "Credits and connections are watched."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["database-storage"].threshold == 1717986918 && aws_cloudwatch_metric_alarm.this["database-storage"].period * aws_cloudwatch_metric_alarm.this["database-storage"].evaluation_periods > 900
    error_message = "8 % of 20 GB, below what RDS begins to grow at, and for longer than it takes to begin."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["host-cpu-credits"].metric_name == "CPUSurplusCreditsCharged" && aws_cloudwatch_metric_alarm.this["host-cpu-credits"].threshold == 0
    error_message = "A host that goes on without credits is alarmed on when that is billed."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["database-cpu-credits"].period * aws_cloudwatch_metric_alarm.this["database-cpu-credits"].evaluation_periods >= 7200 && aws_cloudwatch_metric_alarm.this["database-cpu-credits"].statistic == "Maximum"
    error_message = "A new database has no credits yet: they have to be low for hours."
  }
  # An alarm on a metric that nobody emits never rings.
  assert {
    condition     = alltrue([for a in aws_cloudwatch_metric_alarm.this : a.namespace != "Aqueduct/aqueduct-dev" || contains(keys(aws_cloudwatch_log_metric_filter.this), a.metric_name)])
    error_message = "Each metric of loads that is alarmed on has its filter."
  }
  assert {
    condition     = aws_cloudwatch_log_metric_filter.this["LoadsFailed"].pattern == "{ ($.LoadFailed = 1) && (($.MayPass NOT EXISTS) || ($.MayPass != 1)) }" && aws_cloudwatch_log_metric_filter.this["RecordsRejected"].metric_transformation[0].value == "$.Rejected"
    error_message = "The filters read the fields of etl-runner's lines."
  }
  assert {
    condition     = aws_sns_topic_subscription.email[0].endpoint == "data-team@example.com" && aws_sns_topic_subscription.email[0].protocol == "email"
    error_message = "The topic has a reader."
  }
  assert {
    condition     = jsondecode(aws_sns_topic_policy.alerts.policy).Statement[0].Principal == { Service = "cloudwatch.amazonaws.com" } && jsondecode(aws_sns_topic_policy.alerts.policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"
    error_message = "Alarms of this account alone publish."
  }
}

run "budget" {
  command = plan

  assert {
    condition     = toset([for n in aws_budgets_budget.this.notification : n.notification_type]) == toset(["ACTUAL", "FORECASTED"]) && aws_budgets_budget.this.limit_amount == "40"
    error_message = "The budget writes before the limit, and when the month will go beyond it."
  }
  assert {
    condition     = length(aws_budgets_budget.this.cost_filter) == 0
    error_message = "Without a tag the whole account counts: a filter on a tag that is not activated counts nothing."
  }
}

run "budget_by_tag" {
  command = plan

  variables { budget = { usd = 100, tag = { key = "environment", value = "prod" } } }

  assert {
    condition     = one(aws_budgets_budget.this.cost_filter).values == tolist(["user:environment$prod"])
    error_message = "The environment's costs alone."
  }
}

run "without_a_reader" {
  command = plan

  variables { alert_email = null }

  assert {
    condition     = length(aws_sns_topic_subscription.email) == 0 && length(aws_budgets_budget.this.notification) == 0
    error_message = "No address, no mail."
  }
}

run "classes_without_credits" {
  command = plan

  variables {
    host     = { instance_id = "i-0123456789abcdef0", burstable = false }
    database = { identifier = "aqueduct-dev", storage_gb = 100, burstable = false, connections = 200 }
  }

  assert {
    condition     = length([for name in keys(aws_cloudwatch_metric_alarm.this) : name if endswith(name, "credits")]) == 0
    error_message = "No alarm on a metric that is not there."
  }
}

run "host_that_slows_down" {
  command = plan

  variables { host = { instance_id = "i-0123456789abcdef0", burstable = true, unlimited = false } }

  assert {
    condition = (aws_cloudwatch_metric_alarm.this["host-cpu-credits"].metric_name == "CPUCreditBalance"
    && aws_cloudwatch_metric_alarm.this["host-cpu-credits"].period * aws_cloudwatch_metric_alarm.this["host-cpu-credits"].evaluation_periods >= 7200)
    error_message = "A first boot begins without credits: they have to be low for hours."
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) + 1 <= 10
    error_message = "Ten alarms are free."
  }
}

run "watcher" {
  command = plan

  variables { queue = { name = "aqueduct-dev-objects", dead_name = "aqueduct-dev-objects-dead" } }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["queue-age"].dimensions.QueueName == "aqueduct-dev-objects" && aws_cloudwatch_metric_alarm.this["queue-dead-letters"].dimensions.QueueName == "aqueduct-dev-objects-dead"
    error_message = "Age and dead letters are watched."
  }
  assert {
    condition     = strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "ApproximateAgeOfOldestMessage")
    error_message = "The dashboard shows the queue."
  }
}

run "refuses_logs_for_ever" {
  command = plan

  variables { retention_days = 0 }

  expect_failures = [var.retention_days]
}

run "refuses_an_address_that_is_none" {
  command = plan

  variables { alert_email = "data-team" }

  expect_failures = [var.alert_email]
}
