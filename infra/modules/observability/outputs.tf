output "log_group_arns" {
  description = "Log groups that the host writes, by name."
  value       = { for name, group in aws_cloudwatch_log_group.this : name => group.arn }
}

output "alerts_topic_arn" {
  description = "Topic that alarms publish to."
  value       = aws_sns_topic.alerts.arn
}

output "dashboard_url" {
  description = "The dashboard in the console."
  value       = "https://${data.aws_region.current.region}.console.aws.amazon.com/cloudwatch/home?region=${data.aws_region.current.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.this.dashboard_name}"
}
