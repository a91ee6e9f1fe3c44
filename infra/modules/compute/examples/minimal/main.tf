# A host that nobody can reach but through Session Manager.
module "compute" {
  source = "../.."

  name                       = "example-dev"
  vpc_id                     = "vpc-0123456789abcdef0"
  subnet_id                  = "subnet-0123456789abcdef0"
  user_data                  = "#!/bin/sh\n"
  data_bucket                = "example-hadrian-ml-data-bucket"
  artifact_bucket            = "example-dev-artifacts-123456789012"
  app_secret_arn             = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:example-dev-app-AbCdEf"
  database_security_group_id = "sg-0123456789abcdef0"
  parameter_path             = "/example/dev"
  log_group_arns             = { host = "arn:aws:logs:eu-central-1:123456789012:log-group:/example/dev/host" }
}

output "instance_id" {
  description = "What to start a session on: aws ssm start-session --target …"
  value       = module.compute.instance_id
}
