# What the host may do. Every statement names its actions; where AWS knows no resource for an action, the Sid says why.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account    = data.aws_caller_identity.current.account_id
  arn        = "arn:${data.aws_partition.current.partition}"
  parameters = "${local.arn}:ssm:${data.aws_region.current.region}:${local.account}:parameter${var.parameter_path}"

  trust_ec2 = {
    Effect    = "Allow"
    Action    = "sts:AssumeRole"
    Principal = { Service = "ec2.amazonaws.com" }
  }

  statements = concat(
    [
      # Session Manager and Run Command: the door instead of SSH. These are the actions of the agent itself; AWS's managed
      # policy would add the reading of every parameter of the account. None of them takes a resource.
      {
        Sid    = "SystemsManagerAgentTakesNoResource"
        Effect = "Allow"
        Action = [
          "ssm:UpdateInstanceInformation",
          "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
          "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
          "ec2messages:AcknowledgeMessage", "ec2messages:DeleteMessage", "ec2messages:FailMessage",
          "ec2messages:GetEndpoint", "ec2messages:GetMessages", "ec2messages:SendReply",
        ]
        Resource = "*"
      },
      {
        Sid      = "ReadArtifacts"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = [for prefix in ["binaries", "pipelines", "host"] : "${local.arn}:s3:::${var.artifact_bucket}/${prefix}/*"]
      },
      {
        Sid       = "ListIncoming"
        Effect    = "Allow"
        Action    = ["s3:ListBucket"]
        Resource  = "${local.arn}:s3:::${var.data_bucket}"
        Condition = { StringLike = { "s3:prefix" = ["incoming/*"] } }
      },
      {
        Sid      = "ReadIncoming"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:GetObjectVersion"]
        Resource = "${local.arn}:s3:::${var.data_bucket}/incoming/*"
      },
      {
        Sid      = "ReadTheLoadersLogin"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = var.app_secret_arn
      },
      {
        Sid      = "ReadParameters"
        Effect   = "Allow"
        Action   = ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"]
        Resource = [local.parameters, "${local.parameters}/*"]
      },
      {
        Sid      = "SayThatTheHostIsReady"
        Effect   = "Allow"
        Action   = ["ssm:PutParameter"]
        Resource = "${local.parameters}/host/ready"
      },
      {
        Sid      = "WriteLogs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = [for arn in values(var.log_group_arns) : "${arn}:*"]
      },
      # PutMetricData takes no resource; the condition holds it to log-shipper's namespace.
      {
        Sid       = "PutMetricsTakesNoResource"
        Effect    = "Allow"
        Action    = ["cloudwatch:PutMetricData"]
        Resource  = "*"
        Condition = { StringEquals = { "cloudwatch:namespace" = "CWAgent" } }
      },
    ],
    var.queue_arn == null ? [] : [{
      Sid      = "WorkOnNewObjects"
      Effect   = "Allow"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
      Resource = var.queue_arn
    }],
  )
}

resource "aws_iam_role" "host" {
  name                 = "${var.name}-host"
  description          = "Host of ${var.name}: reads files and its login, writes logs and metrics"
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [local.trust_ec2] })
}

resource "aws_iam_role_policy" "host" {
  name = "host"
  role = aws_iam_role.host.id

  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements })
}

resource "aws_iam_instance_profile" "host" {
  name = "${var.name}-host"
  role = aws_iam_role.host.name
}
