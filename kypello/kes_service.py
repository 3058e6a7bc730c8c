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

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
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
from kypello.http.listener import Listener
from kypello.http.request import StreamingRequest
from kypello.http.site import StreamingSite
from kypello.http.tls import Clients, load, peer_certificates
from kypello.kes.audit import Audit
from kypello.kes.cache import KeyCache
from kypello.kes.config import KeyServerConfig, parse_config
from kypello.kes.identity import identity_of
from kypello.kes.keyring import Keyring
from kypello.kes.operations import Operations
from kypello.kes.resource import Front, KESResource
from kypello.keystore.table import Parts, make_keystore, read_keystore
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
    return parse_config(text, file, environment, read_keystore)


def make_key_server(
    reactor: Any,
    config: KeyServerConfig,
    failed: Callable[[Failure], None] | None = None,
    started: Callable[[], None] = lambda: None,
) -> "KeyServer":
    """
    A key server that begins to listen when its keys are there.

    :param failed: Called when it cannot start; by default that is logged, and the reactor is
        stopped.
    :param started: Called when it listens.
    """

    def stop(failure: Failure) -> None:
        log_failed_start(failure)
        reactor.stop()

    return KeyServer(reactor, config, failed or stop, started=started)


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
        started: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Put the parts together.

        :param failed: Called when it cannot start.
        :param reload: How often the files of TLS are looked at, in seconds.
        :param started: Called when it listens.
        """
        self._ready = started
        self._reload_time = reload
        self._reactor = reactor
        self._config = config
        self._failed = failed
        self._lanes = Lanes(reactor, _THREADS)
        self._store = make_keystore(config.keystore, Parts(reactor, self._lanes, os.urandom))
        self._cache = KeyCache(reactor, config.expiry)
        self._keys = Keyring(self._store, self._cache, os.urandom, time.time)
        self._started: Deferred[None] | None = None
        self._listener = Listener(
            reactor, self._make_site(), config.host, config.port, self._lanes, config.tls
        )
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

    def reload(self) -> "Deferred[None]":
        """
        Use the TLS files as they are now.
        """
        return Deferred.fromCoroutine(self._listener.reload())

    async def _start(self) -> None:
        config = self._config
        for warning in config.warnings:
            _log.warn("{text}", text=warning)
        await self._store.prepare()
        loaded = await self._lanes.lane().run(load, config.tls)
        for name in config.keys:
            await self._keys.ensure(name, config.access.admin)
        await self._listener.listen(loaded)
        self._repeat(max(1.0, min(config.expiry.any, config.expiry.unused) / 2), self._cache.sweep)
        self._repeat(self._reload_time, self.reload)
        self._announce()
        self._ready()

    async def _stop(self) -> None:
        if self._started is not None:
            self._started.cancel()
        for loop in self._loops:
            loop.stop()
        self._loops.clear()
        await self._listener.stop(GRACE)
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

    def _announce(self) -> None:
        config = self._config
        _log.info(
            "key server on {host}:{port}, keys in {keystore}, administrator {admin}",
            host=config.host or "0.0.0.0",  # noqa: S104
            port=config.port,
            keystore=config.keystore.where,
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
