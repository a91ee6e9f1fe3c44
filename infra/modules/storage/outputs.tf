output "data_bucket" {
  description = "Name of the data bucket."
  value       = aws_s3_bucket.this["data"].bucket
}

output "artifact_bucket" {
  description = "Name of the artifact bucket."
  value       = aws_s3_bucket.this["artifacts"].bucket

  # Nobody puts a file there before it is versioned, encrypted and closed.
  depends_on = [aws_s3_bucket_versioning.this, aws_s3_bucket_server_side_encryption_configuration.this, aws_s3_bucket_public_access_block.this, aws_s3_bucket_policy.this]
}

output "queue" {
  description = "The queue of new objects: name, URL, ARN, and the name of its dead letters; null without the watcher."
  value = var.watcher_enabled ? {
    name      = aws_sqs_queue.objects["watcher"].name
    url       = aws_sqs_queue.objects["watcher"].url
    arn       = aws_sqs_queue.objects["watcher"].arn
    dead_name = aws_sqs_queue.dead["watcher"].name
  } : null
}

output "safeguards" {
  description = "What stands between the objects and a mistake."
  value = {
    force_destroy      = aws_s3_bucket.this["data"].force_destroy
    versions_kept_days = var.noncurrent_days
  }
}
