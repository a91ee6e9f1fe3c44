# Logs for two weeks, ten alarms, one dashboard, a budget over the whole account.
module "observability" {
  source = "../.."

  name             = "example-dev"
  log_group_prefix = "/example/dev"
  retention_days   = 14
  alert_email      = "data-team@example.com"
  host             = { instance_id = "i-0123456789abcdef0", burstable = true }
  database         = { identifier = "example-dev", storage_gb = 20, burstable = true, connections = 40 }
  budget           = { usd = 40 }
}

output "dashboard_url" {
  description = "Where to look."
  value       = module.observability.dashboard_url
}
