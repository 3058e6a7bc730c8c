# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The front as if over TLS, for requests that bring keys along.
"""

from base64 import b64encode
from hashlib import md5
from typing import Any

from twisted.internet.address import IPv4Address

from kypello.http.channel import StreamingChannel
from tests.s3.front import FrontCase

SSE = "x-amz-server-side-encryption"
SOURCE_SSE = "x-amz-copy-source-server-side-encryption"


def customer(key: bytes = b"k" * 32, prefix: str = SSE) -> dict[str, str]:
    """
    The headers that bring a key along.

    :param prefix: :data:`SOURCE_SSE` for that of a copy source.
    """
    return {
        f"{prefix}-customer-algorithm": "AES256",
        f"{prefix}-customer-key": b64encode(key).decode(),
        f"{prefix}-customer-key-MD5": b64encode(md5(key).digest()).decode(),
    }


class SecureChannel(StreamingChannel):
    """
    A connection that takes itself for one over TLS.
    """

    def isSecure(self) -> bool:
        """
        Called by the request.
        """
        return True


class LoopbackChannel(StreamingChannel):
    """
    A connection from this machine.
    """

    def getPeer(self) -> IPv4Address:
        """
        Called by the request.
        """
        return IPv4Address("TCP", "127.0.0.1", 40000)


class SecureCase(FrontCase):
    """
    A test of the front over TLS.
    """

    def serve(self, **options: Any) -> None:
        """
        Start over.
        """
        super().serve(**options)
        self.harness.site.protocol = SecureChannel
