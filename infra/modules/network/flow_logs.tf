# Who talked to whom, kept outside of dev. A log group instead of a bucket: retention and queries come with it, and one
# small host writes little.

data "aws_caller_identity" "current" {}

locals {
  flow_logs = var.flow_log_retention_days != null
}

resource "aws_cloudwatch_log_group" "flow" {
  #checkov:skip=CKV_AWS_158: encrypted by CloudWatch Logs' own key; a customer key is 1 USD a month for addresses and ports
  #checkov:skip=CKV_AWS_338: retention is the environment's decision, a year in prod
  count = local.flow_logs ? 1 : 0

  name              = "${var.log_group_prefix}/flow"
  retention_in_days = var.flow_log_retention_days
}

resource "aws_iam_role" "flow" {
  count = local.flow_logs ? 1 : 0

  name                 = "${var.name}-flow-logs"
  description          = "VPC flow logs write their log group"
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "vpc-flow-logs.amazonaws.com" }
      # Only for flow logs of this account: the service acts for all of its customers.
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "flow" {
  #checkov:skip=CKV_AWS_355: two actions that look at names have no resource: the service asks for all groups
  count = local.flow_logs ? 1 : 0

  name = "write-flow-logs"
  role = aws_iam_role.flow[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "WriteOwnGroup"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.flow[0].arn}:*"
      },
      # The service looks at all groups before it writes into this one. It sees names, no events.
      {
        Sid      = "LookForGroups"
        Effect   = "Allow"
        Action   = ["logs:DescribeLogGroups", "logs:DescribeLogStreams"]
        Resource = "*"
      },
    ]
  })
}

resource "aws_flow_log" "this" {
  count = local.flow_logs ? 1 : 0

  vpc_id               = aws_vpc.this.id
  traffic_type         = "ALL"
  log_destination_type = "cloud-watch-logs"
  log_destination      = aws_cloudwatch_log_group.flow[0].arn
  iam_role_arn         = aws_iam_role.flow[0].arn

  tags = { Name = var.name }

  depends_on = [aws_iam_role_policy.flow]
}
