# No account is needed: aws is a mock, and what it computes is known at plan time.
mock_provider "aws" {
  source          = "../../testing/aws"
  override_during = plan
}

variables {
  name             = "aqueduct-dev"
  log_group_prefix = "/aqueduct/dev"
}

run "smallest" {
  command = plan

  assert {
    condition     = length(aws_subnet.public) == 2 && length(aws_subnet.private) == 2
    error_message = "Two zones, each with a public and a private subnet."
  }
  assert {
    condition     = length(distinct(concat(values(aws_subnet.public)[*].cidr_block, values(aws_subnet.private)[*].cidr_block))) == 4
    error_message = "Subnets do not overlap."
  }
  assert {
    condition     = length(distinct(values(aws_subnet.private)[*].availability_zone)) == 2
    error_message = "The private subnets are in two zones."
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.public : !subnet.map_public_ip_on_launch])
    error_message = "No subnet hands out public addresses."
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 0 && length(aws_eip.nat) == 0 && length(aws_route.nat) == 0
    error_message = "No NAT gateway, and no way out of the private subnets, unless asked for."
  }
  assert {
    condition     = length(aws_default_security_group.emptied.ingress) == 0 && length(aws_default_security_group.emptied.egress) == 0
    error_message = "The default security group lets nothing in or out."
  }
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && endswith(aws_vpc_endpoint.s3.service_name, ".s3")
    error_message = "S3 is reached through the gateway endpoint, which is free."
  }
  assert {
    condition     = length(aws_flow_log.this) == 0 && length(aws_iam_role.flow) == 0
    error_message = "No flow logs, and no role for them, unless asked for."
  }
}

run "with_flow_logs_and_nat" {
  command = plan

  variables {
    nat_gateway              = true
    flow_log_retention_days  = 365
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/github/aqueduct-dev-boundary"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && aws_route.nat[0].destination_cidr_block == "0.0.0.0/0"
    error_message = "One NAT gateway, and the private route to it."
  }
  assert {
    condition     = aws_flow_log.this[0].traffic_type == "ALL" && aws_cloudwatch_log_group.flow[0].retention_in_days == 365
    error_message = "All traffic is logged and kept as long as said."
  }
  assert {
    condition     = aws_cloudwatch_log_group.flow[0].name == "/aqueduct/dev/flow"
    error_message = "The group's name follows the environment's prefix."
  }
  assert {
    condition     = jsondecode(aws_iam_role.flow[0].assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"
    error_message = "Only flow logs of this account take the role."
  }
  assert {
    condition = alltrue([for statement in jsondecode(aws_iam_role_policy.flow[0].policy).Statement :
    !strcontains(join(" ", flatten([statement.Action])), "*") && (statement.Resource != "*" || alltrue([for action in flatten([statement.Action]) : startswith(action, "logs:Describe")]))])
    error_message = "The role names its actions and its one group, and only looks at others."
  }
  assert {
    condition = length(setsubtract(["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogGroups", "logs:DescribeLogStreams"],
    flatten([for statement in jsondecode(aws_iam_role_policy.flow[0].policy).Statement : statement.Action]))) == 0
    error_message = "The four actions that VPC flow logs need."
  }
  assert {
    condition     = aws_iam_role.flow[0].permissions_boundary == var.permissions_boundary_arn
    error_message = "The role carries the boundary."
  }
}

run "refuses_a_range_without_room" {
  command = plan

  variables { cidr = "10.20.0.0/24" }

  expect_failures = [var.cidr]
}

run "refuses_an_odd_retention" {
  command = plan

  variables { flow_log_retention_days = 11 }

  expect_failures = [var.flow_log_retention_days]
}
