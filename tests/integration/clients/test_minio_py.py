# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
minio-py.
"""

import os
from pathlib import Path
from typing import Any, ClassVar

from tests.cases import SyncCase
from tests.integration.clients.document import block
from tests.integration.clients.story import (
    BUCKET,
    CUSTOMER_KEY,
    MIB,
    PLAIN,
    SSE_C,
    SSE_S3,
    ClientStory,
)

SETTINGS = """
```python
from minio import Minio

client = Minio(
    "127.0.0.1:9000",
    access_key="ACCESS_KEY",
    secret_key="SECRET_KEY",
    secure=False,
)
```

`secure=True` is HTTPS, without which minio-py refuses SSE-C. A certificate of your own is trusted
with the environment variable `SSL_CERT_FILE`.
"""


class MinioTests(ClientStory, SyncCase):
    """
    minio-py over HTTP, where it signs bodies.
    """

    def connect(self) -> None:
        """
        Make a client.
        """
        names: dict[str, Any] = {}
        code = block(SETTINGS, self.server)
        exec(code.replace("secure=False", f"secure={self.secure}"), names)
        self.client = names["client"]
        self.addCleanup(self.client._http.clear)

    def protection(self, kind: str) -> Any:
        """
        What a write says.
        """
        from minio.sse import SseCustomerKey, SseS3

        return {PLAIN: None, SSE_S3: SseS3(), SSE_C: SseCustomerKey(CUSTOMER_KEY)}[kind]

    def reading(self, kind: str) -> Any:
        """
        What a read says.
        """
        return self.protection(kind) if kind == SSE_C else None

    def make_bucket(self) -> None:
        """
        Make the bucket.
        """
        self.assertFalse(self.client.bucket_exists(bucket_name=BUCKET))
        self.client.make_bucket(bucket_name=BUCKET)

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.client.remove_bucket(bucket_name=BUCKET)

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Store a file, in parts if it is large.
        """
        self.client.fput_object(
            bucket_name=BUCKET,
            object_name=key,
            file_path=str(source),
            part_size=10 * MIB,
            sse=self.protection(kind),
        )

    def get(self, key: str, target: Path, kind: str) -> None:
        """
        Read into a file.
        """
        self.client.fget_object(
            bucket_name=BUCKET, object_name=key, file_path=str(target), ssec=self.reading(kind)
        )

    def get_range(self, key: str, first: int, last: int, kind: str) -> bytes | None:
        """
        Read a range.
        """
        answer = self.client.get_object(
            bucket_name=BUCKET,
            object_name=key,
            offset=first,
            length=last - first + 1,
            ssec=self.reading(kind),
        )
        found: bytes = answer.read()
        answer.close()
        return found

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List.
        """
        listed = self.client.list_objects(bucket_name=BUCKET, prefix=prefix, recursive=True)
        return {entry.object_name: entry.size for entry in listed}

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy.
        """
        from minio.commonconfig import CopySource

        self.client.copy_object(
            bucket_name=BUCKET,
            object_name=target,
            source=CopySource(bucket_name=BUCKET, object_name=source, ssec=self.reading(kind)),
            sse=self.protection(kind),
        )
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove all with one request.
        """
        from minio.deleteobjects import DeleteObject

        errors = self.client.remove_objects(
            bucket_name=BUCKET, delete_object_list=[DeleteObject(key) for key in keys]
        )
        self.assertEqual(list(errors), [])


class MinioSecureTests(MinioTests):
    """
    minio-py over HTTPS, where it does not sign bodies, and does SSE-C.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)
    secure: ClassVar[bool] = True

    def connect(self) -> None:
        """
        Trust the server.
        """
        os.environ["SSL_CERT_FILE"] = str(self.certificate)
        self.addCleanup(os.environ.pop, "SSL_CERT_FILE")
        super().connect()
