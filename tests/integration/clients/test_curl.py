# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
curl.
"""

import shlex
from base64 import b64encode
from hashlib import md5
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote
from xml.etree import ElementTree

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.clients.command import CommandStory
from tests.integration.clients.document import block
from tests.integration.clients.story import BUCKET, CUSTOMER_KEY, PLAIN, SSE_C, SSE_S3

SETTINGS = """
```sh
curl --fail-with-body --aws-sigv4 aws:amz:us-east-1:s3 --user ACCESS_KEY:SECRET_KEY \\
    --header "x-amz-content-sha256: UNSIGNED-PAYLOAD" http://127.0.0.1:9000/
```

curl 7.76 or newer signs requests, and this header spares it the digest of the body. Older ones sign
a query as it is written: write its parameters in alphabetical order, and escape what is no letter.
`--upload-file FILE` stores a file, `--header "x-amz-server-side-encryption: AES256"` with SSE-S3.
"""

_NAMESPACE = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
_PREFIX = "x-amz-server-side-encryption"
_CUSTOMER = {
    "customer-algorithm": "AES256",
    "customer-key": b64encode(CUSTOMER_KEY).decode(),
    "customer-key-md5": b64encode(md5(CUSTOMER_KEY).digest()).decode(),
}
_PROTECTION = {
    PLAIN: {},
    SSE_S3: {_PREFIX: "AES256"},
    SSE_C: {f"{_PREFIX}-{name}": value for name, value in _CUSTOMER.items()},
}
_SOURCE = {
    f"x-amz-copy-source-server-side-encryption-{name}": value for name, value in _CUSTOMER.items()
}


class CurlTests(CommandStory, SyncCase):
    """
    ``curl --aws-sigv4``.
    """

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3, SSE_C)

    def prepare(self) -> None:
        """
        Find the program.
        """
        self.program = tools.client("curl")

    def connect(self) -> None:
        """
        Read the settings.
        """
        command = block(SETTINGS, self.server).replace("\\\n", "")
        _, *self.settings, self.root = shlex.split(command)

    def curl(self, *arguments: str | Path, key: str = "", query: str = "", **headers: str) -> bytes:
        """
        Send a request.
        """
        words = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
        url = f"{self.root}{BUCKET}/{quote(key)}{query}"
        return self.run_command(
            self.program, *self.settings, "--silent", "--show-error", *words, *arguments, url
        )

    def reading(self, kind: str) -> dict[str, str]:
        """
        What a read says.
        """
        return _PROTECTION[kind] if kind == SSE_C else {}

    def make_bucket(self) -> None:
        """
        Make the bucket.
        """
        self.curl("--request", "PUT")

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.curl("--request", "DELETE")

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Store a file.
        """
        self.curl("--upload-file", source, key=key, **_PROTECTION[kind])

    def get(self, key: str, target: Path, kind: str) -> None:
        """
        Read into a file.
        """
        self.curl("--output", target, key=key, **self.reading(kind))
        # Of an empty body it makes no file.
        target.touch()

    def get_range(self, key: str, first: int, last: int, kind: str) -> bytes | None:
        """
        Read a range.
        """
        return self.curl("--range", f"{first}-{last}", key=key, **self.reading(kind))

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List.
        """
        printed = self.curl(query=f"?list-type=2&prefix={quote(prefix, safe='')}")
        found = {}
        for entry in ElementTree.fromstring(printed).iterfind("s3:Contents", _NAMESPACE):
            key = entry.findtext("s3:Key", "", _NAMESPACE)
            found[key] = int(entry.findtext("s3:Size", "", _NAMESPACE))
        return found

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy.
        """
        headers = {"x-amz-copy-source": f"/{BUCKET}/{quote(source)}", **_PROTECTION[kind]}
        if kind == SSE_C:
            headers |= _SOURCE
        self.curl("--request", "PUT", key=target, **headers)
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove one after the other.
        """
        for key in keys:
            self.curl("--request", "DELETE", key=key)
