# A database that outlives a zone, a larger host, logs for a year.
environment                = "prod"
vpc_cidr                   = "10.22.0.0/16"
protected                  = true
flow_logs                  = true
log_retention_days         = 365
noncurrent_days            = 90
instance_type              = "t4g.small"
root_volume_gb             = 30
database_class             = "db.t4g.small"
database_storage_gb        = { initial = 50, ceiling = 500 }
database_connections_alarm = 100
multi_az                   = true
backup_retention_days      = 30
monthly_budget_usd         = 150
