# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
PyArrow.

The S3 file system of Arrow, on the AWS SDK for C++.
"""

from typing import ClassVar

from tests.cases import SyncCase
from tests.integration.clients.command import LibraryStory

SETTINGS = """
```python
from pyarrow.fs import S3FileSystem

s3 = S3FileSystem(
    endpoint_override="http://127.0.0.1:9000",
    access_key="ACCESS_KEY",
    secret_key="SECRET_KEY",
    region="us-east-1",
    allow_bucket_creation=True,
    allow_bucket_deletion=True,
)
```

It cannot ask for encryption: let the bucket do, with `mc encrypt set sse-s3`.
"""


class ArrowTests(LibraryStory, SyncCase):
    """
    The S3 file system of Arrow.
    """

    name: ClassVar[str] = "pyarrow"
    settings: ClassVar[str] = SETTINGS
    by_default: ClassVar[bool] = True
