# Who may do what from GitHub: five roles for each environment, and no key anywhere.
#
#   plan      reads what Terraform manages, and the environment's state       environments ENV and ENV-plan
#   apply     changes it, but deletes nothing that holds data                 environment  ENV
#   teardown  may delete that, too                                            environment  ENV-teardown
#   deploy    puts releases into the artifact bucket, runs deploy.sh          environment  ENV
#   upload    puts files below incoming/                                      environment  ENV
#
# What apply and teardown make are roles within the boundary alone.
# Roles, boundary and policies live under the path /github/, which no role here may touch: nobody widens his own rights.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  issuer  = "token.actions.githubusercontent.com"
  kinds   = ["plan", "apply", "teardown", "deploy", "upload"]
  roles   = { for pair in setproduct(keys(var.environments), local.kinds) : "${pair[0]}-${pair[1]}" => { environment = pair[0], kind = pair[1] } }
  account = data.aws_caller_identity.current.account_id
  region  = data.aws_region.current.region
  arn     = "arn:${data.aws_partition.current.partition}"

  provider_arn = var.oidc_provider_arn == null ? one(aws_iam_openid_connect_provider.github[*].arn) : var.oidc_provider_arn

  # A job with `environment:` sends that as its subject, whatever its branch is. Which branches may use an environment, and
  # who has to approve, is said in GitHub's settings of the environment.
  repository = concat(
    ["repo:${var.github.owner}@${var.github.owner_id}/${var.github.repository}@${var.github.repository_id}"],
    var.legacy_subject ? ["repo:${var.github.owner}/${var.github.repository}"] : [],
  )

  # A plan has to be there before somebody approves: it may come from an environment of its own, without reviewers. A teardown comes
  # from nowhere else than its own, so that others may have to approve it.
  subjects = { for key, role in local.roles : key => [
    for pair in setproduct(local.repository, lookup({
      plan     = [role.environment, "${role.environment}-plan"]
      teardown = ["${role.environment}-teardown"]
    }, role.kind, [role.environment])) : "${pair[0]}:environment:${pair[1]}"
  ] }
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.oidc_provider_arn == null ? 1 : 0

  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name                 = "${var.project}-${each.key}"
  path                 = "/github/"
  description          = "GitHub: ${each.value.kind} of ${var.project} ${each.value.environment}"
  max_session_duration = 3600

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Effect    = "Allow"
        Action    = "sts:AssumeRoleWithWebIdentity"
        Principal = { Federated = local.provider_arn }
        # Whole strings, compared as they are: no pattern, and nothing that is true when a claim is missing.
        Condition = { StringEquals = {
          "${local.issuer}:aud" = "sts.amazonaws.com"
          "${local.issuer}:sub" = local.subjects[each.key]
        } }
      }],
      [for user in var.access_key_users ? [aws_iam_user.fallback[each.value.environment].arn] : [] : {
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { AWS = user }
      }],
    )
  })
}

locals {
  # Managed policies, because one role can hold only so much text of its own.
  policies = merge([for environment in keys(var.environments) : {
    "${environment}-read"    = { description = "What Terraform reads", statements = local.read[environment] }
    "${environment}-network" = { description = "Network and host", statements = local.network[environment] }
    "${environment}-write"   = { description = "Buckets, database, secrets, alarms", statements = local.write[environment] }
    "${environment}-roles"   = { description = "Roles within the boundary", statements = local.iam[environment] }
    "${environment}-destroy" = { description = "Deletes what holds data", statements = local.destroy[environment] }
    "${environment}-deploy"  = { description = "Releases", statements = local.deploy[environment] }
    "${environment}-upload"  = { description = "Files below incoming/", statements = local.upload[environment] }
  }]...)

  # A teardown is an apply that may delete what holds data: it lifts the protection of the database first.
  attachments = merge([for environment in keys(var.environments) : {
    "${environment}-plan read"        = { role = "${environment}-plan", policy = "${environment}-read" }
    "${environment}-apply read"       = { role = "${environment}-apply", policy = "${environment}-read" }
    "${environment}-apply network"    = { role = "${environment}-apply", policy = "${environment}-network" }
    "${environment}-apply write"      = { role = "${environment}-apply", policy = "${environment}-write" }
    "${environment}-apply roles"      = { role = "${environment}-apply", policy = "${environment}-roles" }
    "${environment}-teardown read"    = { role = "${environment}-teardown", policy = "${environment}-read" }
    "${environment}-teardown network" = { role = "${environment}-teardown", policy = "${environment}-network" }
    "${environment}-teardown write"   = { role = "${environment}-teardown", policy = "${environment}-write" }
    "${environment}-teardown roles"   = { role = "${environment}-teardown", policy = "${environment}-roles" }
    "${environment}-teardown destroy" = { role = "${environment}-teardown", policy = "${environment}-destroy" }
    "${environment}-deploy"           = { role = "${environment}-deploy", policy = "${environment}-deploy" }
    "${environment}-upload"           = { role = "${environment}-upload", policy = "${environment}-upload" }
  }]...)
}

resource "aws_iam_policy" "this" {
  for_each = local.policies

  name        = "${var.project}-${each.key}"
  path        = "/github/"
  description = each.value.description
  policy      = jsonencode({ Version = "2012-10-17", Statement = each.value.statements })
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = local.attachments

  role       = aws_iam_role.this[each.value.role].name
  policy_arn = aws_iam_policy.this[each.value.policy].arn
}

# The most that any role made by apply or teardown can ever do, whatever its own policy says.
resource "aws_iam_policy" "boundary" {
  for_each = var.environments

  name        = "${var.project}-${each.key}-boundary"
  path        = "/github/"
  description = "The most that roles of ${var.project} ${each.key} can do"
  policy      = jsonencode({ Version = "2012-10-17", Statement = local.boundary[each.key] })
}

# --- The fallback without OIDC ---

resource "aws_iam_user" "fallback" {
  #checkov:skip=CKV_AWS_273: off by default, documented as the fallback for a CI without OIDC
  for_each = var.access_key_users ? var.environments : {}

  name = "${var.project}-${each.key}"
  path = "/github/"
}

resource "aws_iam_user_policy" "fallback" {
  #checkov:skip=CKV_AWS_40: one user without a group, because there is nothing to share
  for_each = aws_iam_user.fallback

  name = "take-on-roles"
  user = each.value.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "TakeOnTheRolesOfItsEnvironment"
      Effect   = "Allow"
      Action   = ["sts:AssumeRole"]
      Resource = [for kind in local.kinds : "${local.arn}:iam::${local.account}:role/github/${var.project}-${each.key}-${kind}"]
    }]
  })
}
