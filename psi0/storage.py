"""S3 with messages a person can act on: a client for the configured server, buckets, uploads that check themselves."""

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
)
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from psi0.connection import Connection
from psi0.errors import Psi0Error

Result = TypeVar("Result")
_MISSING = ("404", "NoSuchKey", "NotFound")
CUT = (ConnectionError, HTTPClientError, IncompleteReadError)
"""What botocore raises when the server does not answer, or stops in the middle."""
_PART_BYTES = 8 << 20


class _HealableError(Exception):
    """A failure that another attempt may heal: no answer, or an error of the server itself."""


def client(connection: Connection) -> Any:
    """A boto3 S3 client for the configured server; path-style addresses and v4 signatures, which every server takes."""
    return boto3.client(
        "s3",
        endpoint_url=connection.s3_endpoint,
        region_name=connection.s3_region,
        aws_access_key_id=connection.s3_access_key,
        aws_secret_access_key=connection.s3_secret_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=60,
            retries={"max_attempts": 2, "mode": "standard"},
        ),
    )


@contextmanager
def explained(connection: Connection, bucket: str | None = None) -> Iterator[None]:
    """Turn botocore's errors into `Psi0Error` with a remedy; a missing object stays a `FileNotFoundError`."""
    where, bucket = f"S3 at {connection.s3_endpoint}", bucket or connection.bucket
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code == "NoSuchBucket":
            raise Psi0Error(
                f"{where} has no bucket {bucket!r}; make it (`psi0 up` does, locally) or name another in PSI0_BUCKET"
            ) from None
        if code in _MISSING:
            raise FileNotFoundError(f"{where}: {error}") from None
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "Forbidden"):
            raise Psi0Error(
                f"{where} refuses the key ({code}); put the right one into PSI0_S3_ACCESS_KEY and PSI0_S3_SECRET_KEY"
            ) from None
        raise Psi0Error(f"{where} answered {code}: {error}") from None
    except CUT as error:
        raise Psi0Error(
            f"{where} does not answer ({type(error).__name__}); start it with `psi0 up`, or set PSI0_S3_ENDPOINT"
        ) from None
    except BotoCoreError as error:
        raise Psi0Error(f"{where}: {error}; check the PSI0_S3_* settings") from None


def healed(function: Callable[..., Result]) -> Callable[..., Result]:
    """Try up to three times what no answer or a server's own error (5xx) made fail; nothing else is repeated."""

    @retry(
        retry=retry_if_exception_type(_HealableError),
        stop=stop_after_attempt(3),
        wait=wait_exponential(0.3),
        reraise=True,
    )
    def attempt(*arguments: Any, **named: Any) -> Result:
        try:
            return function(*arguments, **named)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
                raise _HealableError from error
            raise
        except CUT as error:
            raise _HealableError from error

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Result:
        try:
            return attempt(*arguments, **named)
        except _HealableError as error:
            assert error.__cause__ is not None
            raise error.__cause__ from None

    return call


def ensure_bucket(connection: Connection) -> None:
    """Make the bucket where it is missing, and have the server keep old versions of objects where it can.

    A bucket whose versioning somebody suspended stays so; a server or a key that cannot switch it on is no error:
    then the history of channels is what the pointers say now.

    Raises:
        Psi0Error: the server is down or refuses the key.
    """
    s3 = client(connection)
    with explained(connection):
        try:
            healed(s3.head_bucket)(Bucket=connection.bucket)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in ("404", "NoSuchBucket", "NotFound"):
                raise
            s3.create_bucket(Bucket=connection.bucket)
        with suppress(ClientError):
            if "Status" not in s3.get_bucket_versioning(Bucket=connection.bucket):
                s3.put_bucket_versioning(Bucket=connection.bucket, VersioningConfiguration={"Status": "Enabled"})


def upload(s3: Any, path: Path, bucket: str, key: str, sha256: str) -> bool:
    """Upload a file (in parts when large, each with a checksum) unless the same one lies there. Returns whether it did.

    The SHA-256 travels as metadata, so that a later upload can tell; what lies there is checked by `read_sha256`.
    """
    head = _head(s3, bucket, key)
    if head is not None and head["ContentLength"] == path.stat().st_size and head["Metadata"].get("sha256") == sha256:
        return False
    healed(s3.upload_file)(
        str(path),
        bucket,
        key,
        ExtraArgs={"ChecksumAlgorithm": "CRC32", "Metadata": {"sha256": sha256}},
        Config=TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4),
    )
    return True


def _head(s3: Any, bucket: str, key: str) -> Any:
    try:
        return healed(s3.head_object)(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _MISSING:
            return None
        raise


def keys(s3: Any, bucket: str, prefix: str) -> dict[str, int]:
    """Every key below a prefix and its size [bytes]."""
    found: dict[str, int] = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        found.update({item["Key"]: item["Size"] for item in page.get("Contents", [])})
    return found


def read_bytes(s3: Any, bucket: str, key: str) -> tuple[bytes, str]:
    """A small object's content and its ETag."""

    def read() -> tuple[bytes, str]:
        answer = s3.get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), answer["ETag"]

    return healed(read)()


def read_sha256(s3: Any, bucket: str, key: str) -> str:
    """SHA-256 of an object's bytes as the server hands them out now."""

    def read() -> str:
        digest = hashlib.sha256()
        for chunk in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
            digest.update(chunk)
        return digest.hexdigest()

    return healed(read)()


def split_address(address: str) -> tuple[str, str]:
    """Split `s3://bucket/prefix` into (bucket, prefix without slashes around it). Raises `Psi0Error`."""
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    if not address.startswith("s3://") or not bucket:
        raise Psi0Error(f"{address!r} is not an S3 address; it looks like s3://bucket/prefix")
    return bucket, prefix.strip("/")
