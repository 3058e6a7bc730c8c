# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A site on a port, with TLS files that may change while it is served.
"""

import os
from typing import Any

from attrs import define, field
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger

from kypello.errors import KypelloError
from kypello.http.balance import Balance
from kypello.http.outlet import Outlet, outlet_for
from kypello.http.port import InheritedEndpoint, StreamingEndpoint
from kypello.http.secured import SecuredSite
from kypello.http.site import StreamingSite
from kypello.http.tls import ServerTLS, TLSFiles, load
from kypello.interfaces import ILanes
from kypello.pemfiles import Loaded

_log = Logger()


@define(eq=False)
class Listener:
    """
    Serves a site.

    :ivar _port: ``0`` for a free one.
    :ivar _host: An address of this machine; empty for all.
    :ivar _files: What TLS is made of; ``None`` for plain TCP.
    :ivar _socket: The descriptor of a socket that listens already, and is shared with other
        processes; ``-1`` to open one.  It is closed at the end: clients are refused when all
        processes have closed theirs.
    :ivar _balance: Shares what comes there among them.
    """

    _reactor: Any
    _site: StreamingSite
    _host: str
    _port: int
    _lanes: ILanes
    _files: TLSFiles | None = None
    _socket: int = -1
    _balance: Balance | None = None
    _tls: ServerTLS | None = field(init=False, default=None)
    _listening: IListeningPort | None = field(init=False, default=None)
    _outlet: Outlet | None = field(init=False, default=None)

    @property
    def port(self) -> int:
        """
        The port that is listened on.
        """
        assert self._listening is not None
        address: Any = self._listening.getHost()
        number: int = address.port
        return number

    async def listen(self, loaded: Loaded | None = None) -> None:
        """
        Begin to listen.

        :param loaded: What has been read of the TLS files already.
        :raises ConfigurationError: The TLS files cannot be used.
        :raises twisted.internet.error.CannotListenError: The port is taken, or not allowed.
        """
        if self._files is not None:
            if loaded is None:
                loaded = await self._lanes.lane().run(load, self._files)
            self._tls = ServerTLS(loaded)
        else:
            # TLS makes what it sends in the reactor's thread, piece by piece.
            self._outlet = outlet_for(self._reactor)
        endpoint: IStreamServerEndpoint
        if self._socket < 0:
            endpoint = StreamingEndpoint(self._reactor, self._port, self._host, self._outlet)
        else:
            endpoint = InheritedEndpoint(self._reactor, self._socket, self._balance, self._outlet)
        site = self._site if self._tls is None else SecuredSite(self._site, self._tls)
        self._listening = await endpoint.listen(site)

    async def reload(self) -> None:
        """
        Use the TLS files as they are now, for connections that come from now on.

        Files that cannot be used are logged, and those before stay in use: perhaps the key is
        replaced and the certificate not yet.
        """
        if self._files is None or self._tls is None:
            return
        try:
            loaded = await self._lanes.lane().run(load, self._files, self._tls.loaded)
        except KypelloError as error:
            _log.error("the new TLS files are not used: {error}", error=error)
            return
        except Exception:
            # Whatever it is, the next round tries again.
            _log.failure("the TLS files cannot be looked at")
            return
        if loaded is not self._tls.loaded:
            self._tls.loaded = loaded
            _log.info("the TLS files have changed and are in use")

    def use(self, files: TLSFiles, loaded: Loaded) -> None:
        """
        Use other TLS files, for connections that come from now on.

        :param loaded: What was read from them.
        """
        assert self._tls is not None
        self._files, self._tls.loaded = files, loaded

    async def retire(self) -> None:
        """
        Leave new connections to other processes, and answer one more request on each that is here.
        """
        self._site.retire()
        if self._balance is not None:
            self._balance.leave()
        await self._refuse()

    async def stop(self, grace: float) -> None:
        """
        Accept no more connections, and let the requests that are under way end.

        :param grace: How long they may take, in seconds.
        """
        await self._refuse()
        await self._site.drain(grace)
        if self._outlet is not None:
            self._outlet.close()

    async def _refuse(self) -> None:
        if self._listening is not None:
            port, self._listening = self._listening, None
            await maybeDeferred(port.stopListening)
            if self._socket >= 0:
                os.close(self._socket)
