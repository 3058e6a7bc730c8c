# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
boto3.
"""

import os
from pathlib import Path
from typing import Any, ClassVar

from tests.cases import SyncCase
from tests.integration.clients.document import block
from tests.integration.clients.story import BUCKET, CUSTOMER_KEY, PLAIN, SSE_C, SSE_S3, ClientStory

SETTINGS = """
```python
import boto3

s3 = boto3.client(
    "s3",
    endpoint_url="http://127.0.0.1:9000",
    aws_access_key_id="ACCESS_KEY",
    aws_secret_access_key="SECRET_KEY",
    region_name="us-east-1",
)
```

A certificate of your own is trusted with `verify="/path/to/public.crt"`, or with the environment
variable `AWS_CA_BUNDLE`.
"""

_ARGUMENTS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    SSE_S3: {"ServerSideEncryption": "AES256"},
    SSE_C: {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": CUSTOMER_KEY},
}


class Boto3Tests(ClientStory, SyncCase):
    """
    The newest boto3, with its managed transfers, over HTTP: it signs bodies.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)

    def connect(self) -> None:
        """
        Make a client that trusts the server, and does not try again.
        """
        for name, value in (("AWS_CA_BUNDLE", str(self.certificate)), ("AWS_MAX_ATTEMPTS", "1")):
            os.environ[name] = value
            self.addCleanup(os.environ.pop, name)
        names: dict[str, Any] = {}
        exec(block(SETTINGS, self.server), names)
        self.s3 = names["s3"]
        self.addCleanup(self.s3.close)

    def reading(self, kind: str) -> dict[str, Any]:
        """
        What a read says.
        """
        return _ARGUMENTS[kind] if kind == SSE_C else {}

    def make_bucket(self) -> None:
        """
        Make the bucket.
        """
        self.s3.create_bucket(Bucket=BUCKET)

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.s3.delete_bucket(Bucket=BUCKET)

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Upload a file, in parts if it is large.
        """
        self.s3.upload_file(str(source), BUCKET, key, ExtraArgs=_ARGUMENTS[kind])

    def get(self, key: str, target: Path, kind: str) -> None:
        """
        Download to a file, in ranges if it is large.
        """
        self.s3.download_file(BUCKET, key, str(target), ExtraArgs=self.reading(kind))

    def get_range(self, key: str, first: int, last: int, kind: str) -> bytes | None:
        """
        Read a range.
        """
        got = self.s3.get_object(
            Bucket=BUCKET, Key=key, Range=f"bytes={first}-{last}", **self.reading(kind)
        )
        found: bytes = got["Body"].read()
        return found

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List all pages.
        """
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy, in parts if it is large.
        """
        arguments = dict(_ARGUMENTS[kind])
        if kind == SSE_C:
            arguments |= {
                "CopySourceSSECustomerAlgorithm": "AES256",
                "CopySourceSSECustomerKey": CUSTOMER_KEY,
            }
        self.s3.copy({"Bucket": BUCKET, "Key": source}, BUCKET, target, ExtraArgs=arguments)
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove all with one request.
        """
        answer = self.s3.delete_objects(
            Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]}
        )
        self.assertEqual(answer.get("Errors", []), [])


class Boto3SecureTests(Boto3Tests):
    """
    The same over HTTPS, where checksums follow the bodies.
    """

    secure: ClassVar[bool] = True
