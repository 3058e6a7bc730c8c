# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
s3fs.

The file system of fsspec, which pandas, Dask and others read and write with.
"""

from typing import ClassVar

from tests.cases import SyncCase
from tests.integration.clients.command import LibraryStory
from tests.integration.clients.story import PLAIN, SSE_C, SSE_S3

SETTINGS = """
```python
import s3fs

fs = s3fs.S3FileSystem(
    key="ACCESS_KEY",
    secret="SECRET_KEY",
    endpoint_url="http://127.0.0.1:9000",
)
```

`s3_additional_kwargs={"ServerSideEncryption": "AES256"}` asks for SSE-S3, and
`s3_additional_kwargs={"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}` for SSE-C with a
key of 32 bytes; copies need it once more, as `CopySourceSSECustomerAlgorithm` and
`CopySourceSSECustomerKey`.
"""


class S3FSTests(LibraryStory, SyncCase):
    """
    s3fs.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)
    name: ClassVar[str] = "s3fs"
    settings: ClassVar[str] = SETTINGS
