# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
AWS SDK for JavaScript 3.
"""

from typing import ClassVar

from tests.cases import SyncCase
from tests.integration.clients.story import PLAIN, SSE_C, SSE_S3
from tests.integration.clients.test_minio_js import NodeStory

SETTINGS = """
```js
const { S3Client } = require("@aws-sdk/client-s3");

const client = new S3Client({
  endpoint: "http://127.0.0.1:9000",
  forcePathStyle: true,
  region: "us-east-1",
  credentials: { accessKeyId: "ACCESS_KEY", secretAccessKey: "SECRET_KEY" },
});
```

SSE-C needs HTTPS. A certificate of your own is trusted with the environment variable
`NODE_EXTRA_CA_CERTS`.
"""


class AWSJSTests(NodeStory, SyncCase):
    """
    The SDK over HTTP, where it signs bodies.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)
    name: ClassVar[str] = "aws-js"
    settings: ClassVar[str] = SETTINGS


class AWSJSSecureTests(AWSJSTests):
    """
    The same over HTTPS, where checksums follow bodies.
    """

    secure: ClassVar[bool] = True
