# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How a server is reached, by a reactor that connects to nobody.
"""

from typing import Any

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.web.client import URI, BrowserLikePolicyForHTTPS

from kypello.kms.handshake import NotConnected, ProvedEndpoints
from tests.cases import SyncCase


class RefusedTests(SyncCase):
    """
    Servers that refuse connections.
    """

    def test_address(self) -> None:
        """
        That an address refuses is known as soon as it has: no time has to pass.
        """
        for url in (b"https://192.0.2.1:7373/", b"https://[2001:db8::1]:7373/"):
            reactor: Any = MemoryReactorClock()
            policy = BrowserLikePolicyForHTTPS()
            endpoints = ProvedEndpoints(reactor, policy, set(), lambda: None)
            endpoint = endpoints.endpointForURI(URI.fromBytes(url))
            connecting = endpoint.connect(Factory.forProtocol(Protocol))
            ((_host, _port, factory, *_more),) = reactor.tcpClients
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
            failure = self.failureResultOf(connecting, NotConnected)
            self.assertIsInstance(failure.value.cause, ConnectionRefusedError)
