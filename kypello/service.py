# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The object server put together: the one module that knows every class.

What is on disk is read by :func:`prepare`, which blocks, before the reactor runs; nothing is
opened before the service starts.
"""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kypello.admin.tracing import LogFeed
from kypello.config import Config
from kypello.embedded import Embedded, free_port, provision
from kypello.errors import ConfigurationError
from kypello.events.broadcast import Broadcast
from kypello.fronts import make_site, make_tally
from kypello.http.balance import Balance
from kypello.http.brake import Brake
from kypello.http.listener import Listener
from kypello.http.tls import Loaded, TLSFiles, load
from kypello.iam.accounts import Accounts
from kypello.iam.authorities import Authorities
from kypello.iam.ledger import accounts_key
from kypello.iam.sweeper import SessionSweeper
from kypello.identities import asked_of_clients, load_authorities
from kypello.interfaces import IKMS
from kypello.kes_service import log_failed_start, make_key_server
from kypello.kms import tls as kms_tls
from kypello.kms.builtin import StaticKMS
from kypello.kms.connect import KESClient, connect
from kypello.kmsconfig import KESSettings, StaticKeySettings
from kypello.model import Identity
from kypello.monitor.buckettally import BucketTally
from kypello.monitor.keycalls import CountedKMS
from kypello.notifying import make_notifying, node_name, numbers
from kypello.objects.canary import GuardedKMS
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.objects.keyusage import KeyUsage
from kypello.objects.keywatch import KeyWatch
from kypello.objects.lossreport import LossReport
from kypello.objects.rewrapping import Rewrapping
from kypello.place import ALONE, Place
from kypello.scanner.upkeep import make_scanner
from kypello.store.directory import DataDirectory
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
class Prepared:
    """
    What a server needs from the disk before it starts.

    :ivar root: Who may do everything.
    :ivar made_root: Whether its credentials were made just now.
    :ivar kms: How to reach the KMS.
    :ivar kes_files: Certificate and key for KES; ``None`` with a static key.
    :ivar embedded: The key server to run inside; ``None`` with a KMS of one's own.
    :ivar tls_files: What TLS is made of; ``None`` for plain HTTP.
    :ivar tls: What was read of them.
    :ivar authorities: Who vouches for other servers, and for clients.
    """

    config: Config
    directory: DataDirectory
    root: Identity
    made_root: bool
    kms: KESSettings | StaticKeySettings
    kes_files: kms_tls.Loaded | None
    embedded: Embedded | None
    tls_files: TLSFiles | None
    tls: Loaded | None
    authorities: Authorities
    place: Place = ALONE


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


def prepare(config: Config, place: Place = ALONE) -> Prepared:
    """
    Read and make what is on disk; blocking.

    :param place: Of a worker, for which credentials and KMS are in *config* already.
    :raises ConfigurationError: With every mistake that can be told now.
    """
    mistakes: list[str] = []

    def attempt(call: Callable[..., Any], *arguments: Any) -> Any:
        """
        Go on after a mistake, to tell the others too.
        """
        try:
            return call(*arguments)
        except ConfigurationError as error:
            mistakes.extend(error.mistakes)
            return None

    certs_dir = config.certs_dir or default_certs_dir()
    tls_files = _tls_files(certs_dir, config)
    authorities = attempt(
        load_authorities, config.identity, certs_dir / "CAs", bool(config.events.webhooks)
    )
    tls = None if tls_files is None else attempt(load, tls_files)
    kms, kes_files, embedded = config.kms, None, None
    if isinstance(kms, KESSettings):
        folder = certs_dir / "CAs"
        if kms.ca_path is None and folder.is_dir():
            kms = evolve(kms, ca_path=folder)
        kes_files = attempt(kms_tls.load, kms)
    directory = attempt(DataDirectory, config.directory, place.lock)
    if mistakes:
        if directory is not None:
            directory.close()
        raise ConfigurationError(tuple(mistakes))
    try:
        root, made_root = config.root, False
        if root is None:
            root, made_root = directory.credentials(os.urandom)
        if kms is None:
            port = free_port(os.urandom)
            embedded = provision(
                directory.path, time.time(), os.urandom, port, config.passphrase_file
            )
            kms = embedded.settings
            kes_files = kms_tls.load(kms)
    except BaseException:
        directory.close()
        raise
    return Prepared(
        config,
        directory,
        root,
        made_root,
        kms,
        kes_files,
        embedded,
        tls_files,
        tls,
        authorities,
        place,
    )


def default_certs_dir() -> Path:
    """
    Where certificates lie when nobody says where: that of MinIO, if there is none of ours.
    """
    ours, theirs = (Path.home() / name / "certs" for name in (".kypello", ".minio"))
    return theirs if theirs.is_dir() and not ours.is_dir() else ours


def _tls_files(certs_dir: Path, config: Config) -> TLSFiles | None:
    key, cert = certs_dir / "private.key", certs_dir / "public.crt"
    # One without the other is a mistake, which loading them tells.
    if not key.exists() and not cert.exists():
        return None
    clients = asked_of_clients(config.identity)
    return TLSFiles(key, cert, config.cert_password, clients=clients)


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
            disk.store, disk.index, partial(accounts_key, disk.index), counted.default_key
        )
        losses = LossReport(reactor, usage)
        if not place.worker:
            losses.setServiceParent(self)
        kms = GuardedKMS(counted, disk.index, reactor, losses.lost)
        if self._kes is not None:
            self._kes.require(kms.holds)
        self._watch = KeyWatch(reactor, kms, embedded, quiet=place.worker > 0)
        self._watch.setServiceParent(self)
        keys = DataKeys(kms, reactor, prepared.config.reuse, partial(tally.add, "key_hits"))
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
        self._listener = Listener(
            reactor,
            make_site(
                reactor,
                prepared.config,
                prepared.root,
                disk,
                store,
                kms,
                accounts,
                prepared.authorities,
                balance,
                tally,
                self._broadcast,
                notifying.sink,
                {"stop": partial(_end, place), **({"restart": replace} if replace else {})},
                BucketTally(tally.layout, place.worker, place.workers, place.buckets),
                self._brake,
                Rewrapping(disk.store, keys, os.urandom),
                usage,
            ),
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
        self._kes = connect(reactor, prepared.kms, prepared.kes_files, disk.lanes, os.urandom)
        self._kes.setServiceParent(self)
        return self._kes.kms

    async def _start(self) -> None:
        if not self.prepared.place.worker:
            for warning in self.prepared.config.warnings:
                _log.warn("{text}", text=warning)
            for provider in self.prepared.config.identity.openid:
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
