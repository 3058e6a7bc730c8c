# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A site whose connections come over TLS, and what clients are told that speak plain HTTP to it.
"""

from typing import Any

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory

from kypello.http.framing import BadRequest
from kypello.http.site import StreamingSite


class _SecuredTransport(BufferingTLSTransport):
    """
    The server's end of TLS.

    :ivar _begun: Whether anything was received.
    :ivar _plain: Whether it was no TLS, but a request.
    """

    factory: "SecuredSite"
    transport: Any
    _begun = _plain = False

    def dataReceived(self, bytes: bytes) -> None:
        """
        Called by the transport: give it to TLS, which begins with a byte that no method has.
        """
        if not self._begun:
            self._begun, self._plain = True, bytes[:1].isupper()
            if self._plain:
                refused = BadRequest(400, "This port speaks HTTPS, and not HTTP.")
                self.transport.write(self.factory.site.refuse(refused, self.transport.getPeer()))
                # What else comes is taken, so that the answer is not lost, until the deadline of
                # a connection without requests.
                self.transport.loseWriteConnection()
        if not self._plain:
            super().dataReceived(bytes)


class SecuredSite(TLSMemoryBIOFactory):
    """
    TLS under the connections of a site.
    """

    protocol = _SecuredTransport

    def __init__(self, site: StreamingSite, tls: IOpenSSLServerConnectionCreator) -> None:
        """
        :param tls: Makes the connections of TLS.
        """
        super().__init__(tls, False, site)
        self.site = site
