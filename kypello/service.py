# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The object server put together: the one module that knows every class.

What is on disk has been read before (``prepared.py``); nothing is opened before the service starts.
"""

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import frozen
from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kypello.admin.tracing import LogFeed
from kypello.events.broadcast import Broadcast
from kypello.events.queue import waiting_keys
from kypello.fronts import Parts, make_site, make_tally
from kypello.http.balance import Balance
from kypello.http.brake import Brake
from kypello.http.listener import Listener
from kypello.iam.accounts import Accounts
from kypello.iam.ledger import accounts_key
from kypello.iam.slowing import Slowing
from kypello.iam.sweeper import SessionSweeper
from kypello.interfaces import IKMS
from kypello.kes_service import log_failed_start, make_key_server
from kypello.kms.builtin import StaticKMS
from kypello.kms.connect import KESClient, connect
from kypello.kmsconfig import StaticKeySettings
from kypello.monitor.buckettally import BucketTally
from kypello.monitor.keycalls import CountedKMS
from kypello.notifying import make_notifying, node_name, numbers
from kypello.objects.canary import GuardedKMS
from kypello.objects.datakeys import DataKeys, Workers
from kypello.objects.encrypted import EncryptedStore
from kypello.objects.keyexpiry import KeyExpiry
from kypello.objects.keyusage import KeyUsage
from kypello.objects.keywatch import KeyWatch
from kypello.objects.lossreport import LossReport
from kypello.objects.rewrapping import Rewrapping
from kypello.place import Place
from kypello.prepared import Prepared
from kypello.scanner.upkeep import make_scanner
from kypello.store.disk import DiskStore

#: How long requests that are under way may take when the server stops, in seconds.
GRACE = 30.0

#: How often changed TLS files are looked for, in seconds.
RELOAD = 60.0

#: How long the master key may take until the server counts as started without it, in seconds.
_PATIENCE = 5.0

#: Threads for the disk, for digests and for encryption.
THREADS = max(8, 2 * (os.cpu_count() or 1))

_log = Logger()


@frozen
class Running:
    """
    What a server tells when it has started.

    :ivar port: Where it listens.
    :ivar fingerprint: Of the master key; empty when that cannot be used yet.
    :ivar trouble: Why not.
    """

    prepared: Prepared
    port: int
    fingerprint: str
    trouble: str


class Server(MultiService):
    """
    An object server, or one worker of it.

    What others need starts first and stops last: the store, the embedded key server, the KMS
    client, the watch over the master key, and at last the front.

    :ivar prepared: What it was made of.
    """

    def __init__(
        self,
        reactor: Any,
        prepared: Prepared,
        started: Callable[[Running], object],
        failed: Callable[[Failure], object],
        replace: Callable[[], object] | None = None,
    ) -> None:
        """
        Put the parts together.

        :param started: Called when it listens, and knows its master key or will not wait for it.
        :param failed: Called instead when it cannot.
        :param replace: Has all workers replaced; ``None`` when this is the only process.
        """
        super().__init__()
        self.prepared = prepared
        self._started, self._failed = started, failed
        self._starting: Deferred[None] | None = None
        self._kes: KESClient | None = None
        place = prepared.place
        self._broadcast = Broadcast(reactor, place.worker, place.workers, place.inboxes)
        LogFeed(self._broadcast, node_name(prepared.config)).setServiceParent(self)
        disk = DiskStore(
            reactor,
            prepared.directory,
            THREADS,
            worker=place.worker,
            workers=place.workers,
            changes=place.changes,
            quotas=place.quotas,
        )
        disk.setServiceParent(self)
        embedded = embed(reactor, prepared, self)
        numbered = numbers(prepared.config.events.webhooks)
        tally = make_tally(place.worker, place.workers, place.tally, numbered)
        counted = CountedKMS(self._make_kms(reactor, disk), tally, reactor)
        usage = KeyUsage(
            disk.store,
            disk.index,
            partial(accounts_key, disk.index),
            partial(waiting_keys, disk.index),
            counted.default_key,
        )
        losses = LossReport(reactor, usage)
        if not place.worker:
            losses.setServiceParent(self)
        kms = GuardedKMS(counted, disk.index, reactor, losses.lost)
        if self._kes is not None:
            self._kes.require(
                lambda alone, name: kms.holds(CountedKMS(alone, tally, reactor), name)
            )
        self._watch = KeyWatch(reactor, kms, embedded, quiet=place.worker > 0)
        self._watch.setServiceParent(self)
        keys = DataKeys(
            kms,
            reactor,
            prepared.config.reuse,
            partial(tally.add, "key_hits"),
            Workers(place.worker, place.workers, place.opened, place.made),
        )
        KeyExpiry(keys, reactor, shared=not place.worker).setServiceParent(self)
        store = EncryptedStore(disk.store, keys, os.urandom, prepared.config.auto_encryption)
        accounts = Accounts(
            disk.index,
            keys,
            prepared.root,
            reactor,
            os.urandom,
            bucket_policies_for_all=prepared.config.access.policies_for_all,
        )
        notifying = make_notifying(
            reactor,
            prepared.config,
            disk,
            keys,
            tally,
            self._broadcast,
            prepared.authorities,
            place.worker,
        )
        if notifying.deliveries is not None:
            notifying.deliveries.setServiceParent(self)
        if not place.worker:
            SessionSweeper(accounts, reactor).setServiceParent(self)
            settings = prepared.config.scanner
            make_scanner(store, disk.index, reactor, settings, notifying.sink).setServiceParent(
                self
            )
        balance = None
        if place.counts >= 0:
            balance = Balance(place.worker, place.workers, place.counts)
        self._brake = Brake(reactor, place.brake)
        parts = Parts(
            reactor=reactor,
            config=prepared.config,
            root=prepared.root,
            disk=disk,
            store=store,
            rewrapping=Rewrapping(disk.store, keys, os.urandom),
            kms=kms,
            key_usage=usage,
            accounts=accounts,
            authorities=prepared.authorities,
            balance=balance,
            tally=tally,
            buckets=BucketTally(tally.layout, place.worker, place.workers, place.buckets),
            broadcast=self._broadcast,
            events=notifying.sink,
            brake=self._brake,
            slowing=Slowing.shared(reactor, place.attempts),
            services={"stop": partial(_end, place), **({"restart": replace} if replace else {})},
        )
        self._listener = Listener(
            reactor,
            make_site(parts),
            prepared.config.host,
            prepared.config.port,
            disk.lanes,
            prepared.tls_files,
            place.listening,
            balance,
        )
        self._reloading = LoopingCall(self.reload)
        self._reloading.clock = reactor

    def startService(self) -> None:
        """
        Called by Twisted: start all parts, and listen.
        """
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._fail)

    def stopService(self) -> "Deferred[None]":
        """
        Called by Twisted: finish what is under way, then end all parts.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    def retire(self) -> None:
        """
        Leave what comes to others, and serve on who is here, each for one more request.
        """
        Deferred.fromCoroutine(self._listener.retire()).addErrback(
            lambda failure: _log.failure("the socket is not left to others", failure)
        )

    def reload(self) -> "Deferred[None]":
        """
        Use the TLS files, also those for KES, as they are now.
        """
        return Deferred.fromCoroutine(self._reload())

    async def _reload(self) -> None:
        await self._listener.reload()
        if self._kes is not None:
            await self._kes.reload()

    def _make_kms(self, reactor: Any, disk: DiskStore) -> IKMS:
        prepared = self.prepared
        if isinstance(prepared.kms, StaticKeySettings):
            static: IKMS = StaticKMS(prepared.kms, os.urandom)
            return static
        assert prepared.kes_files is not None
        self._kes = connect(
            reactor,
            prepared.kms,
            prepared.kes_files,
            disk.lanes,
            os.urandom,
            prepared.place.troubles,
        )
        self._kes.setServiceParent(self)
        return self._kes.kms

    async def _start(self) -> None:
        if not self.prepared.place.worker:
            # Those of several processes are told by the one that starts them.
            config = self.prepared.config
            for warning in (*config.warnings, *config.unused) if self.prepared.place.alone else ():
                _log.warn("{text}", text=warning)
            for provider in config.identity.openid:
                if provider.role_policies:
                    _log.info(
                        "the OpenID provider {name} gives the role {role}",
                        name=provider.name or "(the first one)",
                        role=provider.role,
                    )
        await self._listener.listen(self.prepared.tls)
        self._reloading.start(RELOAD, now=False).addErrback(
            lambda failure: _log.failure("TLS files are not looked for any more", failure)
        )
        await self._watch.proved(_PATIENCE)
        trouble = "no answer yet" if self._watch.trouble is None else str(self._watch.trouble)
        fingerprint = self._watch.fingerprint
        self._started(
            Running(self.prepared, self._listener.port, fingerprint, "" if fingerprint else trouble)
        )

    def _fail(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._failed(failure)

    async def _stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        if self._reloading.running:
            self._reloading.stop()
        # Requests that end only with the server.
        self._broadcast.end()
        self._brake.end()
        await self._listener.stop(GRACE)
        await stop_all(self)


def embed(reactor: Any, prepared: Prepared, parent: MultiService) -> "Deferred[None] | None":
    """
    Run a key server inside, if there is to be one.

    :return: Fires when it listens or has failed; ``None`` when there is none.
    """
    if prepared.embedded is None:
        return None
    settled: Deferred[None] = Deferred()

    def failed(failure: Failure) -> None:
        log_failed_start(failure)
        settled.callback(None)

    make_key_server(
        reactor, prepared.embedded.config, failed, lambda: settled.callback(None)
    ).setServiceParent(parent)
    return settled


def _end(place: Place) -> None:
    """
    End the server like a service manager would: all of it, after the requests under way.
    """
    os.kill(os.getppid() if place.listening >= 0 else os.getpid(), signal.SIGTERM)


async def stop_all(services: MultiService) -> None:
    """
    Stop what others need last: in the reverse order of the start, one after the other.
    """
    for service in reversed(list(services)):
        try:
            await maybeDeferred(service.stopService)
        except Exception:
            # The others must end all the same.
            _log.failure("{service} does not stop", service=type(service).__name__)
