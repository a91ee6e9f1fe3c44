"""Uploads a file, or the files of a directory ten at a time, with boto3: `boto3_upload.py PATH BUCKET KEY`."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3

path, bucket, key = sys.argv[1:]
client = boto3.client("s3")
if os.path.isdir(path):
    with ThreadPoolExecutor(10) as pool:
        for _ in pool.map(lambda name: client.upload_file(os.path.join(path, name), bucket, f"{key}/{name}"),
                          sorted(os.listdir(path))):
            pass
else:
    client.upload_file(path, bucket, key)
