# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Whether a target can be reached.
"""

from typing import Any

from attrs import frozen
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import URI

#: How long it may take to take a connection until it counts as away, in seconds.
PATIENCE = 3.0


@frozen(eq=False)
class Target:
    """
    A target, for those who look after the server.

    :ivar name: As in the configuration.
    :ivar arn: As rules of buckets name it.
    """

    name: str
    arn: str
    _endpoint: str
    _reactor: Any

    async def reachable(self) -> bool:
        """
        Whether it takes connections; nothing is sent over one.
        """
        uri = URI.fromBytes(self._endpoint.encode("ascii"))
        endpoint = HostnameEndpoint(self._reactor, uri.host, uri.port, timeout=PATIENCE)
        try:
            factory = Factory.forProtocol(Protocol)
            factory.noisy = False
            protocol = await endpoint.connect(factory)
        except (ConnectError, DNSLookupError):
            return False
        protocol.transport.abortConnection()  # type: ignore[attr-defined]  # it is a Protocol
        return True
