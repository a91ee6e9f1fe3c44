# The smallest there is. Its data is nobody's loss: destroy leaves nothing.
environment        = "dev"
vpc_cidr           = "10.20.0.0/16"
protected          = false
flow_logs          = false
log_retention_days = 14
noncurrent_days    = 7
monthly_budget_usd = 40
