# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
boto3 of 2024.

Before 1.36 it sends Content-MD5 only where it must, and checksums only when asked to.
"""

from typing import ClassVar

from tests.cases import SyncCase
from tests.integration.clients.command import LibraryStory
from tests.integration.clients.story import PLAIN, SSE_C, SSE_S3

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
"""


class Boto3Of2024Tests(LibraryStory, SyncCase):
    """
    boto3 of 2024.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)
    name: ClassVar[str] = "boto3-2024"
    settings: ClassVar[str] = SETTINGS


class Boto3Of2024SecureTests(Boto3Of2024Tests):
    """
    The same over HTTPS, where it does not sign bodies.
    """

    secure: ClassVar[bool] = True
