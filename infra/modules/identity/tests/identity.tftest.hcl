mock_provider "aws" {
  source          = "../../testing/aws"
  override_during = plan
}

variables {
  project      = "aqueduct"
  state_bucket = "aqueduct-tfstate-123456789012-eu-central-1"
  environments = {
    dev  = { data_bucket = "acme-hadrian-ml-data-bucket" }
    prod = { data_bucket = "acme-hadrian-ml-data-bucket-prod" }
  }
  github = { owner = "octo-org", owner_id = 123456, repository = "octo-repo", repository_id = 789012 }
}

run "trust" {
  command = plan

  assert {
    condition     = toset(keys(aws_iam_role.this)) == toset([for pair in setproduct(["dev", "prod"], ["plan", "apply", "teardown", "deploy", "upload"]) : "${pair[0]}-${pair[1]}"])
    error_message = "Five roles for each environment."
  }
  assert {
    condition = alltrue([for key in ["prod-apply", "prod-deploy", "prod-upload"] :
    jsondecode(aws_iam_role.this[key].assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == ["repo:octo-org@123456/octo-repo@789012:environment:prod"]])
    error_message = "What changes prod trusts prod's environment alone, by numbers."
  }
  assert {
    condition = alltrue([for name in ["dev", "prod"] :
    jsondecode(aws_iam_role.this["${name}-teardown"].assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == ["repo:octo-org@123456/octo-repo@789012:environment:${name}-teardown"]])
    error_message = "A teardown comes from an environment of its own, and from nowhere else."
  }
  assert {
    condition = jsondecode(aws_iam_role.this["prod-plan"].assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == [
    "repo:octo-org@123456/octo-repo@789012:environment:prod", "repo:octo-org@123456/octo-repo@789012:environment:prod-plan"]
    error_message = "A plan may come from the environment without reviewers, too."
  }
  assert {
    condition = alltrue([for role in aws_iam_role.this : alltrue([for s in jsondecode(role.assume_role_policy).Statement :
    keys(s.Condition) == ["StringEquals"] && s.Condition.StringEquals["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"])])
    error_message = "Only StringEquals, on audience and subject."
  }
  assert {
    condition     = alltrue([for subjects in values(output.subjects) : alltrue([for s in subjects : !strcontains(s, "*") && strcontains(s, "@123456/") && strcontains(s, "@789012:")])])
    error_message = "No pattern, and no name without its number."
  }
  assert {
    condition     = alltrue([for role in aws_iam_role.this : role.path == "/github/" && role.max_session_duration == 3600])
    error_message = "Roles live an hour, under their own path."
  }
  assert {
    condition     = length(aws_iam_user.fallback) == 0
    error_message = "No user, and no key."
  }
}

run "least_privilege" {
  command = plan

  assert {
    condition = alltrue(flatten([for p in aws_iam_policy.this : [for s in jsondecode(p.policy).Statement :
    s.Effect == "Deny" || alltrue([for a in flatten([s.Action]) : a != "*" && !endswith(a, ":*")])]]))
    error_message = "No policy allows a whole service."
  }
  # Wildcards in actions: reading alone, and each one listed here.
  assert {
    condition = length(setsubtract(toset(flatten([for p in aws_iam_policy.this : [for s in jsondecode(p.policy).Statement :
    [for a in flatten([s.Action]) : a if s.Effect == "Allow" && strcontains(a, "*")]]])), ["ec2:Describe*", "rds:Describe*", "s3:GetBucket*"])) == 0
    error_message = "Only reading is allowed by pattern."
  }
  assert {
    condition = toset(flatten([for p in aws_iam_policy.this : [for s in jsondecode(p.policy).Statement : s.Sid if s.Effect == "Allow" && contains(flatten([s.Resource]), "*")]])) == toset([
      "DescribeTakesNoResource", "MakeNetworkAndHostTakesNoResource", "FollowCommandsTakesNoResource", "ReadSubscriptionsTakesNoResource",
    "WriteSubscriptionsTakesNoResource", "FindLeftoversTakesNoResource"])
    error_message = "Only what takes no resource has none, and its Sid says so."
  }
  # Every resource that has a name carries the name of its environment.
  assert {
    condition = alltrue(flatten([for key, p in aws_iam_policy.this : [for s in jsondecode(p.policy).Statement : [for r in flatten([s.Resource]) :
      r == "*" || strcontains(r, "-${split("-", key)[0]}-") || strcontains(r, "/${split("-", key)[0]}") || strcontains(r, "-${split("-", key)[0]}/") || endswith(r, "-${split("-", key)[0]}*") || endswith(r, "-${split("-", key)[0]}")
      || contains(["arn:aws:s3:::${var.state_bucket}", "arn:aws:s3:::${var.environments[split("-", key)[0]].data_bucket}", "arn:aws:s3:::${var.environments[split("-", key)[0]].data_bucket}/*",
        "arn:aws:s3:::${var.environments[split("-", key)[0]].data_bucket}/incoming/*", "arn:aws:ssm:eu-central-1::parameter/aws/service/canonical/*",
        "arn:aws:ssm:eu-central-1::document/AWS-RunShellScript", "arn:aws:ec2:eu-central-1:123456789012:instance/*", "arn:aws:ec2:eu-central-1:123456789012:*/*",
        "arn:aws:ec2:eu-central-1:123456789012:security-group/*", "arn:aws:ec2:eu-central-1:123456789012:volume/*",
        "arn:aws:rds:eu-central-1:123456789012:og:default:*", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!*", "arn:aws:kms:eu-central-1:123456789012:key/*",
    "arn:aws:iam::123456789012:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"], r)]]]))
    error_message = "A role of one environment does not reach into another."
  }
  assert {
    condition = alltrue(flatten([for key, p in aws_iam_policy.this : [for s in jsondecode(p.policy).Statement : [for r in flatten([s.Resource]) :
    !strcontains(r, "prod")] if startswith(key, "dev-")]]))
    error_message = "Nothing of dev names prod."
  }
  assert {
    condition = alltrue(flatten([for p in aws_iam_policy.this : [for s in jsondecode(p.policy).Statement : [for r in flatten([s.Resource]) :
    !strcontains(r, ":role/github/") && !strcontains(r, ":policy/github/") && r != "arn:aws:iam::123456789012:role/*"]]]))
    error_message = "No role can change these roles, their policies or the boundary."
  }
  assert {
    condition     = alltrue([for p in merge(aws_iam_policy.this, aws_iam_policy.boundary) : length(p.policy) <= 6144])
    error_message = "AWS takes 6,144 characters a policy."
  }
}

run "what_each_may_not" {
  command = plan

  assert {
    condition = alltrue([for s in jsondecode(aws_iam_policy.this["prod-read"].policy).Statement : alltrue([for a in flatten([s.Action]) :
    s.Sid == "LockState" || can(regex(":(Get|List|Describe|View)", a))])])
    error_message = "plan writes nothing but its lock."
  }
  assert {
    condition = alltrue([for s in concat(jsondecode(aws_iam_policy.this["prod-read"].policy).Statement, jsondecode(aws_iam_policy.this["prod-write"].policy).Statement) :
    !contains(flatten([s.Action]), "s3:GetObject") || alltrue([for r in flatten([s.Resource]) : strcontains(r, ":::aqueduct-tfstate-") || endswith(r, "/host/*")])])
    error_message = "Neither plan nor apply reads data."
  }
  assert {
    condition = alltrue(flatten([for p in aws_iam_policy.this : [for s in jsondecode(p.policy).Statement :
    !contains(flatten([s.Action]), "secretsmanager:GetSecretValue") || !anytrue([for r in flatten([s.Resource]) : strcontains(r, "rds!") || endswith(r, ":secret:*")])]]))
    error_message = "Nobody in GitHub reads the master secret."
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_iam_policy.this["prod-roles"].policy).Statement :
      try(s.Condition.StringEquals["iam:PermissionsBoundary"], "") == "arn:aws:iam::123456789012:policy/github/aqueduct-prod-boundary"
    || length(setintersection(flatten([s.Action]), ["iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary", "iam:DeleteRolePermissionsBoundary"])) == 0])
    error_message = "Roles are made and given rights within the boundary alone."
  }
  assert {
    condition = length([for s in jsondecode(aws_iam_policy.this["prod-network"].policy).Statement : s if s.Effect == "Deny"
    && try(s.Condition.StringNotEquals["aws:ResourceTag/environment"], "") == "prod" && try(s.Condition.Null["aws:ResourceTag/environment"], "") == "false"]) == 1
    error_message = "What carries another environment's tag is out of reach."
  }
  # What has no tag belongs to somebody else.
  assert {
    condition = alltrue(flatten([for s in jsondecode(aws_iam_policy.this["prod-network"].policy).Statement : [for a in s.Effect == "Allow" ? flatten([s.Action]) : [] :
    try(s.Condition.StringEquals["aws:ResourceTag/environment"], "") == "prod" if can(regex("^ec2:(Terminate|Stop|Start|Delete|Release|Detach|Replace|ModifyInstance|ModifyVolume|ModifyVpc|ModifySubnet)", a))]]))
    error_message = "Only what carries this environment's tag is changed or deleted."
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_iam_policy.this["prod-network"].policy).Statement :
      s.Effect == "Deny" || !contains(flatten([s.Action]), "ec2:CreateTags") || try(s.Condition.StringEquals["aws:ResourceTag/environment"], "") == "prod" || try(s.Condition.Null["ec2:CreateAction"], "") == "false"
    || toset(flatten([s.Resource])) == toset(["arn:aws:ec2:eu-central-1:123456789012:security-group/*", "arn:aws:ec2:eu-central-1:123456789012:volume/*"])])
    error_message = "A stranger's instance cannot be tagged first and deleted then."
  }
  assert {
    condition = alltrue([for key, wanted in {
      prod-read    = { ReadSubscriptionsTakesNoResource = ["sns:GetSubscriptionAttributes"] }
      prod-write   = { WriteSubscriptionsTakesNoResource = ["sns:SetSubscriptionAttributes", "sns:Unsubscribe"] }
      prod-destroy = { FindLeftoversTakesNoResource = ["tag:GetResources"] }
      prod-deploy  = { FollowCommandsTakesNoResource = ["ssm:CancelCommand"] }
      } : alltrue([for sid, actions in wanted : length(setsubtract(actions, flatten([for s in jsondecode(aws_iam_policy.this[key].policy).Statement : s.Action if s.Sid == sid]))) == 0
    && length([for s in jsondecode(aws_iam_policy.this[key].policy).Statement : s if s.Sid != sid && length(setintersection(flatten([s.Action]), actions)) > 0]) == 0])])
    error_message = "What AWS knows no resource for is allowed without one, or it is never allowed."
  }
  assert {
    condition = contains(flatten([for s in jsondecode(aws_iam_policy.this["prod-write"].policy).Statement : s.Resource if s.Sid == "WriteDatabase"]),
    "arn:aws:rds:eu-central-1:123456789012:snapshot:rds:aqueduct-prod-*")
    error_message = "A database can be made from a snapshot that RDS took by itself."
  }
  assert {
    condition = contains(flatten([for s in jsondecode(aws_iam_policy.this["prod-write"].policy).Statement : s.Resource if s.Sid == "WriteDatabase"]),
    "arn:aws:rds:eu-central-1:123456789012:og:default:*")
    error_message = "A database that names no option group is put into RDS's default one."
  }
  # A condition on the prefix is never fulfilled by HeadObject, which then says 403 of what is missing.
  assert {
    condition = [for s in jsondecode(aws_iam_policy.this["prod-deploy"].policy).Statement : [s.Resource, try(s.Condition, null)] if contains(flatten([s.Action]), "s3:ListBucket")] == [
    ["arn:aws:s3:::aqueduct-prod-artifacts-123456789012", null]]
    error_message = "deploy lists the artifact bucket, without a condition."
  }
  assert {
    condition = length(setsubtract(["s3:ListBucketMultipartUploads", "s3:AbortMultipartUpload"], flatten([for s in jsondecode(aws_iam_policy.this["prod-destroy"].policy).Statement : s.Action
    if contains(["DeleteBuckets", "EmptyBuckets"], s.Sid)]))) == 0
    error_message = "A teardown aborts unfinished uploads, too."
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_iam_policy.this["prod-deploy"].policy).Statement :
      !contains(flatten([s.Action]), "ssm:SendCommand") || try(endswith(s.Resource, "/AWS-RunShellScript"), false)
    || try(s.Condition.StringEquals == { "aws:ResourceTag/project" = "aqueduct", "aws:ResourceTag/environment" = "prod" }, false)])
    error_message = "deploy runs shell scripts on this environment's host and nothing else."
  }
  assert {
    condition     = alltrue([for s in jsondecode(aws_iam_policy.this["prod-upload"].policy).Statement : length(setintersection(flatten([s.Action]), ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutBucketPolicy"])) == 0])
    error_message = "upload deletes nothing."
  }
  assert {
    condition = toset([for a in aws_iam_role_policy_attachment.this : a.role if a.policy_arn != ""]) == toset([for role in aws_iam_role.this : role.name]) && length(
    aws_iam_role_policy_attachment.this) == 24
    error_message = "plan has one policy, apply four, teardown five, deploy and upload one each."
  }
}

# By what is attached to a role, not by the names of policies.
run "what_only_a_teardown_may" {
  command = plan

  assert {
    condition = alltrue(flatten([for a in local.attachments : [for s in jsondecode(aws_iam_policy.this[a.policy].policy).Statement : [for action in flatten([s.Action]) :
      !can(regex("^(rds:DeleteDB(Instance|Snapshot)|s3:DeleteBucket$|secretsmanager:DeleteSecret|logs:DeleteLog(Group|Stream)|kms:(ScheduleKeyDeletion|DisableKey))", action))
    ]] if !endswith(a.role, "-teardown")]))
    error_message = "Nobody but teardown deletes a database, a backup, a bucket, a log group or a secret."
  }
  assert {
    condition = alltrue(flatten([for a in local.attachments : [for s in jsondecode(aws_iam_policy.this[a.policy].policy).Statement : [for r in flatten([s.Resource]) :
      contains(["arn:aws:s3:::aqueduct-${split("-", a.role)[0]}-artifacts-123456789012/host/*", "arn:aws:s3:::${var.state_bucket}/platform/${split("-", a.role)[0]}.tfstate.tflock"], r)
    ] if length(setintersection(flatten([s.Action]), ["s3:DeleteObject", "s3:DeleteObjectVersion"])) > 0] if !endswith(a.role, "-teardown")]))
    error_message = "Nobody but teardown deletes an object, but for the lock and the host's archive, which a new one takes the place of."
  }
  # Terraform looks for each version of an object that it deletes.
  assert {
    condition = alltrue([for needed in [["s3:ListBucketVersions", "arn:aws:s3:::aqueduct-prod-artifacts-123456789012"], ["s3:DeleteObjectVersion", "arn:aws:s3:::aqueduct-prod-artifacts-123456789012/host/*"]] :
    anytrue([for s in jsondecode(aws_iam_policy.this["prod-write"].policy).Statement : contains(flatten([s.Action]), needed[0]) && contains(flatten([s.Resource]), needed[1])])])
    error_message = "An apply takes away the archive of the host's files from before."
  }
  assert {
    condition = alltrue([for needed in [
      ["rds:DeleteDBInstance", "arn:aws:rds:eu-central-1:123456789012:db:aqueduct-prod*"], ["rds:CreateDBSnapshot", "arn:aws:rds:eu-central-1:123456789012:snapshot:aqueduct-prod*"],
      ["s3:DeleteBucket", "arn:aws:s3:::acme-hadrian-ml-data-bucket-prod"], ["s3:DeleteBucket", "arn:aws:s3:::aqueduct-prod-artifacts-123456789012"],
      ["s3:DeleteObjectVersion", "arn:aws:s3:::acme-hadrian-ml-data-bucket-prod/*"], ["s3:DeleteObjectVersion", "arn:aws:s3:::aqueduct-prod-artifacts-123456789012/*"],
      ["s3:ListBucketVersions", "arn:aws:s3:::acme-hadrian-ml-data-bucket-prod"], ["secretsmanager:DeleteSecret", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:aqueduct-prod-*"],
      ["logs:DeleteLogGroup", "arn:aws:logs:eu-central-1:123456789012:log-group:/aqueduct/prod/*"], ["tag:GetResources", "*"],
      ] : anytrue(flatten([for a in local.attachments : [for s in jsondecode(aws_iam_policy.this[a.policy].policy).Statement :
    contains(flatten([s.Action]), needed[0]) && contains(flatten([s.Resource]), needed[1])] if a.role == "prod-teardown"]))])
    error_message = "teardown deletes what holds data, with a final snapshot, and looks for what is left."
  }
  assert {
    condition     = length(setsubtract([for a in local.attachments : a.policy if a.role == "prod-apply"], [for a in local.attachments : a.policy if a.role == "prod-teardown"])) == 0
    error_message = "teardown has what apply has: it lifts the protection and holds the state."
  }
  assert {
    condition     = alltrue([for role in aws_iam_role.this : length([for a in aws_iam_role_policy_attachment.this : a if a.role == role.name]) <= 10])
    error_message = "AWS attaches ten policies to a role."
  }
}

run "boundary" {
  command = plan

  assert {
    condition = alltrue([for s in jsondecode(aws_iam_policy.boundary["prod"].policy).Statement : alltrue([for a in flatten([s.Action]) :
    !startswith(a, "iam:") && !startswith(a, "s3:Put") && !startswith(a, "s3:Delete") && !startswith(a, "rds:") && !startswith(a, "ec2:")])])
    error_message = "No role made by apply ever changes roles, objects, databases or instances."
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_policy.boundary["prod"].policy).Statement : s.Sid if contains(flatten([s.Resource]), "*")] == ["AgentAndMetricsTakesNoResource", "LookForLogGroups"]
    error_message = "Only what takes no resource has none, and what flow logs look at."
  }
  assert {
    condition = [for s in jsondecode(aws_iam_policy.boundary["prod"].policy).Statement : s.Condition.StringEquals if anytrue([for r in flatten([s.Resource]) : strcontains(r, "rds!")])] == [
    { "aws:ResourceTag/aws:rds:primaryDBInstanceArn" = "arn:aws:rds:eu-central-1:123456789012:db:aqueduct-prod" }]
    error_message = "Of the secrets that RDS makes, a role reads that of its own environment's database alone."
  }
}

run "legacy_form" {
  command = plan

  variables { legacy_subject = true }

  assert {
    condition = toset(output.subjects["dev-apply"]) == toset([
    "repo:octo-org@123456/octo-repo@789012:environment:dev", "repo:octo-org/octo-repo:environment:dev"])
    error_message = "Both forms, for repositories that still send the old one."
  }
}

run "provider_that_is_there" {
  command = plan

  variables { oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com" }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0 && jsondecode(aws_iam_role.this["dev-plan"].assume_role_policy).Statement[0].Principal.Federated == var.oidc_provider_arn
    error_message = "An account has one provider for GitHub."
  }
}

run "fallback_user" {
  command = plan

  variables { access_key_users = true }

  assert {
    condition     = length(aws_iam_user.fallback) == 2 && jsondecode(aws_iam_user_policy.fallback["dev"].policy).Statement[0].Action == ["sts:AssumeRole"]
    error_message = "A user may take on roles and nothing else."
  }
  assert {
    condition     = alltrue([for r in jsondecode(aws_iam_user_policy.fallback["dev"].policy).Statement[0].Resource : startswith(r, "arn:aws:iam::123456789012:role/github/aqueduct-dev-")])
    error_message = "The roles of its environment."
  }
  assert {
    condition     = contains(jsondecode(aws_iam_user_policy.fallback["dev"].policy).Statement[0].Resource, "arn:aws:iam::123456789012:role/github/aqueduct-dev-teardown") && length(jsondecode(aws_iam_role.this["dev-teardown"].assume_role_policy).Statement) == 2
    error_message = "Its teardown role, too."
  }
}

run "refuses_a_pattern" {
  command = plan

  variables { github = { owner = "octo-org", owner_id = 123456, repository = "*", repository_id = 789012 } }

  expect_failures = [var.github]
}

run "refuses_a_missing_number" {
  command = plan

  variables { github = { owner = "octo-org", owner_id = 0, repository = "octo-repo", repository_id = 789012 } }

  expect_failures = [var.github]
}

run "refuses_an_unknown_environment" {
  command = plan

  variables { environments = { test = { data_bucket = "acme" } } }

  expect_failures = [var.environments]
}
