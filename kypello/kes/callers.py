# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
From a connection, and what a proxy tells on it, to who sends a request.
"""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from attrs import define, field
from OpenSSL import SSL

from kypello.http.request import StreamingRequest
from kypello.http.tls import TLSFiles, is_trusted, peer_certificates, verifies
from kypello.kes.identity import identity_of
from kypello.kes.proxy import REFUSED, Caller, Proxies, Untrusted, caller_behind


@define(eq=False)
class Callers:
    """
    Tells who sends a request.

    :ivar context: Has the authorities of clients, for what was not verified in the handshake: a
        certificate that a proxy tells, and a connection from before these files were in use.
    :ivar _known: The identities of connections, which never change: renegotiation is off.
    """

    _proxies: Proxies
    _files: TLSFiles
    context: SSL.Context | None = None
    _known: WeakKeyDictionary[Any, str] = field(factory=WeakKeyDictionary)

    def identify(self, request: StreamingRequest) -> Caller:
        """
        Who sends *request*.

        :raises NoIdentity: Nobody knows.
        """
        channel: Any = request.channel
        connection = channel.transport.getHandle()
        identity = self._known.get(connection)
        if identity is None:
            identity = self._known[connection] = self._identity(connection)
        if identity not in self._proxies.identities:
            return Caller(identity)
        headers = request.head.headers
        told = [value for name, value in headers if name == self._proxies.header]
        forwarded = next((value for name, value in headers if name == "x-forwarded-for"), "")
        return caller_behind(told, forwarded, lambda found: self._trusts([found]))

    def _identity(self, connection: Any) -> str:
        found = peer_certificates(connection)
        identity = identity_of(found)
        if not verifies(connection, self._files) and not self._trusts(found):
            raise Untrusted(REFUSED)
        return identity

    def _trusts(self, certificates: Sequence[bytes]) -> bool:
        if not self._files.verify:
            return True
        return self.context is not None and is_trusted(self.context, certificates)
