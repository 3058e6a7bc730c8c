# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
obstore.

``object_store`` of Rust, which Delta Lake, DataFusion and others read and write with.
"""

from typing import ClassVar

from tests.cases import SyncCase
from tests.integration.clients.command import LibraryStory
from tests.integration.clients.story import BUCKET, PLAIN, SSE_C, SSE_S3

SETTINGS = """
```python
from obstore.store import S3Store

store = S3Store(
    "BUCKET",
    endpoint="http://127.0.0.1:9000",
    access_key_id="ACCESS_KEY",
    secret_access_key="SECRET_KEY",
    region="us-east-1",
    virtual_hosted_style_request=False,
    client_options={"allow_http": True},
)
```

`server_side_encryption="AES256"` asks for SSE-S3; `server_side_encryption="sse-c"` for SSE-C with
the key that `sse_customer_key_base64` tells.
"""


class ObstoreTests(LibraryStory, SyncCase):
    """
    obstore, which makes no buckets.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)
    name: ClassVar[str] = "obstore"
    settings: ClassVar[str] = SETTINGS

    def make_bucket(self) -> None:
        """
        Make the bucket with boto3.
        """
        self.boto3.create_bucket(Bucket=BUCKET)

    def remove_bucket(self) -> None:
        """
        Remove the bucket with boto3.
        """
        self.boto3.delete_bucket(Bucket=BUCKET)

    def test_create(self) -> None:
        """
        What must be new is not overwritten; tables rely on it.
        """
        self.make_bucket()
        self.assertTrue(self.ask("create", key="log/1"))
        answer = self.boto3.get_object(Bucket=BUCKET, Key="log/1")
        self.assertEqual(answer["Body"].read(), b"once")
