# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The client of the key servers put together.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kypello.crypto.randomness import Random
from kypello.errors import KypelloError
from kypello.interfaces import IKMS, ILanes
from kypello.kms.agent import KESAgent
from kypello.kms.connections import PooledAgent
from kypello.kms.endpoints import Endpoint, Patience
from kypello.kms.failover import Admit, FailoverAgent
from kypello.kms.proofs import Proofs, Prove
from kypello.kms.tls import ClientTLS, Loaded, expired, load
from kypello.kms.troubles import Troubles
from kypello.kms.wire import key_path, repeatable
from kypello.kmsconfig import KESSettings

#: How often the files are looked at, in seconds.
RELOAD = 60.0

#: How often servers have to prove that they hold the default master key, unless they have since
#: they were last away, in seconds.
SURVEY = 30.0

#: How long such a proof is good for at most, in seconds: a server may get other keys without that
#: its connections break.
PROOF = 300.0

_log = Logger()


def connect(
    reactor: Any,
    settings: KESSettings,
    loaded: Loaded,
    lanes: ILanes,
    random: Random,
    troubles: int = -1,
) -> "KESClient":
    """
    A client of key servers; connects to nobody before it is started and asked.

    :param loaded: What ``tls.load`` made of *settings*.
    :param troubles: Where processes with the same settings tell each other what is wrong with key
        servers; ``-1`` for a process that is alone.
    """
    return KESClient(reactor, settings, loaded, lanes, random, troubles=troubles)


class KESClient(Service):
    """
    A key service on other machines.

    :ivar kms: The key service.  Its calls fail with :class:`KMSUnavailable` unless this is
        started.
    """

    kms: IKMS

    def __init__(
        self,
        reactor: Any,
        settings: KESSettings,
        loaded: Loaded,
        lanes: ILanes,
        random: Random,
        *,
        patience: Patience | None = None,
        reload_time: float = RELOAD,
        survey_time: float = SURVEY,
        proof_time: float = PROOF,
        troubles: int = -1,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        Put the parts together.

        :param loaded: What ``tls.load`` made of *settings*.
        :param random: Decides which server is the first, so that many clients spread.
        :param reload_time: How often the files are looked at, in seconds.
        :param survey_time: How often servers that have not proved to hold the default master key
            are asked to, in seconds.
        :param proof_time: How long the proof of a server is good for at most, in seconds.
        :param troubles: As for :func:`connect`.
        :param now: Seconds since the epoch.
        """
        self._patience = patience = patience or Patience()
        self._reactor = reactor
        self._settings = settings
        self._lane = lanes.lane()
        self._now = now
        self._tls = ClientTLS(loaded)
        self._reload_time = reload_time
        self._survey_time, self._proof_time = survey_time, proof_time
        self._doubted = reactor.seconds()
        self._loops: list[LoopingCall] = []
        self._told_expired: datetime | None = None
        # Whatever the answer: it comes from a server that knows us and has its keys at hand.
        probe = key_path("describe", settings.key_name).encode("ascii")
        self._pools: list[PooledAgent] = []
        self._endpoints: list[Endpoint] = []
        for number, url in enumerate(settings.endpoints):
            pool = PooledAgent(reactor, self._tls, repeatable)
            endpoint = Endpoint(
                url.rstrip("/"),
                pool,
                reactor,
                probe,
                patience,
                pool.renew,
                Troubles(number, troubles),
            )
            pool.lost = endpoint.doubt
            self._pools.append(pool)
            self._endpoints.append(endpoint)
        first = int.from_bytes(random(4), "big") % len(self._endpoints)
        ordered = self._endpoints[first:] + self._endpoints[:first]
        self._proofs = Proofs(lambda endpoint: self._service([endpoint]), reactor)
        self.kms = self._service(ordered, self._proofs.admit)

    def require(self, prove: Prove) -> None:
        """
        Use a server for a master key only when it proves to hold it.

        :param prove: Asked before a server is used for a key, and again after the server was
            away.
        """
        self._proofs.prove = prove

    @property
    def put_aside(self) -> Mapping[str, str]:
        """
        What is wrong with servers that are not used now, by their URL.
        """
        for endpoint in self._endpoints:
            endpoint.heed()
        return {endpoint.url: endpoint.trouble for endpoint in self._endpoints if endpoint.trouble}

    def startService(self) -> None:
        """
        Called by Twisted: let requests go, and look at the files from time to time.
        """
        Service.startService(self)
        for pool in self._pools:
            pool.start()
        for endpoint in self._endpoints:
            endpoint.start()
        self._warn(self._tls.loaded)
        for call, pause in ((self.reload, self._reload_time), (self._survey, self._survey_time)):
            loop = LoopingCall(call)
            loop.clock = self._reactor
            loop.start(pause, now=False).addErrback(
                lambda failure: _log.failure("the key servers are looked after no more", failure)
            )
            self._loops.append(loop)

    def stopService(self) -> "Deferred[None]":
        """
        Called by Twisted: close all connections; what is under way fails.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> "Deferred[None]":
        """
        Look whether the files have changed, and use them for new connections.

        :return: Fires when that is done; never fails.
        """
        return Deferred.fromCoroutine(self._reload())

    def _survey(self) -> "Deferred[None]":
        """
        Have all servers prove what they hold: which one is wrong shall be known before it is
        needed.
        """
        return Deferred.fromCoroutine(self._ask_all())

    async def _ask_all(self) -> None:
        path = key_path("decrypt", self._settings.key_name).encode("ascii")
        now = self._reactor.seconds()
        if now - self._doubted >= self._proof_time:
            self._doubted = now
            for endpoint in self._endpoints:
                endpoint.doubt()
        for endpoint in self._endpoints:
            endpoint.heed()
            if endpoint.trouble:
                continue
            try:
                await self._proofs.admit(endpoint, path)
            except KypelloError as error:
                # One that is refused was logged by that; others are asked again.
                _log.debug("{url} has proved nothing: {error}", url=endpoint.url, error=error)

    def _service(self, endpoints: Sequence[Endpoint], admit: Admit | None = None) -> IKMS:
        agent = FailoverAgent(self._reactor, endpoints, self._patience, admit)
        made: IKMS = KESAgent(self._settings.key_name, self._reactor, agent, self._endpoints)
        return made

    async def _stop(self) -> None:
        for loop in self._loops:
            loop.stop()
        self._loops.clear()
        for endpoint in self._endpoints:
            endpoint.stop()
        for pool in self._pools:
            await pool.close()

    async def _reload(self) -> None:
        old = self._tls.loaded
        try:
            loaded = await self._lane.run(load, self._settings, old)
        except KypelloError as error:
            # The key is replaced and the certificate not yet, or the other way round.
            _log.error("the new files for the key server are not used: {error}", error=error)
            return
        except Exception:
            # Whatever it is, the next round tries again.
            _log.failure("the files for the key server cannot be looked at")
            return
        if loaded is not old:
            self._tls.loaded = loaded
            for pool in self._pools:
                pool.renew()
            _log.info("the files for the key server have changed and are in use")
            self._warn(loaded)
        self._warn_of_expiry(loaded)

    def _warn(self, loaded: Loaded) -> None:
        for warning in loaded.warnings:
            _log.warn("{text}", text=warning)
        self._warn_of_expiry(loaded)

    def _warn_of_expiry(self, loaded: Loaded) -> None:
        when = loaded.expires
        if when <= datetime.fromtimestamp(self._now(), UTC) and when != self._told_expired:
            self._told_expired = when
            _log.warn("{text}", text=expired(when))
