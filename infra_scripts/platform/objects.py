"""Puts files into a bucket under their keys, each only where the bucket does not hold the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.errors import RefusedError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONCURRENT_REQUESTS = 24
LARGEST_BYTES = 64 * 1024 * 1024  # each request holds its file in memory; a company file has under 1 MB


@dataclass(frozen=True)
class Upload:
    """One object as it should be: the content of a file, or bytes that were made here."""

    key: str
    source: Path | bytes

    def read(self) -> bytes:
        """The content. Raises RefusedError for a file that is too large or cannot be read."""
        if isinstance(self.source, bytes):
            return self.source
        try:
            size = self.source.stat().st_size
            if size > LARGEST_BYTES:
                raise RefusedError(
                    f"{self.source} has {size:,} bytes; a file of a batch may have at most {LARGEST_BYTES:,}. "
                    "Remove or shorten it, then run upload again."
                )
            return self.source.read_bytes()
        except OSError as error:
            raise RefusedError(
                f"{self.source} cannot be read: {error.strerror}. Fix that, then run upload again."
            ) from error


@dataclass(frozen=True)
class Sent:
    """What was done with one object: sent (in a dry run: to be sent), or already there with the same bytes."""

    upload: Upload
    etag: str
    size_bytes: int
    was_there: bool


def listing(s3: S3Client, *, bucket: str, prefix: str) -> dict[str, str]:
    """The ETag of every object under a prefix, by key. Raises RefusedError when there is no such bucket.

    In a bucket with SSE-S3, as ours is, the ETag of an object put in one piece is the MD5 of its bytes: a listing, at
    1000 objects a request, shows what is there without a request for each
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
    """
    found: dict[str, str] = {}
    with aws_errors(f"list s3://{bucket}/{prefix}"):
        try:
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                found.update((entry["Key"], entry["ETag"].strip('"')) for entry in page.get("Contents", []))
        except ClientError as error:
            if error_code(error) != "NoSuchBucket":
                raise
            raise RefusedError(f"There is no bucket {bucket}. Run `python -m infra_scripts apply` first.") from error
    return found


def send(
    uploads: Sequence[Upload], *, s3: S3Client, bucket: str, there: dict[str, str], dry_run: bool = False
) -> Iterator[Sent]:
    """Send what differs from `there`, many at once; yields each when it is done, in no order.

    An interruption leaves whole objects, as a PUT is all or nothing: another call sends the rest.
    """

    def one(upload: Upload) -> Sent:
        content = upload.read()
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        was_there = there.get(upload.key) == etag
        if not was_there and not dry_run:
            with aws_errors(f"put s3://{bucket}/{upload.key}"):
                answer = s3.put_object(Bucket=bucket, Key=upload.key, Body=content)
            _check_etag(answer["ETag"].strip('"'), etag=etag, bucket=bucket)
        return Sent(upload, etag=etag, size_bytes=len(content), was_there=was_there)

    pool = ThreadPoolExecutor(CONCURRENT_REQUESTS)
    try:
        for future in as_completed([pool.submit(one, upload) for upload in uploads]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C or an error, wait only for what is under way


def _check_etag(answered: str, *, etag: str, bucket: str) -> None:
    if answered != etag:
        raise RefusedError(
            f"The bucket {bucket} answers with an ETag that is not the content's MD5, so it encrypts with KMS, and "
            "upload cannot compare contents. Set its default encryption to SSE-S3 (AES256), as platform.yml does."
        )
