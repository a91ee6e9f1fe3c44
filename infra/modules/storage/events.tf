# New CSV objects → topic → queue, so that a second reader can subscribe without touching the bucket. A bucket has ONE
# notification resource: a second one would silently replace the first.

locals {
  watched  = var.watcher_enabled ? toset(["watcher"]) : toset([])
  suffixes = [".csv", ".csv.gz", ".csv.zst", ".csv.bz2"]
}

resource "aws_sns_topic" "objects" {
  #checkov:skip=CKV_AWS_26: S3 cannot publish to a topic under AWS's own key; the messages are names of objects, not data
  for_each = local.watched

  name = "${var.name}-objects"
}

resource "aws_sns_topic_policy" "objects" {
  for_each = local.watched

  arn = aws_sns_topic.objects[each.key].arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyTheDataBucket"
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.objects[each.key].arn
      Condition = {
        ArnEquals    = { "aws:SourceArn" = "arn:${data.aws_partition.current.partition}:s3:::${var.data_bucket_name}" }
        StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id }
      }
    }]
  })
}

resource "aws_sqs_queue" "dead" {
  for_each = local.watched

  name                      = "${var.name}-objects-dead"
  message_retention_seconds = 1209600 # 14 days, the most there is: somebody has to look first
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue" "objects" {
  for_each = local.watched

  name                       = "${var.name}-objects"
  message_retention_seconds  = 1209600
  visibility_timeout_seconds = 900 # longer than the load of one object, else a second reader takes it meanwhile
  receive_wait_time_seconds  = 20  # long polling: fewer empty answers to pay for
  sqs_managed_sse_enabled    = true

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead[each.key].arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  for_each = local.watched

  queue_url = aws_sqs_queue.dead[each.key].id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.objects[each.key].arn]
  })
}

resource "aws_sqs_queue_policy" "objects" {
  for_each = local.watched

  queue_url = aws_sqs_queue.objects[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyTheTopic"
        Effect    = "Allow"
        Principal = { Service = "sns.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.objects[each.key].arn
        Condition = { ArnEquals = { "aws:SourceArn" = aws_sns_topic.objects[each.key].arn } }
      },
      {
        Sid       = "DenyWithoutTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.objects[each.key].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

# Nobody may send here by a policy: SQS moves dead letters by the queue's own right.
resource "aws_sqs_queue_policy" "dead" {
  for_each = local.watched

  queue_url = aws_sqs_queue.dead[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "DenyWithoutTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = aws_sqs_queue.dead[each.key].arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "aws_sns_topic_subscription" "queue" {
  for_each = local.watched

  topic_arn            = aws_sns_topic.objects[each.key].arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.objects[each.key].arn
  raw_message_delivery = true # the queue holds S3's own event, without an envelope
}

resource "aws_s3_bucket_notification" "objects" {
  for_each = local.watched

  bucket = aws_s3_bucket.this["data"].id

  dynamic "topic" {
    for_each = local.suffixes

    content {
      id            = "new${replace(topic.value, ".", "-")}"
      topic_arn     = aws_sns_topic.objects[each.key].arn
      events        = ["s3:ObjectCreated:*"]
      filter_prefix = local.incoming
      filter_suffix = topic.value
    }
  }

  depends_on = [aws_sns_topic_policy.objects] # S3 tries to publish when it is told
}
