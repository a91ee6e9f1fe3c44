# At most ten alarms without the watcher, which is what AWS gives for free. Each says what a missing value means: silence
# of the host or of the database is an alarm, silence of loads is not. Silence of log-shipper is told when it begins.

locals {
  metric_alarms = merge(
    {
      host-status = {
        description = "EC2 finds the host or its hardware not working, or the host is stopped. Look at the instance; AWS moves it if the hardware is at fault, and a new one is made by replacing it."
        namespace   = "AWS/EC2", metric = "StatusCheckFailed", statistic = "Maximum", dimensions = { InstanceId = var.host.instance_id }
        period      = 60, periods = 5, comparison = "GreaterThanOrEqualToThreshold", threshold = 1
        missing     = "breaching" # a host that says nothing is gone
      }
      host-memory = {
        description = "ALARM: little memory is left on the host. INSUFFICIENT_DATA: log-shipper no longer sends its metrics, so logs may not arrive either."
        namespace   = "CWAgent", metric = "mem_used_percent", statistic = "Average", dimensions = { InstanceId = var.host.instance_id }
        period      = 300, periods = 3, comparison = "GreaterThanThreshold", threshold = 90
        # Sent each minute: this is log-shipper's sign of life, too. A new environment has none before its first release, and
        # begins without data, which tells nobody; once values came, their end does.
        missing = "missing", silence = true
      }
      load-failed = {
        description = "A load failed and does not pass by itself: etl-runner loads --state failed, on the host, names the object and the reason."
        namespace   = local.namespace, metric = "LoadsFailed", statistic = "Sum", dimensions = {}
        period      = 300, periods = 1, comparison = "GreaterThanOrEqualToThreshold", threshold = 1
        missing     = "notBreaching" # no load, no failure
      }
      rejects = {
        description = "More records than usual were set aside: etl-runner rejects list LOAD tells which, and why."
        namespace   = local.namespace, metric = "RecordsRejected", statistic = "Sum", dimensions = {}
        period      = 3600, periods = 1, comparison = "GreaterThanThreshold", threshold = var.rejects_per_hour
        missing     = "notBreaching"
      }
      runs-failed = {
        description = "Runs end in failure, without or before a load: journalctl -u aqueduct-load on the host."
        namespace   = local.namespace, metric = "RunsFailed", statistic = "Sum", dimensions = {}
        period      = 900, periods = 1, comparison = "GreaterThanOrEqualToThreshold", threshold = 3
        missing     = "notBreaching"
      }
      database-storage = {
        description = "The database's storage is nearly used up and has not grown by itself: it is at its ceiling, or grew within the last six hours. At the ceiling nothing else comes before the database stops: raise it now. Also when RDS says nothing for 20 minutes."
        namespace   = "AWS/RDS", metric = "FreeStorageSpace", statistic = "Minimum", dimensions = { DBInstanceIdentifier = var.database.identifier }
        # RDS enlarges it below 10 % of what it has at that time: 8 % of the first size is below that before and after each growth.
        period  = 300, periods = 4, comparison = "LessThanThreshold", threshold = floor(var.database.storage_gb * 0.08 * 1024 * 1024 * 1024)
        missing = "breaching" # a database that says nothing is gone
      }
      database-connections = {
        description = "More connections than usual for the class: each run takes one, so something else is connected."
        namespace   = "AWS/RDS", metric = "DatabaseConnections", statistic = "Maximum", dimensions = { DBInstanceIdentifier = var.database.identifier }
        period      = 300, periods = 3, comparison = "GreaterThanThreshold", threshold = var.database.connections
        missing     = "missing" # database-storage tells of a database that is gone
      }
    },
    # A balance begins at 0, and is 0 after each long load: low is news only when it stays so.
    var.host.burstable && var.host.unlimited ? {
      host-cpu-credits = {
        description = "The host uses more CPU than a day's credits pay for: the rest is billed. Take a larger type if it stays so."
        namespace   = "AWS/EC2", metric = "CPUSurplusCreditsCharged", statistic = "Maximum", dimensions = { InstanceId = var.host.instance_id }
        period      = 300, periods = 3, comparison = "GreaterThanThreshold", threshold = 0
        missing     = "missing" # host-status tells of a host that is gone
      }
    } : {},
    var.host.burstable && !var.host.unlimited ? {
      host-cpu-credits = {
        description = "The host has had no CPU credits for hours and runs at its base: loads take longer. Take a larger type, or cpu_credits = unlimited, if it stays so."
        namespace   = "AWS/EC2", metric = "CPUCreditBalance", statistic = "Maximum", dimensions = { InstanceId = var.host.instance_id }
        period      = 3600, periods = 4, comparison = "LessThanThreshold", threshold = 10
        missing     = "missing"
      }
    } : {},
    var.database.burstable ? {
      # RDS runs burstable classes unlimited: what goes on without credits is billed, not slowed down.
      database-cpu-credits = {
        description = "The database has had no CPU credits for hours: further CPU time is billed. Take a larger class if it stays so."
        namespace   = "AWS/RDS", metric = "CPUCreditBalance", statistic = "Maximum", dimensions = { DBInstanceIdentifier = var.database.identifier }
        period      = 3600, periods = 4, comparison = "LessThanThreshold", threshold = 10
        missing     = "missing"
      }
    } : {},
    var.queue == null ? {} : {
      queue-age = {
        description = "A new object waits for more than 15 minutes: nobody works on the queue, or somebody cannot."
        namespace   = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", statistic = "Maximum", dimensions = { QueueName = var.queue.name }
        period      = 300, periods = 3, comparison = "GreaterThanThreshold", threshold = 900
        missing     = "notBreaching" # SQS sends nothing about an idle queue
      }
      queue-dead-letters = {
        description = "A message was given up after five tries. Read it before its 14 days are over."
        namespace   = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum", dimensions = { QueueName = var.queue.dead_name }
        period      = 300, periods = 1, comparison = "GreaterThanThreshold", threshold = 0
        missing     = "notBreaching"
      }
    },
  )
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.metric_alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.periods
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]

  insufficient_data_actions = try(each.value.silence, false) ? [aws_sns_topic.alerts.arn] : []
}

# By query: the metric also carries device and file system, whose names depend on the instance type and the image.
resource "aws_cloudwatch_metric_alarm" "disk" {
  alarm_name          = "${var.name}-host-disk"
  alarm_description   = "The host's disk is nearly full. It is the buffer of an outage of CloudWatch: look at /var/log and at Docker's images."
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 85
  treat_missing_data  = "missing" # host-memory tells of a log-shipper that is silent
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]

  metric_query {
    id          = "disk"
    label       = "disk_used_percent"
    period      = 300
    expression  = "SELECT MAX(disk_used_percent) FROM \"CWAgent\" WHERE InstanceId = '${var.host.instance_id}'"
    return_data = true
  }
}
