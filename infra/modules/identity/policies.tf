# Statements by environment. Names carry the prefix of project and environment, and so do the resources of every
# statement; where AWS knows no resource for an action, the Sid ends in TakesNoResource.

locals {
  prefix = { for name in keys(var.environments) : name => "${var.project}-${name}" }

  buckets = { for name, settings in var.environments : name => {
    data      = "${local.arn}:s3:::${settings.data_bucket}"
    artifacts = "${local.arn}:s3:::${local.prefix[name]}-artifacts-${local.account}"
  } }

  parameters = { for name in keys(var.environments) : name => "${local.arn}:ssm:${local.region}:${local.account}:parameter/${var.project}/${name}" }
  log_groups = { for name in keys(var.environments) : name => [
    "${local.arn}:logs:${local.region}:${local.account}:log-group:/${var.project}/${name}/*",
    "${local.arn}:logs:${local.region}:${local.account}:log-group:/aws/rds/instance/${local.prefix[name]}/*",
  ] }
  # Only the secrets made by Terraform: the master's, which RDS makes, is called rds!… and is not among them.
  secrets = { for name in keys(var.environments) : name => "${local.arn}:secretsmanager:${local.region}:${local.account}:secret:${local.prefix[name]}-*" }
  roles_of = { for name in keys(var.environments) : name => [
    "${local.arn}:iam::${local.account}:role/${local.prefix[name]}-*",
    "${local.arn}:iam::${local.account}:instance-profile/${local.prefix[name]}-*",
  ] }
  database = { for name in keys(var.environments) : name => [
    # RDS calls the snapshots that it takes by itself rds:NAME-….
    for kind in ["db:", "pg:", "subgrp:", "snapshot:", "snapshot:rds:"] : "${local.arn}:rds:${local.region}:${local.account}:${kind}${local.prefix[name]}${kind == "snapshot:rds:" ? "-" : ""}*"
  ] }
  messaging = { for name in keys(var.environments) : name => [
    for service in ["sns", "sqs"] : "${local.arn}:${service}:${local.region}:${local.account}:${local.prefix[name]}-*"
  ] }
  watching = { for name in keys(var.environments) : name => [
    "${local.arn}:cloudwatch:${local.region}:${local.account}:alarm:${local.prefix[name]}-*",
    "${local.arn}:cloudwatch::${local.account}:dashboard/${local.prefix[name]}",
  ] }
  budget = { for name in keys(var.environments) : name => "${local.arn}:budgets::${local.account}:budget/${local.prefix[name]}" }

  # --- plan, and the reading half of apply and teardown ---

  read = { for name in keys(var.environments) : name => [
    # init also looks for workspaces, of which there are none.
    {
      Sid       = "ListState"
      Effect    = "Allow"
      Action    = ["s3:ListBucket"]
      Resource  = "${local.arn}:s3:::${var.state_bucket}"
      Condition = { StringLike = { "s3:prefix" = ["platform/${name}.tfstate*", "env:/*"] } }
    },
    {
      Sid      = "ReadState"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = "${local.arn}:s3:::${var.state_bucket}/platform/${name}.tfstate"
    },
    {
      Sid      = "LockState"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
      Resource = "${local.arn}:s3:::${var.state_bucket}/platform/${name}.tfstate.tflock"
    },
    {
      Sid    = "DescribeTakesNoResource"
      Effect = "Allow"
      Action = [
        "ec2:Describe*", "rds:Describe*", "logs:DescribeLogGroups", "logs:DescribeMetricFilters", "cloudwatch:DescribeAlarms",
        "ssm:DescribeParameters",
      ]
      Resource = "*"
    },
    {
      Sid    = "ReadBuckets"
      Effect = "Allow"
      Action = [
        "s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration", "s3:GetAccelerateConfiguration",
        "s3:GetReplicationConfiguration", "s3:ListBucket", "s3:ListTagsForResource",
      ]
      Resource = values(local.buckets[name])
    },
    {
      Sid      = "ReadHostArchive"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:GetObjectTagging"]
      Resource = "${local.buckets[name].artifacts}/host/*"
    },
    # A refresh of a secret's version reads its value, and drops it. These are the two logins of the application, which
    # open nothing from outside of the VPC; the master's secret is not among them.
    {
      Sid      = "ReadLogins"
      Effect   = "Allow"
      Action   = ["secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy", "secretsmanager:GetSecretValue"]
      Resource = local.secrets[name]
    },
    {
      Sid      = "ReadParameters"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter", "ssm:GetParameters", "ssm:ListTagsForResource"]
      Resource = ["${local.parameters[name]}/*", "${local.arn}:ssm:${local.region}::parameter/aws/service/canonical/*"]
    },
    {
      Sid    = "ReadRoles"
      Effect = "Allow"
      Action = [
        "iam:GetRole", "iam:GetRolePolicy", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies", "iam:ListRoleTags",
        "iam:ListInstanceProfilesForRole", "iam:GetInstanceProfile", "iam:ListInstanceProfileTags",
      ]
      Resource = local.roles_of[name]
    },
    {
      Sid    = "ReadTheRest"
      Effect = "Allow"
      Action = [
        "rds:ListTagsForResource", "logs:ListTagsForResource", "cloudwatch:ListTagsForResource", "cloudwatch:GetDashboard",
        "sns:GetTopicAttributes", "sns:ListTagsForResource", "sqs:GetQueueAttributes",
        "sqs:GetQueueUrl", "sqs:ListQueueTags", "budgets:ViewBudget", "budgets:ListTagsForResource",
      ]
      Resource = concat(local.database[name], local.log_groups[name], local.messaging[name], local.watching[name], [local.budget[name]])
    },
    # SNS decides about topics by name, about subscriptions not at all.
    {
      Sid      = "ReadSubscriptionsTakesNoResource"
      Effect   = "Allow"
      Action   = ["sns:GetSubscriptionAttributes"]
      Resource = "*"
    },
  ] }

  # --- apply and teardown ---

  network = { for name in keys(var.environments) : name => [
    # EC2 names its resources by numbers that are not known before. So: what makes something, in this region; what changes or
    # deletes something, on what carries this environment's tag; and nothing on what carries another environment's.
    #
    # Revoking is among the first: the default security group of a VPC, and the rule that AWS puts into every new group, have
    # no tag when Terraform takes them away.
    {
      Sid    = "MakeNetworkAndHostTakesNoResource"
      Effect = "Allow"
      Action = [
        "ec2:CreateVpc", "ec2:CreateSubnet", "ec2:CreateInternetGateway", "ec2:CreateRouteTable", "ec2:CreateRoute", "ec2:CreateVpcEndpoint",
        "ec2:AllocateAddress", "ec2:AssociateAddress", "ec2:DisassociateAddress", "ec2:CreateNatGateway", "ec2:CreateFlowLogs",
        "ec2:CreateSecurityGroup", "ec2:AuthorizeSecurityGroupIngress", "ec2:AuthorizeSecurityGroupEgress",
        "ec2:RevokeSecurityGroupIngress", "ec2:RevokeSecurityGroupEgress", "ec2:ModifySecurityGroupRules",
        "ec2:ImportKeyPair", "ec2:RunInstances",
      ]
      Resource  = "*"
      Condition = { StringEquals = { "aws:RequestedRegion" = local.region } }
    },
    {
      Sid    = "ChangeAndDeleteByTag"
      Effect = "Allow"
      Action = [
        "ec2:DeleteVpc", "ec2:ModifyVpcAttribute", "ec2:DeleteSubnet", "ec2:ModifySubnetAttribute",
        "ec2:DeleteInternetGateway", "ec2:AttachInternetGateway", "ec2:DetachInternetGateway",
        "ec2:DeleteRouteTable", "ec2:AssociateRouteTable", "ec2:DisassociateRouteTable", "ec2:DeleteRoute", "ec2:ReplaceRoute",
        "ec2:ModifyVpcEndpoint", "ec2:DeleteVpcEndpoints", "ec2:ReleaseAddress", "ec2:DeleteNatGateway", "ec2:DeleteFlowLogs",
        "ec2:DeleteSecurityGroup", "ec2:DeleteKeyPair", "ec2:TerminateInstances", "ec2:StartInstances", "ec2:StopInstances",
        "ec2:ModifyInstanceAttribute", "ec2:ModifyInstanceMetadataOptions", "ec2:ModifyInstanceCreditSpecification", "ec2:ModifyVolume",
        "ec2:AssociateIamInstanceProfile", "ec2:DisassociateIamInstanceProfile", "ec2:ReplaceIamInstanceProfileAssociation",
        "ec2:GetConsoleOutput", "ec2:CreateTags", "ec2:DeleteTags",
      ]
      Resource  = "${local.arn}:ec2:${local.region}:${local.account}:*/*"
      Condition = { StringEquals = { "aws:ResourceTag/environment" = name } }
    },
    # Else whoever can tag an instance could tag a stranger's first and delete it then.
    {
      Sid       = "TagWhatIsBeingMade"
      Effect    = "Allow"
      Action    = ["ec2:CreateTags"]
      Resource  = "${local.arn}:ec2:${local.region}:${local.account}:*/*"
      Condition = { Null = { "ec2:CreateAction" = "false" } }
    },
    # Both are there before Terraform tags them: the default group, and the disk that comes with an instance.
    {
      Sid      = "TagWhatIsAdopted"
      Effect   = "Allow"
      Action   = ["ec2:CreateTags"]
      Resource = [for kind in ["security-group", "volume"] : "${local.arn}:ec2:${local.region}:${local.account}:${kind}/*"]
    },
    {
      Sid      = "NothingOfAnotherEnvironment"
      Effect   = "Deny"
      Action   = "ec2:*"
      Resource = "*"
      Condition = {
        Null            = { "aws:ResourceTag/environment" = "false" }
        StringNotEquals = { "aws:ResourceTag/environment" = name }
      }
    },
  ] }

  write = { for name in keys(var.environments) : name => [
    {
      Sid      = "WriteState"
      Effect   = "Allow"
      Action   = ["s3:PutObject"]
      Resource = "${local.arn}:s3:::${var.state_bucket}/platform/${name}.tfstate"
    },
    {
      Sid    = "WriteBuckets"
      Effect = "Allow"
      Action = [
        "s3:CreateBucket", "s3:PutBucketVersioning", "s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration",
        "s3:PutBucketPublicAccessBlock", "s3:PutBucketOwnershipControls", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy", "s3:PutBucketTagging",
        "s3:PutBucketNotification", "s3:TagResource", "s3:UntagResource",
      ]
      Resource = values(local.buckets[name])
    },
    # When the host's files change, their archive is another object, and of the old one Terraform looks for each version and deletes it.
    # Both are made from the repository.
    {
      Sid      = "WriteHostArchive"
      Effect   = "Allow"
      Action   = ["s3:PutObject", "s3:PutObjectTagging", "s3:DeleteObject", "s3:DeleteObjectVersion"]
      Resource = "${local.buckets[name].artifacts}/host/*"
    },
    {
      Sid      = "FindVersionsOfHostArchive"
      Effect   = "Allow"
      Action   = ["s3:ListBucketVersions"]
      Resource = local.buckets[name].artifacts
    },
    {
      Sid    = "WriteDatabase"
      Effect = "Allow"
      Action = [
        "rds:CreateDBInstance", "rds:ModifyDBInstance", "rds:RebootDBInstance", "rds:RestoreDBInstanceFromDBSnapshot",
        "rds:CreateDBParameterGroup", "rds:ModifyDBParameterGroup", "rds:ResetDBParameterGroup", "rds:DeleteDBParameterGroup",
        "rds:CreateDBSubnetGroup", "rds:ModifyDBSubnetGroup", "rds:DeleteDBSubnetGroup",
        "rds:AddTagsToResource", "rds:RemoveTagsFromResource",
      ]
      # An instance that names no option group gets RDS's default one, and making it asks for a right to that. Nothing can change a default one.
      Resource = concat(local.database[name], ["${local.arn}:rds:${local.region}:${local.account}:og:default:*"])
    },
    # RDS keeps the master's password in a secret of its own, made in the name of whoever makes the instance.
    {
      Sid      = "MasterSecretOfRds"
      Effect   = "Allow"
      Action   = ["secretsmanager:CreateSecret", "secretsmanager:TagResource", "secretsmanager:RotateSecret"]
      Resource = "${local.arn}:secretsmanager:${local.region}:${local.account}:secret:rds!*"
    },
    {
      Sid      = "KeysOfRdsAndSecrets"
      Effect   = "Allow"
      Action   = ["kms:DescribeKey", "kms:CreateGrant"]
      Resource = "${local.arn}:kms:${local.region}:${local.account}:key/*"
      Condition = { "ForAnyValue:StringEquals" = {
        "kms:ResourceAliases" = ["alias/aws/rds", "alias/aws/secretsmanager"]
      } }
    },
    {
      Sid    = "WriteLogins"
      Effect = "Allow"
      Action = [
        "secretsmanager:CreateSecret", "secretsmanager:UpdateSecret", "secretsmanager:PutSecretValue",
        "secretsmanager:UpdateSecretVersionStage", "secretsmanager:TagResource", "secretsmanager:UntagResource",
      ]
      Resource = local.secrets[name]
    },
    {
      Sid      = "WriteParameters"
      Effect   = "Allow"
      Action   = ["ssm:PutParameter", "ssm:DeleteParameter", "ssm:AddTagsToResource", "ssm:RemoveTagsFromResource"]
      Resource = "${local.parameters[name]}/*"
    },
    {
      Sid    = "WriteLogsAndAlarms"
      Effect = "Allow"
      Action = [
        "logs:CreateLogGroup", "logs:PutRetentionPolicy", "logs:PutMetricFilter", "logs:DeleteMetricFilter",
        "logs:TagResource", "logs:UntagResource", "cloudwatch:PutMetricAlarm", "cloudwatch:DeleteAlarms", "cloudwatch:PutDashboard",
        "cloudwatch:DeleteDashboards", "cloudwatch:TagResource", "cloudwatch:UntagResource", "budgets:ModifyBudget",
        "budgets:TagResource", "budgets:UntagResource",
      ]
      Resource = concat(local.log_groups[name], local.watching[name], [local.budget[name]])
    },
    {
      Sid    = "WriteMessaging"
      Effect = "Allow"
      Action = [
        "sns:CreateTopic", "sns:DeleteTopic", "sns:SetTopicAttributes", "sns:Subscribe",
        "sns:TagResource", "sns:UntagResource", "sqs:CreateQueue", "sqs:DeleteQueue", "sqs:SetQueueAttributes", "sqs:TagQueue", "sqs:UntagQueue",
      ]
      Resource = local.messaging[name]
    },
    # SNS decides about topics by name, about subscriptions not at all. Making one is bound to the topic, above.
    {
      Sid       = "WriteSubscriptionsTakesNoResource"
      Effect    = "Allow"
      Action    = ["sns:SetSubscriptionAttributes", "sns:Unsubscribe"]
      Resource  = "*"
      Condition = { StringEquals = { "aws:RequestedRegion" = local.region } }
    },
  ] }

  # --- what only teardown may: delete what holds data ---

  destroy = { for name in keys(var.environments) : name => [
    # Reading what is in the buckets is no part of emptying them.
    {
      Sid      = "EmptyBuckets"
      Effect   = "Allow"
      Action   = ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload"]
      Resource = [for bucket in values(local.buckets[name]) : "${bucket}/*"]
    },
    {
      Sid      = "DeleteBuckets"
      Effect   = "Allow"
      Action   = ["s3:ListBucketVersions", "s3:ListBucketMultipartUploads", "s3:DeleteBucket"]
      Resource = values(local.buckets[name])
    },
    # RDS takes the final snapshot in the name of whoever deletes the instance.
    {
      Sid      = "DeleteDatabase"
      Effect   = "Allow"
      Action   = ["rds:DeleteDBInstance", "rds:CreateDBSnapshot"]
      Resource = local.database[name]
    },
    {
      Sid      = "DeleteLogins"
      Effect   = "Allow"
      Action   = ["secretsmanager:DeleteSecret"]
      Resource = local.secrets[name]
    },
    {
      Sid      = "DeleteLogs"
      Effect   = "Allow"
      Action   = ["logs:DeleteLogGroup"]
      Resource = local.log_groups[name]
    },
    # What of the environment is still there afterwards, by its tags. It tells names and tags, nothing else.
    {
      Sid      = "FindLeftoversTakesNoResource"
      Effect   = "Allow"
      Action   = ["tag:GetResources"]
      Resource = "*"
    },
  ] }

  iam = { for name in keys(var.environments) : name => [
    {
      Sid      = "MakeRolesWithinTheBoundary"
      Effect   = "Allow"
      Action   = ["iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary"]
      Resource = "${local.arn}:iam::${local.account}:role/${local.prefix[name]}-*"
      Condition = { StringEquals = {
        "iam:PermissionsBoundary" = "${local.arn}:iam::${local.account}:policy/github/${local.prefix[name]}-boundary"
      } }
    },
    {
      Sid    = "ChangeAndDeleteRoles"
      Effect = "Allow"
      Action = [
        "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole", "iam:UpdateRoleDescription", "iam:TagRole", "iam:UntagRole",
        "iam:CreateInstanceProfile", "iam:DeleteInstanceProfile", "iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile",
        "iam:TagInstanceProfile", "iam:UntagInstanceProfile",
      ]
      Resource = local.roles_of[name]
    },
    {
      Sid       = "HandRolesToTheirServices"
      Effect    = "Allow"
      Action    = ["iam:PassRole"]
      Resource  = ["${local.arn}:iam::${local.account}:role/${local.prefix[name]}-host", "${local.arn}:iam::${local.account}:role/${local.prefix[name]}-flow-logs"]
      Condition = { StringEquals = { "iam:PassedToService" = ["ec2.amazonaws.com", "vpc-flow-logs.amazonaws.com"] } }
    },
    {
      Sid       = "ServiceRoleOfRds"
      Effect    = "Allow"
      Action    = ["iam:CreateServiceLinkedRole"]
      Resource  = "${local.arn}:iam::${local.account}:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"
      Condition = { StringEquals = { "iam:AWSServiceName" = "rds.amazonaws.com" } }
    },
  ] }

  # --- deploy: releases, and commands on this environment's host ---

  deploy = { for name in keys(var.environments) : name => [
    {
      Sid      = "PutReleases"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
      Resource = [for prefix in ["binaries", "pipelines"] : "${local.buckets[name].artifacts}/${prefix}/*"]
    },
    # Without it S3 answers HeadObject for a missing key with 403, not with 404. It has no condition on s3:prefix, because HeadObject has no
    # prefix, and would not fulfil it. What it tells are the names of releases and of the host's archives.
    {
      Sid      = "ListReleases"
      Effect   = "Allow"
      Action   = ["s3:ListBucket"]
      Resource = local.buckets[name].artifacts
    },
    {
      Sid      = "ReadParameters"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"]
      Resource = [local.parameters[name], "${local.parameters[name]}/*"]
    },
    {
      Sid      = "NameTheRelease"
      Effect   = "Allow"
      Action   = ["ssm:PutParameter"]
      Resource = "${local.parameters[name]}/release/*"
    },
    {
      Sid      = "RunShellScripts"
      Effect   = "Allow"
      Action   = ["ssm:SendCommand"]
      Resource = "${local.arn}:ssm:${local.region}::document/AWS-RunShellScript"
    },
    {
      Sid       = "OnThisEnvironmentsHost"
      Effect    = "Allow"
      Action    = ["ssm:SendCommand", "ec2:GetConsoleOutput"] # the console has the log of a first boot that failed
      Resource  = "${local.arn}:ec2:${local.region}:${local.account}:instance/*"
      Condition = { StringEquals = { "aws:ResourceTag/project" = var.project, "aws:ResourceTag/environment" = name } }
    },
    {
      Sid      = "FollowCommandsTakesNoResource"
      Effect   = "Allow"
      Action   = ["ssm:GetCommandInvocation", "ssm:ListCommandInvocations", "ssm:CancelCommand", "ssm:DescribeInstanceInformation", "ec2:DescribeInstances"]
      Resource = "*"
    },
  ] }

  # --- upload: what `ingest upload` needs, see docs/security.md ---

  upload = { for name in keys(var.environments) : name => [
    {
      Sid       = "ListIncoming"
      Effect    = "Allow"
      Action    = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
      Resource  = local.buckets[name].data
      Condition = { StringLike = { "s3:prefix" = ["incoming/*"] } }
    },
    {
      Sid      = "PutIncoming"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
      Resource = "${local.buckets[name].data}/incoming/*"
    },
    {
      Sid      = "FindTheBucket"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter"]
      Resource = [for parameter in ["region", "data-bucket"] : "${local.parameters[name]}/${parameter}"]
    },
  ] }

  # --- boundary: host, database setup and flow logs together; see modules/compute and modules/network ---

  boundary = { for name in keys(var.environments) : name => [
    {
      Sid    = "AgentAndMetricsTakesNoResource"
      Effect = "Allow"
      Action = [
        "ssm:UpdateInstanceInformation", "ssmmessages:*", "ec2messages:*", "cloudwatch:PutMetricData",
      ]
      Resource = "*"
    },
    {
      Sid      = "ReadBuckets"
      Effect   = "Allow"
      Action   = ["s3:ListBucket", "s3:GetObject", "s3:GetObjectVersion"]
      Resource = flatten([for bucket in values(local.buckets[name]) : [bucket, "${bucket}/*"]])
    },
    {
      Sid      = "ReadLogins"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = local.secrets[name]
    },
    # The master's secret has a name that only RDS knows, but RDS writes the instance that it belongs to into a tag of it, which
    # nobody else can set. The setup role's own policy names the secret in full.
    {
      Sid       = "ReadMasterOfThisEnvironment"
      Effect    = "Allow"
      Action    = ["secretsmanager:GetSecretValue"]
      Resource  = "${local.arn}:secretsmanager:${local.region}:${local.account}:secret:rds!db-*"
      Condition = { StringEquals = { "aws:ResourceTag/aws:rds:primaryDBInstanceArn" = "${local.arn}:rds:${local.region}:${local.account}:db:${local.prefix[name]}" } }
    },
    {
      Sid      = "Parameters"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath", "ssm:PutParameter"]
      Resource = [local.parameters[name], "${local.parameters[name]}/*"]
    },
    {
      Sid      = "WriteLogs"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${local.arn}:logs:${local.region}:${local.account}:log-group:/${var.project}/${name}/*"
    },
    # VPC flow logs look at all groups before they write into theirs.
    {
      Sid      = "LookForLogGroups"
      Effect   = "Allow"
      Action   = ["logs:DescribeLogGroups", "logs:DescribeLogStreams"]
      Resource = "*"
    },
    {
      Sid      = "WorkOnQueues"
      Effect   = "Allow"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
      Resource = "${local.arn}:sqs:${local.region}:${local.account}:${local.prefix[name]}-*"
    },
    {
      Sid      = "TakeOnTheSetupRole"
      Effect   = "Allow"
      Action   = ["sts:AssumeRole"]
      Resource = "${local.arn}:iam::${local.account}:role/${local.prefix[name]}-database-setup"
    },
  ] }
}
