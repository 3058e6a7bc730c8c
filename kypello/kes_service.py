# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The key server put together.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kypello.errors import ConfigurationError, KypelloError
from kypello.http.listener import Listener
from kypello.http.site import StreamingSite
from kypello.http.tls import Clients, load
from kypello.kes.config import KeyServerConfig, parse_config
from kypello.kes.metrics import Counts
from kypello.kes.resource import KESResource
from kypello.kes.secrets import readable_by_all, with_open_keys
from kypello.kes.streams import Streams
from kypello.kes_hook import Hook
from kypello.kes_serving import Serving, Standing, repeat
from kypello.kes_trail import Trail
from kypello.keystore.fsconfig import FSSettings
from kypello.keystore.table import read_keystore
from kypello.store.lanes import Lanes

#: How often the files of TLS are looked at, in seconds.
RELOAD = 60.0

#: How long requests that are under way may take when the server stops, in seconds.
GRACE = 15.0

#: How often it is written down, and told, where the audit log stands; in seconds.
HEAD = 10.0
TOLD_HEAD = 3600.0

#: How often the audit log is sent to its webhook, in seconds.
SENT = 1.0

#: Threads for the key store and for files.
_THREADS = 4

_log = Logger()


def read_config(
    file: str, environment: Mapping[str, str], address: tuple[str, int] | None = None
) -> KeyServerConfig:
    """
    Read a configuration file of KES; blocking.

    :param environment: What ``${NAME}`` in it stands for.
    :param address: Where to listen instead of where it says.
    :raises ConfigurationError: It cannot be read, or holds mistakes.
    """
    try:
        text = Path(file).read_text("utf-8")
    except OSError as error:
        raise ConfigurationError((f"{file}: {error.strerror}",)) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError((f"{file}: is not UTF-8 text",)) from error
    config = evolve(parse_config(text, file, environment, read_keystore), file=Path(file))
    if address is not None:
        config = evolve(config, host=address[0], port=address[1], moved=True)
    wrong = [] if config.safety.readable_secrets else _readable(config)
    if wrong:
        raise ConfigurationError(tuple(wrong))
    return config


def _readable(config: KeyServerConfig) -> list[str]:
    wrong, keystore = readable_by_all(_secret_files(config)), config.keystore
    if isinstance(keystore, FSSettings) and keystore.passphrase is None:
        wrong += with_open_keys(keystore.path)
    return wrong


def _secret_files(config: KeyServerConfig) -> list[Path]:
    found = [config.tls.key]
    if config.secrets and config.file is not None:
        found.append(config.file)
    if config.safety.trail is not None and config.safety.trail.key_file is not None:
        found.append(config.safety.trail.key_file)
    return [*found, *config.keystore.secret_files]


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
        counts = Counts()
        self._streams = Streams(counts)
        born = reactor.seconds()
        self._trail = Trail(self._lanes.lane(), os.urandom)
        self._hook = Hook(reactor, self._lanes)
        self._standing = Standing(
            reactor, self._lanes, born, counts, self._streams, self._trail, self._hook
        )
        self._serving = Serving.make(self._standing, config)
        self._resource = KESResource(self._serving.front)
        # Every request is in the audit log, so that an access log would say it twice.
        site = StreamingSite(self._resource, reactor, access_log=False)
        self._listener = Listener(reactor, site, config.host, config.port, self._lanes, config.tls)
        self._started: Deferred[None] | None = None
        self._reloading: Deferred[None] | None = None
        self._again = False
        self._loops: list[LoopingCall] = []
        self._retired: dict[Serving, Any] = {}

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
        Use the configuration and its files as they are now.

        Requests that are under way end as they began, and connections stay.  When anything is
        wrong, that is logged and nothing changes.
        """
        if self._reloading is None:
            self._reloading = Deferred.fromCoroutine(self._reload())
            self._reloading.addBoth(self._reloaded)
        else:
            self._again = True
        return self._reloading

    async def _start(self) -> None:
        config = self._config
        _warn(config)
        loaded = await self._lanes.lane().run(load, config.tls)
        await self._trail.use(config.safety.trail)
        self._hook.use(config.safety.hook)
        await self._serving.prepare(loaded)
        await self._listener.listen(loaded)
        self._serving.start()
        for pause, call in (
            (self._reload_time, lambda: Deferred.fromCoroutine(self._listener.reload())),
            (HEAD, lambda: Deferred.fromCoroutine(self._trail.keep_head())),
            (TOLD_HEAD, self._trail.tell_head),
            (SENT, lambda: Deferred.fromCoroutine(self._hook.flush())),
        ):
            self._loops.append(repeat(self._reactor, pause, call))
        self._announce()
        self._ready()

    async def _stop(self) -> None:
        for working in (self._started, self._reloading):
            if working is not None:
                working.cancel()
        for loop in self._loops:
            loop.stop()
        self._loops.clear()
        self._streams.end()
        await self._listener.stop(GRACE)
        for serving, closing in self._retired.items():
            closing.cancel()
            await serving.stop()
        self._retired.clear()
        await self._serving.stop()
        # Behind the last request.
        await self._trail.close()
        await self._hook.close()
        await self._lanes.stop()

    async def _reload(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            try:
                await self._replace()
            except CancelledError:
                raise
            except KypelloError as error:
                _log.error(
                    "the new configuration is not used, the one before stays: {error}", error=error
                )
            except Exception:
                _log.failure("the new configuration is not used, the one before stays")

    async def _replace(self) -> None:
        file = self._config.file
        if file is None:
            await self._listener.reload()
            return
        if not self._loops:
            raise ConfigurationError((f"{file}: the server is still starting",))
        # It may have been moved away, whatever is wrong with the configuration.
        await self._trail.use(self._config.safety.trail)
        lane = self._lanes.lane()
        address = self._config.host, self._config.port
        moved = address if self._config.moved else None
        config = await lane.run(read_config, str(file), os.environ, moved)
        if (config.host, config.port) != address:
            raise ConfigurationError((f"{file}: a new address needs a restart",))
        loaded = await lane.run(load, config.tls)
        serving = Serving.make(self._standing, config)
        try:
            await serving.prepare(loaded)
            await self._trail.use(config.safety.trail)
        except BaseException:
            await serving.stop()
            raise
        self._hook.use(config.safety.hook)
        old, self._serving, self._config = self._serving, serving, config
        self._resource.front = serving.front
        self._listener.use(config.tls, loaded)
        serving.start()
        self._retire(old)
        _warn(config)
        _log.info("the configuration in {file} is in use", file=str(file))

    def _reloaded(self, result: Any) -> None:
        self._reloading = None
        if isinstance(result, Failure):
            # The server stops.
            result.trap(CancelledError)

    def _retire(self, serving: Serving) -> None:
        """
        Close what served before when all its calls must be over.
        """

        def close() -> None:
            del self._retired[serving]
            Deferred.fromCoroutine(serving.stop()).addErrback(
                lambda failure: _log.failure("a key store cannot be closed", failure)
            )

        self._retired[serving] = self._reactor.callLater(serving.longest_call() + 1.0, close)

    def _fail(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._failed(failure)

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


def _warn(config: KeyServerConfig) -> None:
    for warning in config.warnings:
        _log.warn("{text}", text=warning)
