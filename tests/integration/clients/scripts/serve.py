# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Does what a story asks for, on standard input, with a client in a Python of its own.
"""

import json
import sys
from typing import Any


class Client:
    """
    The operations of a story, by the names that ``ClientStory`` has for them; what a client
    cannot is ``None``.

    :ivar names: What the settings define.
    :ivar bucket: The bucket of the story.
    :ivar customer_key: The key of SSE-C.
    """

    def connect(self, code: str, bucket: str, customer_key: str) -> None:
        """
        Run the settings.
        """
        self.names: dict[str, Any] = {}
        exec(code, self.names)
        self.bucket = bucket
        self.customer_key = bytes.fromhex(customer_key)

    def get_range(self, key: str, first: int, last: int, kind: str) -> str | None:
        """
        Cannot.
        """

    def copy(self, source: str, target: str, kind: str) -> bool | None:
        """
        Cannot.
        """

    def sync(self, folder: str, prefix: str, kind: str) -> bool | None:
        """
        Cannot.
        """


def serve(client: Client) -> None:
    """
    Answer until there are no more questions; an error ends everything.
    """
    for line in sys.stdin:
        operation, arguments = json.loads(line)
        print(json.dumps(getattr(client, operation)(**arguments)), flush=True)
