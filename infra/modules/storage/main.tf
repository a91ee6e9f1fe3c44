# Two buckets, held to the same rules: what people upload, and what is deployed.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  buckets = {
    data      = var.data_bucket_name
    artifacts = var.artifact_bucket_name
  }

  # What is told to the queue, and where it has to lie; everything else in the bucket is nobody's business.
  incoming = "incoming/"
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18: access logs cost a third bucket; CloudTrail's data events say the same when an account wants them
  #checkov:skip=CKV_AWS_144: one region; the database's backups and the uploader's files are the second copy
  #checkov:skip=CKV_AWS_145: SSE-S3; a customer key is 1 USD a month and a second permission for every reader
  #checkov:skip=CKV2_AWS_62: events are behind watcher_enabled, see events.tf
  for_each = local.buckets

  bucket        = each.value
  force_destroy = var.force_destroy
}

# Loads are pinned to object versions, and an overwritten file can be brought back.
resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced" # no ACLs: policies alone decide
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "DenyWithoutTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = ["arn:${data.aws_partition.current.partition}:s3:::${each.value}", "arn:${data.aws_partition.current.partition}:s3:::${each.value}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "DenyOldTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = ["arn:${data.aws_partition.current.partition}:s3:::${each.value}", "arn:${data.aws_partition.current.partition}:s3:::${each.value}/*"]
        Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
      },
    ]
  })

  depends_on = [aws_s3_bucket_public_access_block.this] # S3 refuses both at the same moment
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    id     = "old-versions-and-half-uploads"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    expiration {
      expired_object_delete_marker = true
    }

    # An upload that was killed can be continued for a week; after that its parts only cost money.
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}
