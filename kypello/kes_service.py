# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The key server put together.
"""

import os
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
)
from twisted.python.failure import Failure

from kypello.errors import ConfigurationError, KypelloError
from kypello.http.request import StreamingRequest
from kypello.http.site import StreamingSite
from kypello.http.tls import Clients, ServerTLS, load
from kypello.http.transport import StreamingEndpoint
from kypello.kes.audit import Audit
from kypello.kes.cache import KeyCache
from kypello.kes.config import KeyServerConfig, parse_config
from kypello.kes.identity import identity_of, peer_certificates
from kypello.kes.keyring import Keyring
from kypello.kes.operations import Operations
from kypello.kes.resource import Front, KESResource
from kypello.keystore.fs import FSKeyStore
from kypello.store.lanes import Lanes

#: How often the files of TLS are looked at, in seconds.
RELOAD = 60.0

#: How long requests that are under way may take when the server stops, in seconds.
GRACE = 15.0

#: Threads for the key store and for files.
_THREADS = 4

_log = Logger()


def read_config(file: str, environment: Mapping[str, str]) -> KeyServerConfig:
    """
    Read a configuration file of KES; blocking.

    :param environment: What ``${NAME}`` in it stands for.
    :raises ConfigurationError: It cannot be read, or holds mistakes.
    """
    try:
        text = Path(file).read_text("utf-8")
    except OSError as error:
        raise ConfigurationError((f"{file}: {error.strerror}",)) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError((f"{file}: is not UTF-8 text",)) from error
    return parse_config(text, file, environment)


def make_key_server(
    reactor: Any,
    config: KeyServerConfig,
    failed: Callable[[Failure], None] | None = None,
) -> IService:
    """
    A key server that begins to listen when its keys are there.

    :param failed: Called when it cannot start; by default that is logged, and the reactor is
        stopped.
    """

    def stop(failure: Failure) -> None:
        log_failed_start(failure)
        reactor.stop()

    service: IService = KeyServer(reactor, config, failed or stop)
    return service


def log_failed_start(failure: Failure) -> None:
    """
    Tell why a key server cannot start, in one line unless it is a defect.
    """
    if failure.check(KypelloError, CannotListenError):
        _log.critical("the key server cannot start: {error}", error=failure.value)
    else:
        _log.failure("the key server cannot start", failure)


class KeyServer(Service):
    """
    A key server as a service.
    """

    def __init__(
        self,
        reactor: Any,
        config: KeyServerConfig,
        failed: Callable[[Failure], None],
        reload: float = RELOAD,
    ) -> None:
        """
        Put the parts together.

        :param failed: Called when it cannot start.
        :param reload: How often the files of TLS are looked at, in seconds.
        """
        self._reload_time = reload
        self._reactor = reactor
        self._config = config
        self._failed = failed
        self._lanes = Lanes(reactor, _THREADS)
        self._store = FSKeyStore(config.directory, self._lanes, reactor, os.urandom)
        self._cache = KeyCache(reactor, config.expiry)
        self._keys = Keyring(self._store, self._cache, os.urandom, time.time)
        self._started: Deferred[None] | None = None
        self._port: IListeningPort | None = None
        self._site: StreamingSite | None = None
        self._loops: list[LoopingCall] = []

    def startService(self) -> None:
        """
        Called by Twisted: begin to start.
        """
        Service.startService(self)
        self._lanes.start()
        self._started = Deferred.fromCoroutine(self._start())
        self._started.addErrback(self._fail)

    def stopService(self) -> "Deferred[None]":
        """
        Called by Twisted: stop listening, and finish what is under way.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        config = self._config
        for warning in config.warnings:
            _log.warn("{warning}", warning=warning)
        await self._store.prepare()
        tls = ServerTLS(await self._lanes.lane().run(load, config.tls))
        for name in config.keys:
            await self._keys.ensure(name, config.access.admin)
        endpoint = StreamingEndpoint(self._reactor, config.port, config.host, tls)
        self._site = self._make_site()
        self._port = await endpoint.listen(self._site)
        self._repeat(max(1.0, min(config.expiry.any, config.expiry.unused) / 2), self._cache.sweep)
        self._repeat(self._reload_time, lambda: Deferred.fromCoroutine(self._reload(tls)))
        self._announce()

    async def _stop(self) -> None:
        if self._started is not None:
            self._started.cancel()
        for loop in self._loops:
            loop.stop()
        self._loops.clear()
        if self._port is not None:
            port, self._port = self._port, None
            await maybeDeferred(port.stopListening)
        if self._site is not None:
            await self._site.drain(GRACE)
        await self._store.close()
        await self._lanes.stop()

    def _fail(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._failed(failure)

    def _make_site(self) -> StreamingSite:
        config, reactor = self._config, self._reactor
        operations = Operations(
            self._keys, config.access, _version(), os.urandom, reactor, time.time
        )
        front = Front(
            operations,
            config.access,
            _identify,
            Audit(
                _logger("kypello.kes.audit", LogLevel.info if config.audit else LogLevel.critical)
            ),
            _logger("kypello.kes", _level(config.error_level)),
            reactor,
            time.time,
        )
        # Every request is in the audit log, so that an access log would say it twice.
        return StreamingSite(KESResource(front), reactor, access_log=False)

    def _repeat(self, seconds: float, call: Callable[[], object]) -> None:
        loop = LoopingCall(call)
        loop.clock = self._reactor
        loop.start(seconds, now=False).addErrback(
            lambda failure: _log.failure("a repeated call has ended", failure)
        )
        self._loops.append(loop)

    async def _reload(self, tls: ServerTLS) -> None:
        try:
            loaded = await self._lanes.lane().run(load, self._config.tls, tls.loaded)
        except KypelloError as error:
            # The key is replaced and the certificate not yet, or the other way round.
            _log.error("the new TLS files are not used: {error}", error=error)
            return
        except Exception:
            # Whatever it is, the next round tries again.
            _log.failure("the TLS files cannot be looked at")
            return
        if loaded is not tls.loaded:
            tls.loaded = loaded
            _log.info("the TLS files have changed and are in use")

    def _announce(self) -> None:
        config = self._config
        _log.info(
            "key server on {host}:{port}, keys in {directory}, administrator {admin}",
            host=config.host or "0.0.0.0",  # noqa: S104
            port=config.port,
            directory=config.directory,
            admin=config.access.admin,
        )
        if config.tls.clients is Clients.KNOWN_BY_KEY:
            _log.info(
                "clients are known by their keys alone: neither the issuer nor the dates of their"
                " certificates are checked (tls.auth: off)"
            )


def _identify(request: StreamingRequest) -> str:
    channel: Any = request.channel
    return identity_of(peer_certificates(channel.transport.getHandle()))


def _level(level: int) -> Any:
    # Go counts in steps of four; whatever lies between belongs to the next one.
    levels = ((-4, LogLevel.debug), (0, LogLevel.info), (4, LogLevel.warn), (8, LogLevel.error))
    return next((known for number, known in levels if level <= number), LogLevel.critical)


def _logger(namespace: str, level: Any) -> Logger:
    least = LogLevelFilterPredicate(defaultLogLevel=level)
    return Logger(namespace, observer=FilteringLogObserver(globalLogPublisher, [least]))


def _version() -> str:
    try:
        return installed_version("kypello")
    except PackageNotFoundError:
        return "unknown"
