#!/usr/bin/env python3
"""Deletes every version and every delete marker of buckets, for a teardown. There is no way back.

    empty_bucket.py BUCKET…

A bucket that is not there is empty. It can be run again at any time, also after it was stopped. Needs s3:ListBucketVersions on the
buckets, s3:DeleteObject and s3:DeleteObjectVersion on their objects: the teardown role.
"""
import json
import os
import tempfile

from workflow import AwsError, Stop, aws, run_main, say, write_summary

# What delete-objects takes at once.
BATCH = 1000


def list_batch(bucket):
    """The first versions and markers there are: what is deleted is not listed again, so no position has to be kept."""
    try:
        answer = aws("s3api", "list-object-versions", "--bucket", bucket, "--max-keys", str(BATCH), "--no-paginate")
    except AwsError as error:
        if error.code == "NoSuchBucket":
            return None
        raise
    return [{"Key": each["Key"], "VersionId": each["VersionId"]}
            for kind in ("Versions", "DeleteMarkers") for each in answer.get(kind) or []]


def delete(bucket, batch):
    # By file: a thousand long keys are more than a command line holds.
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump({"Objects": batch, "Quiet": True}, file)
    try:
        errors = aws("s3api", "delete-objects", "--bucket", bucket, "--delete", f"file://{file.name}").get("Errors", [])
    finally:
        os.unlink(file.name)
    if errors:
        first = errors[0]
        raise Stop(1, f"{len(errors)} objects of {bucket} could not be deleted; the first: {first['Key']}: {first['Code']} {first['Message']}")


def abort_uploads(bucket):
    """Parts of unfinished uploads are billed, too. Where they may not be listed, they go with the bucket."""
    try:
        uploads = aws("s3api", "list-multipart-uploads", "--bucket", bucket).get("Uploads", [])
        for upload in uploads:
            aws("s3api", "abort-multipart-upload", "--bucket", bucket, "--key", upload["Key"], "--upload-id", upload["UploadId"])
    except AwsError as error:
        if not error.is_denied:
            raise


def empty(bucket):
    total = 0
    while batch := list_batch(bucket):
        delete(bucket, batch)
        total += len(batch)
        say(f"{bucket}: {total} versions and delete markers deleted")
    if batch is None:
        say(f"{bucket} is not there")
        return "not there"
    abort_uploads(bucket)
    say(f"{bucket} is empty")
    return f"emptied: {total} versions and delete markers deleted"


def main(arguments):
    if not arguments or any(each.startswith("-") for each in arguments):  # no bucket's name begins so
        raise Stop(2, "usage: empty_bucket.py BUCKET…")
    for bucket in arguments:
        write_summary(f"- `{bucket}` {empty(bucket)}")


if __name__ == "__main__":
    run_main(main)
