# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key server with one configuration: what a reload replaces.
"""

import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    globalLogPublisher,
)

from kypello.interfaces import IKeyStore, ILanes
from kypello.kes.audit import Audit
from kypello.kes.cache import KeyCache
from kypello.kes.callers import Callers
from kypello.kes.config import KeyServerConfig
from kypello.kes.keyring import Keyring
from kypello.kes.limits import RateLimiter
from kypello.kes.metrics import Counts, Numbers
from kypello.kes.operations import About, Operations
from kypello.kes.resource import Front
from kypello.kes.routes import configured_routes, tell_routes
from kypello.kes.streams import Streams
from kypello.kes_hook import Hook
from kypello.kes_trail import Trail
from kypello.keystore.table import Parts, make_keystore
from kypello.monitor.text import CONTENT_TYPE, Family, render
from kypello.pemfiles import Loaded

#: How often it is looked whether the key store answers, where keys serve on without it; in seconds.
LOOK = 10.0

_log = Logger()


@frozen
class Standing:
    """
    What stays when the configuration changes.

    :ivar born: When the server began, in seconds of the clock.
    """

    reactor: Any
    lanes: ILanes
    born: float
    counts: Counts
    streams: Streams
    trail: Trail
    hook: Hook

    def record(self, text: str) -> None:
        """
        Have a record of the audit log kept, where that is configured.
        """
        self.hook.tell(self.trail.write(text))


@define(eq=False)
class Serving:
    """
    A front over a key store, with what goes on beside requests.

    :ivar front: Serves requests.
    :ivar _loops: What is done again and again.
    """

    _standing: Standing
    _config: KeyServerConfig
    front: Front
    _callers: Callers
    _keys: Keyring
    _cache: KeyCache
    _store: IKeyStore
    _loops: list[LoopingCall] = field(factory=list)

    @classmethod
    def make(cls, standing: Standing, config: KeyServerConfig) -> "Serving":
        """
        Put the parts together; nothing is asked before :meth:`prepare`.
        """
        reactor = standing.reactor
        store = make_keystore(config.keystore, Parts(reactor, standing.lanes, os.urandom))
        cache = KeyCache(reactor, config.expiry, config.safety.cached_keys)
        keys = Keyring(store, cache, os.urandom, time.time)
        routes = configured_routes(config.calls)
        about = About(
            _version(),
            standing.born,
            lambda: tell_routes(routes),
            standing.counts,
            standing.streams,
            _rendered,
            config.safety.confirmed_deletion,
        )
        streams = standing.streams
        audit_level = LogLevel.info if config.audit else LogLevel.critical
        callers = Callers(config.proxies, config.tls)
        known = frozenset({*config.access.policies, config.access.admin})
        front = Front(
            Operations(keys, config.access, about, os.urandom, reactor, time.time),
            config.access,
            routes,
            RateLimiter(config.safety.limits, known, reactor),
            callers.identify,
            Audit(
                _logger("kypello.kes.audit", audit_level, streams.audit, LogLevel.info),
                standing.record,
            ),
            _logger("kypello.kes", level := _level(config.error_level), streams.error, level),
            standing.counts,
            reactor,
            time.time,
        )
        return cls(standing, config, front, callers, keys, cache, store)

    async def prepare(self, loaded: Loaded) -> None:
        """
        Make the key store ready, and the keys that there have to be.

        :param loaded: What was read of the TLS files.
        :raises KypelloError: The key store cannot be used.
        """
        self._callers.context = loaded.context
        await self._store.prepare()
        for name in self._config.keys:
            await self._keys.ensure(name, self._config.access.admin)

    def start(self) -> None:
        """
        Begin with what goes on beside requests.
        """
        expiry = self._config.expiry
        self._repeat(max(1.0, min(expiry.any, expiry.unused) / 2), self._cache.sweep)
        if expiry.offline:
            # It ends before the next begins, however long the key store takes.
            self._repeat(LOOK, lambda: Deferred.fromCoroutine(self._keys.look()))

    async def stop(self) -> None:
        """
        End it, and leave the key store.
        """
        for loop in self._loops:
            loop.stop()
        self._loops.clear()
        await self._store.close()

    def longest_call(self) -> float:
        """
        How long a call can take, in seconds.
        """
        return max(route.timeout for route in self.front.routes)

    def _repeat(self, seconds: float, call: Callable[[], object]) -> None:
        self._loops.append(repeat(self._standing.reactor, seconds, call))


def repeat(reactor: Any, seconds: float, call: Callable[[], object]) -> LoopingCall:
    """
    Do something again and again.
    """
    loop = LoopingCall(call)
    loop.clock = reactor
    loop.start(seconds, now=False).addErrback(
        lambda failure: _log.failure("a repeated call has ended", failure)
    )
    return loop


def _rendered(numbers: Sequence[Numbers]) -> tuple[str, bytes]:
    return CONTENT_TYPE, render((Family(*each) for each in numbers), {})


def _level(level: int) -> Any:
    # Go counts in steps of four; whatever lies between belongs to the next one.
    levels = ((-4, LogLevel.debug), (0, LogLevel.info), (4, LogLevel.warn), (8, LogLevel.error))
    return next((known for number, known in levels if level <= number), LogLevel.critical)


def _logger(namespace: str, level: Any, follow: Callable[[Any], None], follow_level: Any) -> Logger:
    """
    A logger to the log of the process, from one level on, and to clients, from another.
    """
    return Logger(
        namespace,
        observer=LogPublisher(_from(follow_level, follow), _from(level, globalLogPublisher)),
    )


def _from(level: Any, observer: Any) -> ILogObserver:
    return FilteringLogObserver(observer, [LogLevelFilterPredicate(defaultLogLevel=level)])


def _version() -> str:
    try:
        return installed_version("kypello")
    except PackageNotFoundError:
        return "unknown"
