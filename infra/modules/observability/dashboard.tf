# One screen: did the loads run, what did they set aside, is anything behind, are host and database well.

locals {
  region  = data.aws_region.current.region
  runners = aws_cloudwatch_log_group.this["etl-runner"].name
  host    = ["InstanceId", var.host.instance_id]
  rds     = ["DBInstanceIdentifier", var.database.identifier]

  widgets = concat(
    [
      {
        type = "alarm", width = 24, height = 3
        properties = {
          title  = "Alarms"
          alarms = concat([for alarm in aws_cloudwatch_metric_alarm.this : alarm.arn], [aws_cloudwatch_metric_alarm.disk.arn])
        }
      },
      {
        type = "metric", width = 8, height = 6
        properties = {
          title = "Records: loaded and rejected", region = local.region, view = "timeSeries", stat = "Sum", period = 300
          metrics = [
            [local.namespace, "RecordsLoaded"],
            [local.namespace, "RecordsRejected", { yAxis = "right" }],
          ]
        }
      },
      {
        type = "metric", width = 8, height = 6
        properties = {
          title = "Failures: loads and runs", region = local.region, view = "timeSeries", stat = "Sum", period = 300
          metrics = [
            [local.namespace, "LoadsFailed"],
            [local.namespace, "RunsFailed"],
          ]
        }
      },
      {
        type = "metric", width = 8, height = 6
        properties = {
          title = "Logs: behind by", region = local.region, view = "timeSeries", stat = "Maximum", period = 60
          metrics = [
            concat(["CWAgent", "log_shipper_lag_seconds"], local.host),
            concat(["CWAgent", "log_shipper_oldest_unaccepted_seconds"], local.host),
          ]
        }
      },
      {
        type = "log", width = 24, height = 6
        properties = {
          title = "Loads by pipeline", region = local.region, view = "table"
          query = "SOURCE '${local.runners}' | filter ispresent(LoadFailed) | stats count() as loads, sum(LoadFailed) as failed, sum(MayPass) as may_pass, sum(RecordsRead) as read, sum(Loaded) as loaded, sum(Rejected) as rejected, max(DurationMs) as slowest_ms, latest(@timestamp) as last by Pipeline, Table | sort Pipeline"
        }
      },
      {
        type = "metric", width = 8, height = 6
        properties = {
          title = "Host: memory, disk, CPU", region = local.region, view = "timeSeries", stat = "Average", period = 300
          yAxis = { left = { min = 0, max = 100 } }
          metrics = [
            concat(["CWAgent", "mem_used_percent"], local.host),
            concat(["AWS/EC2", "CPUUtilization"], local.host),
            [{ expression = "SELECT MAX(disk_used_percent) FROM \"CWAgent\" WHERE InstanceId = '${var.host.instance_id}'", label = "disk_used_percent", id = "disk" }],
          ]
        }
      },
      {
        type = "metric", width = 8, height = 6
        properties = {
          title = "Database: CPU, connections, free storage", region = local.region, view = "timeSeries", stat = "Average", period = 300
          metrics = [
            concat(["AWS/RDS", "CPUUtilization"], local.rds),
            concat(["AWS/RDS", "DatabaseConnections"], local.rds),
            concat(["AWS/RDS", "FreeStorageSpace"], local.rds, [{ yAxis = "right" }]),
          ]
        }
      },
      {
        type = "metric", width = 8, height = 6
        properties = {
          title = "CPU credits", region = local.region, view = "timeSeries", stat = "Minimum", period = 300
          metrics = [
            concat(["AWS/EC2", "CPUCreditBalance"], local.host),
            concat(["AWS/EC2", "CPUSurplusCreditsCharged"], local.host),
            concat(["AWS/RDS", "CPUCreditBalance"], local.rds),
          ]
        }
      },
    ],
    [for queue in var.queue == null ? [] : [var.queue] : {
      type = "metric", width = 24, height = 6
      properties = {
        title = "Queue of new objects: depth, age in seconds, dead letters", region = local.region, view = "timeSeries", stat = "Maximum", period = 300
        metrics = [
          ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue.name],
          ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue.name, { yAxis = "right" }],
          ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue.dead_name],
        ]
      }
    }],
  )
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name
  dashboard_body = jsonencode({ widgets = local.widgets })
}
