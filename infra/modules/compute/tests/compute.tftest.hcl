mock_provider "aws" {
  source          = "../../testing/aws"
  override_during = plan
}

variables {
  name                       = "aqueduct-dev"
  vpc_id                     = "vpc-0123456789abcdef0"
  subnet_id                  = "subnet-0123456789abcdef0"
  user_data                  = "#!/usr/bin/env bash\n"
  data_bucket                = "acme-hadrian-ml-data-bucket"
  artifact_bucket            = "aqueduct-dev-artifacts-123456789012"
  app_secret_arn             = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:aqueduct-dev-app-AbCdEf"
  database_security_group_id = "sg-0fedcba9876543210"
  parameter_path             = "/aqueduct/dev"
  log_group_arns = {
    etl_runner = "arn:aws:logs:eu-central-1:123456789012:log-group:/aqueduct/dev/etl-runner"
    host       = "arn:aws:logs:eu-central-1:123456789012:log-group:/aqueduct/dev/host"
  }
}

run "closed_by_default" {
  command = plan

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.ssh) == 0 && length(aws_vpc_security_group_ingress_rule.http) == 0
    error_message = "Nobody is let in."
  }
  assert {
    condition     = length(aws_key_pair.this) == 0
    error_message = "No key unless one is given."
  }
  assert {
    condition     = aws_instance.host.metadata_options[0].http_tokens == "required" && aws_instance.host.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Metadata of version 2 alone, one hop far."
  }
  assert {
    condition     = aws_instance.host.root_block_device[0].encrypted && aws_instance.host.root_block_device[0].volume_type == "gp3"
    error_message = "The disk is encrypted."
  }
  assert {
    condition     = aws_instance.host.user_data_replace_on_change
    error_message = "A changed script gets a new host."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.database.referenced_security_group_id == "sg-0fedcba9876543210" && aws_vpc_security_group_egress_rule.database.cidr_ipv4 == null
    error_message = "The database is reached by its security group."
  }
  assert {
    condition     = toset([for r in aws_vpc_security_group_egress_rule.web : r.from_port]) == toset([80, 443]) && alltrue([for r in aws_vpc_security_group_egress_rule.web : r.from_port == r.to_port && r.ip_protocol == "tcp"])
    error_message = "Out to the internet go HTTP and HTTPS alone."
  }
  assert {
    condition     = alltrue([for r in aws_vpc_security_group_egress_rule.web : can(regex("^[a-zA-Z0-9. _:/()#,@+=&;{}!$*-]{1,255}$", r.description))])
    error_message = "EC2 takes these characters in the description of a rule, and no others."
  }
}

run "least_privilege" {
  command = plan

  assert {
    condition = alltrue(flatten([for s in jsondecode(aws_iam_role_policy.host.policy).Statement :
    [for action in flatten([s.Action]) : !strcontains(action, "*")]]))
    error_message = "Every action is named."
  }
  assert {
    condition = toset([for s in jsondecode(aws_iam_role_policy.host.policy).Statement : s.Sid if contains(flatten([s.Resource]), "*")]) == toset([
    "SystemsManagerAgentTakesNoResource", "PutMetricsTakesNoResource"])
    error_message = "Only what takes no resource has none, and its Sid says so."
  }
  assert {
    condition     = one([for s in jsondecode(aws_iam_role_policy.host.policy).Statement : s if s.Sid == "PutMetricsTakesNoResource"]).Condition.StringEquals["cloudwatch:namespace"] == "CWAgent"
    error_message = "Metrics go to one namespace."
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_iam_role_policy.host.policy).Statement :
    s.Effect == "Allow" && alltrue([for r in flatten([s.Resource]) : r == "*" || !can(regex(":::\\*|:\\*$", replace(r, "/:log-group:[^:]+:\\*$/", "")))])])
    error_message = "No resource is a whole service."
  }
  assert {
    condition = [for s in jsondecode(aws_iam_role_policy.host.policy).Statement : s.Resource if contains(flatten([s.Action]), "secretsmanager:GetSecretValue")
    ] == ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:aqueduct-dev-app-AbCdEf"]
    error_message = "The host reads the loader's secret and no other."
  }
  assert {
    condition = [for s in jsondecode(aws_iam_role_policy.host.policy).Statement : s.Resource if contains(flatten([s.Action]), "ssm:PutParameter")
    ] == ["arn:aws:ssm:eu-central-1:123456789012:parameter/aqueduct/dev/host/ready"]
    error_message = "The one parameter that the host writes is its ready signal."
  }
  assert {
    condition = toset(flatten([for s in jsondecode(aws_iam_role_policy.host.policy).Statement : s.Resource if contains(flatten([s.Action]), "s3:GetObject")])) == toset([
      "arn:aws:s3:::aqueduct-dev-artifacts-123456789012/binaries/*", "arn:aws:s3:::aqueduct-dev-artifacts-123456789012/pipelines/*",
    "arn:aws:s3:::aqueduct-dev-artifacts-123456789012/host/*", "arn:aws:s3:::acme-hadrian-ml-data-bucket/incoming/*"])
    error_message = "The host reads three prefixes of artifacts and one of data."
  }
  assert {
    condition = length([for s in jsondecode(aws_iam_role_policy.host.policy).Statement : s
    if anytrue([for a in flatten([s.Action]) : can(regex("^s3:(Put|Delete)|^iam:|^sts:|^kms:|^sqs:|^logs:(Delete|CreateLogGroup)", a))])]) == 0
    error_message = "The host writes no object, takes on no role and deletes nothing."
  }
  assert {
    condition     = jsondecode(aws_iam_role.host.assume_role_policy).Statement == [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
    error_message = "EC2 alone takes on the host's role."
  }
  assert {
    condition     = length(aws_iam_role.database_setup) + length(aws_iam_role_policy.take_on_database_setup) == 0
    error_message = "Nothing here can read the master secret."
  }
}

run "database_setup" {
  command = plan

  variables {
    database_setup = { secret_arns = {
      master = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-AbCdEf"
      app    = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:aqueduct-dev-app-AbCdEf"
      read   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:aqueduct-dev-read-AbCdEf"
    } }
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/github/aqueduct-dev-boundary"
  }

  assert {
    condition     = jsondecode(aws_iam_role.database_setup[0].assume_role_policy).Statement[0].Principal == { AWS = aws_iam_role.host.arn }
    error_message = "The host alone takes on the role."
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.database_setup[0].policy).Statement[0].Action == ["secretsmanager:GetSecretValue"] && toset(jsondecode(aws_iam_role_policy.database_setup[0].policy).Statement[0].Resource) == toset(values(var.database_setup.secret_arns))
    error_message = "It reads the three logins and does nothing else."
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.take_on_database_setup[0].policy).Statement[0].Resource == aws_iam_role.database_setup[0].arn
    error_message = "The host takes on this role and no other."
  }
  assert {
    condition     = !anytrue([for s in jsondecode(aws_iam_role_policy.host.policy).Statement : contains(flatten([s.Resource]), var.database_setup.secret_arns.master)])
    error_message = "Its own role does not read the master secret even then."
  }
  assert {
    condition     = aws_iam_role.host.permissions_boundary == var.permissions_boundary_arn && aws_iam_role.database_setup[0].permissions_boundary == var.permissions_boundary_arn
    error_message = "Both roles carry the boundary."
  }
}

run "arm64_by_default" {
  command = plan

  assert {
    condition     = output.architecture == "arm64" && strcontains(data.aws_ssm_parameter.ubuntu.name, "/26.04/stable/current/arm64/")
    error_message = "t4g.micro is arm64, on Ubuntu 26.04."
  }
  assert {
    condition     = aws_instance.host.credit_specification[0].cpu_credits == "unlimited"
    error_message = "A new host has no credits: its first boot must not wait for them."
  }
}

run "x86_by_its_type" {
  command = plan

  variables { instance_type = "t3.micro" }

  assert {
    condition     = output.architecture == "amd64" && strcontains(data.aws_ssm_parameter.ubuntu.name, "/amd64/")
    error_message = "t3.micro is x86_64."
  }
}

run "gpu_family_is_not_arm" {
  command = plan

  variables { instance_type = "g5.xlarge" }

  assert {
    condition     = output.architecture == "amd64" && !output.burstable && length(aws_instance.host.credit_specification) == 0
    error_message = "A g in front is no Graviton, and only t has credits."
  }
}

run "opened_by_decision" {
  command = plan

  variables {
    ssh_cidrs      = ["203.0.113.7/32", "2001:db8::/48"]
    http_cidrs     = ["0.0.0.0/0"]
    ec2_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB3VbzAgnXzYbYyMp5UeCFu2xGxTgXfZrJ8hCkgYyEyT test"
    public_address = false
    queue_arn      = "arn:aws:sqs:eu-central-1:123456789012:aqueduct-dev-objects"
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.ssh["203.0.113.7/32"].cidr_ipv4 == "203.0.113.7/32" && aws_vpc_security_group_ingress_rule.ssh["2001:db8::/48"].cidr_ipv6 == "2001:db8::/48"
    error_message = "Ranges of both families."
  }
  assert {
    condition     = toset([for r in aws_vpc_security_group_ingress_rule.http : r.from_port]) == toset([80, 443]) && alltrue([for r in aws_vpc_security_group_ingress_rule.ssh : r.from_port == 22 && r.to_port == 22])
    error_message = "HTTP opens 80 and 443, SSH 22, nothing more."
  }
  assert {
    condition     = length(aws_key_pair.this) == 1 && !aws_instance.host.associate_public_ip_address
    error_message = "The key is used; a private host has no public address."
  }
  assert {
    condition     = one([for s in jsondecode(aws_iam_role_policy.host.policy).Statement : s if s.Sid == "WorkOnNewObjects"]).Resource == var.queue_arn
    error_message = "With the watcher the host works on its queue."
  }
}

run "refuses_ssh_from_everywhere" {
  command = plan

  variables { ssh_cidrs = ["0.0.0.0/0"] }

  expect_failures = [var.ssh_cidrs]
}

run "refuses_ssh_from_everywhere_ipv6" {
  command = plan

  variables { ssh_cidrs = ["::/0"] }

  expect_failures = [var.ssh_cidrs]
}

run "refuses_the_internet_in_halves" {
  command = plan

  variables { ssh_cidrs = ["0.0.0.0/1", "128.0.0.0/1"] }

  expect_failures = [var.ssh_cidrs]
}

run "refuses_a_continent" {
  command = plan

  variables { ssh_cidrs = ["81.0.0.0/8"] }

  expect_failures = [var.ssh_cidrs]
}

run "refuses_what_is_no_range" {
  command = plan

  variables { ssh_cidrs = ["my-laptop"] }

  expect_failures = [var.ssh_cidrs]
}

run "refuses_a_private_key" {
  command = plan

  variables { ec2_public_key = "-----BEGIN OPENSSH PRIVATE KEY-----" }

  expect_failures = [var.ec2_public_key]
}

run "refuses_secrets_in_user_data" {
  command = plan

  variables { user_data = "#!/bin/sh\nexport PGPASSWORD=hunter2\n" }

  expect_failures = [var.user_data]
}

run "refuses_a_wide_parameter_path" {
  command = plan

  variables { parameter_path = "/" }

  expect_failures = [var.parameter_path]
}
