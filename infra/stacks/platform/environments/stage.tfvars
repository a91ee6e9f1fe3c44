# As large as dev, as careful as prod: what is tried here is the way things are done there.
environment        = "stage"
vpc_cidr           = "10.21.0.0/16"
protected          = true
flow_logs          = true
log_retention_days = 30
noncurrent_days    = 30
monthly_budget_usd = 50
