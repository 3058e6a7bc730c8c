# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
minio-js.
"""

import subprocess
from pathlib import Path
from typing import ClassVar

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.clients.command import LibraryStory
from tests.integration.clients.document import block
from tests.integration.clients.story import BUCKET, CUSTOMER_KEY, PLAIN, SSE_C, SSE_S3
from tests.integration.server import base_environment

SETTINGS = """
```js
const Minio = require("minio");

const server = new URL("http://127.0.0.1:9000");
const client = new Minio.Client({
  endPoint: server.hostname,
  port: Number(server.port),
  useSSL: server.protocol === "https:",
  accessKey: "ACCESS_KEY",
  secretKey: "SECRET_KEY",
});
```

SSE-C needs HTTPS, and works for what goes in one part (`partSize`, 64 MiB by default), with
`getObject` rather than `fGetObject`. A certificate of your own is trusted with the environment
variable `NODE_EXTRA_CA_CERTS`.
"""

_SCRIPTS = Path(__file__).with_name("scripts")


class NodeStory(LibraryStory):
    """
    Lives through the story with a library for Node.
    """

    def prepare(self) -> None:
        """
        Find the library first: it is not there where Node is not.
        """
        self.modules = tools.client(self.name) / "node_modules"
        self.node = tools.require("node")

    def connect(self) -> None:
        """
        Start the script, and give it the settings.
        """
        environment = {**base_environment(), "NODE_PATH": str(self.modules)}
        if self.secure:
            environment["NODE_EXTRA_CA_CERTS"] = str(self.certificate)
        with (self.work / "said").open("wb") as errors:
            self.script = subprocess.Popen(
                [self.node, _SCRIPTS / f"use_{self.name.replace('-', '_')}.cjs"],
                env={**environment, "HOME": str(self.work), "AWS_MAX_ATTEMPTS": "1"},
                cwd=self.work,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.addCleanup(self.end)
        code = block(self.settings, self.server)
        self.ask("connect", code=code, bucket=BUCKET, customer_key=CUSTOMER_KEY.hex())


class MinioJSTests(NodeStory, SyncCase):
    """
    minio-js over HTTP, where it signs bodies.
    """

    name: ClassVar[str] = "minio-js"
    settings: ClassVar[str] = SETTINGS


class MinioJSSecureTests(MinioJSTests):
    """
    The same over HTTPS, where it does not.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)
    secure: ClassVar[bool] = True
