mock_provider "aws" {
  source          = "../../testing/aws"
  override_during = plan
}

variables {
  name                 = "aqueduct-prod"
  data_bucket_name     = "acme-hadrian-ml-data-bucket"
  artifact_bucket_name = "aqueduct-prod-artifacts-123456789012"
}

run "buckets_are_closed" {
  command = plan

  assert {
    condition     = aws_s3_bucket.this["data"].bucket == var.data_bucket_name && aws_s3_bucket.this["artifacts"].bucket == var.artifact_bucket_name
    error_message = "Two buckets with the names that were given."
  }
  assert {
    condition     = alltrue([for bucket in aws_s3_bucket.this : !bucket.force_destroy])
    error_message = "A bucket with objects is not destroyed unless somebody says so."
  }
  assert {
    condition     = alltrue([for v in aws_s3_bucket_versioning.this : v.versioning_configuration[0].status == "Enabled"]) && length(aws_s3_bucket_versioning.this) == 2
    error_message = "Both buckets are versioned."
  }
  assert {
    condition = length(aws_s3_bucket_server_side_encryption_configuration.this) == 2 && alltrue([
    for e in aws_s3_bucket_server_side_encryption_configuration.this : one(one(e.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"])
    error_message = "Both buckets are encrypted."
  }
  assert {
    condition = length(aws_s3_bucket_public_access_block.this) == 2 && alltrue([
    for b in aws_s3_bucket_public_access_block.this : b.block_public_acls && b.block_public_policy && b.ignore_public_acls && b.restrict_public_buckets])
    error_message = "Public access is blocked in all four ways."
  }
  assert {
    condition     = length(aws_s3_bucket_ownership_controls.this) == 2 && alltrue([for o in aws_s3_bucket_ownership_controls.this : one(o.rule).object_ownership == "BucketOwnerEnforced"])
    error_message = "ACLs are off."
  }
  assert {
    condition = length(aws_s3_bucket_policy.this) == 2 && alltrue([for p in aws_s3_bucket_policy.this : anytrue([
      for s in jsondecode(p.policy).Statement : s.Effect == "Deny" && s.Principal == "*" && try(s.Condition.Bool["aws:SecureTransport"], "") == "false" && length(s.Resource) == 2
    ])])
    error_message = "Both policies deny what comes without TLS, for bucket and objects."
  }
  assert {
    condition     = alltrue([for p in aws_s3_bucket_policy.this : alltrue([for s in jsondecode(p.policy).Statement : s.Effect == "Deny"])])
    error_message = "The buckets' policies allow nobody anything: roles do."
  }
  assert {
    condition = length(aws_s3_bucket_lifecycle_configuration.this) == 2 && alltrue([for l in aws_s3_bucket_lifecycle_configuration.this :
      one(l.rule[0].noncurrent_version_expiration).noncurrent_days == 90
      && one(l.rule[0].abort_incomplete_multipart_upload).days_after_initiation == 7
    && one(l.rule[0].expiration).expired_object_delete_marker])
    error_message = "Old versions and half uploads expire; current objects never do."
  }
}

run "no_watcher_unless_asked_for" {
  command = plan

  assert {
    condition     = length(aws_s3_bucket_notification.objects) + length(aws_sns_topic.objects) + length(aws_sqs_queue.objects) + length(aws_sqs_queue.dead) == 0
    error_message = "The watcher's parts are made with watcher_enabled alone."
  }
  assert {
    condition     = output.queue == null
    error_message = "There is no queue to speak of."
  }
}

run "watcher" {
  command = plan

  variables { watcher_enabled = true }

  assert {
    condition     = length(aws_s3_bucket_notification.objects) == 1
    error_message = "A bucket has one notification resource."
  }
  assert {
    condition     = toset(aws_s3_bucket_notification.objects["watcher"].topic[*].filter_suffix) == toset([".csv", ".csv.gz", ".csv.zst", ".csv.bz2"])
    error_message = "One rule for each suffix that can be loaded."
  }
  assert {
    condition     = alltrue([for t in aws_s3_bucket_notification.objects["watcher"].topic : t.filter_prefix == "incoming/"])
    error_message = "Only what was uploaded is told."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue.objects["watcher"].redrive_policy).maxReceiveCount == 5
    error_message = "A message that nobody can work on becomes a dead letter."
  }
  assert {
    condition     = aws_sqs_queue.objects["watcher"].sqs_managed_sse_enabled && aws_sqs_queue.dead["watcher"].sqs_managed_sse_enabled
    error_message = "Both queues are encrypted."
  }
  assert {
    condition     = jsondecode(aws_sns_topic_policy.objects["watcher"].policy).Statement[0].Condition.ArnEquals["aws:SourceArn"] == "arn:aws:s3:::${var.data_bucket_name}" && jsondecode(aws_sns_topic_policy.objects["watcher"].policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"
    error_message = "The data bucket of this account alone publishes."
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_sqs_queue_policy.objects["watcher"].policy).Statement :
    s.Effect == "Deny" || try(s.Action == "sqs:SendMessage" && s.Principal.Service == "sns.amazonaws.com" && can(s.Condition.ArnEquals["aws:SourceArn"]), false)])
    error_message = "The topic alone sends to the queue."
  }
  assert {
    condition = alltrue([for policy in [aws_sqs_queue_policy.objects["watcher"].policy, aws_sqs_queue_policy.dead["watcher"].policy] :
    anytrue([for s in jsondecode(policy).Statement : try(s.Effect == "Deny" && s.Condition.Bool["aws:SecureTransport"] == "false", false)])])
    error_message = "Both queues want TLS."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue_redrive_allow_policy.dead["watcher"].redrive_allow_policy).redrivePermission == "byQueue"
    error_message = "No other queue drops its dead letters here."
  }
}

run "refuses_a_name_with_dots" {
  command = plan

  variables { data_bucket_name = "acme.data" }

  expect_failures = [var.data_bucket_name]
}

run "refuses_versions_that_vanish_at_once" {
  command = plan

  variables { noncurrent_days = 1 }

  expect_failures = [var.noncurrent_days]
}
