# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The fronts of a server, put together behind one address.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from attrs import define, frozen

from kypello.admin.call import AdminFront, Documents
from kypello.admin.root import AdminResource
from kypello.admin.tracing import Tracer
from kypello.config import Config
from kypello.events.broadcast import Broadcast
from kypello.http.balance import Balance
from kypello.http.brake import Brake
from kypello.http.framing import BadRequest
from kypello.http.fronts import Belongs, Fronts, below
from kypello.http.request import StreamingRequest
from kypello.http.response import Response
from kypello.http.site import StreamingSite
from kypello.iam.accounts import Accounts
from kypello.iam.authenticate import Authenticator
from kypello.iam.authorities import Authorities
from kypello.iam.slowing import Slowing
from kypello.identities import make_token_service
from kypello.interfaces import IEventSink, IObjectStore, IRewrapping
from kypello.model import Identity
from kypello.monitor.bearer import Bearers
from kypello.monitor.buckettally import BucketTally
from kypello.monitor.counted import key_calls
from kypello.monitor.health import Health
from kypello.monitor.requests import RequestTally
from kypello.monitor.root import OLDEST, PREFIX, MetricsFront, MetricsResource
from kypello.monitor.storage import Storage
from kypello.monitor.tally import Layout, Tally
from kypello.notifying import HOST_ID, make_targets, node_name
from kypello.objects.canary import GuardedKMS
from kypello.objects.keyusage import KeyUsage
from kypello.s3.browsers import tell_page
from kypello.s3.bucketdocuments import BucketDocuments
from kypello.s3.call import Front
from kypello.s3.cors import default_rules
from kypello.s3.errors import refuse_framing
from kypello.s3.root import S3Resource
from kypello.s3.routes import every_operation
from kypello.s3.virtualhost import bucket_of_host
from kypello.scanner.over import Over
from kypello.scanner.upkeep import make_over
from kypello.scanner.usage import Usage
from kypello.store.disk import DiskStore
from kypello.sts.root import is_call


def for_server(belongs: Belongs, domains: Sequence[str]) -> Belongs:
    """
    What tells requests that belong somewhere, but for those whose host names a bucket: their paths
    are those of objects.
    """

    def tell(request: StreamingRequest) -> bool:
        """
        Look at the host if it can name a bucket, and it matters.
        """
        if not belongs(request):
            return False
        host = dict(request.head.headers).get("host", "") if domains else ""
        return not bucket_of_host(host, domains)

    return tell


@define(eq=False)
class _Observer:
    """
    Tells of requests to those who count, and to those who listen.
    """

    _requests: RequestTally
    _tracer: Tracer

    def named(self, before: str, after: str) -> None:
        """
        Called when it is known what a request is.
        """
        self._requests.named(before, after)

    def about(self, operation: str, subject: str) -> None:
        """
        Called when it is known which bucket a request is about.
        """
        self._requests.about(operation, subject)

    def ended(self, request: StreamingRequest) -> None:
        """
        Called when a request is over.
        """
        self._requests.ended(request)
        self._tracer.ended(request)


def make_tally(worker: int, workers: int, descriptor: int, further: tuple[str, ...] = ()) -> Tally:
    """
    What a process counts.

    :param descriptor: Of what all of them share; ``-1`` for one that serves alone.
    :param further: The names of numbers that others than these fronts count.
    """
    names = {operation.name for operation in every_operation()}
    return Tally(Layout(tuple(sorted(names)), further), worker, workers, descriptor)


@frozen(eq=False)
class Parts:
    """
    What fronts are made of.

    :ivar root: Who may do everything.
    :ivar disk: The parts below *store*.
    :ivar rewrapping: Seals keys below *store* anew.
    :ivar key_usage: Counts what needs which master key.
    :ivar authorities: Who vouches for other servers, and for clients.
    :ivar balance: Told of connections; ``None`` for a process that serves alone.
    :ivar tally: What is counted.
    :ivar buckets: What is counted of single buckets.
    :ivar broadcast: Tells what happens.
    :ivar events: Takes what happens to objects.
    :ivar brake: Pulled and released by who may, and obeyed by S3.
    :ivar slowing: Holds up those who guess, whatever they ask for.
    :ivar services: Ends the whole server, after the requests that are under way (``stop``), or
        has its workers replaced (``restart``).
    """

    reactor: Any
    config: Config
    root: Identity
    disk: DiskStore
    store: IObjectStore
    rewrapping: IRewrapping
    kms: GuardedKMS
    key_usage: KeyUsage
    accounts: Accounts
    authorities: Authorities
    balance: Balance | None
    tally: Tally
    buckets: BucketTally
    broadcast: Broadcast
    events: IEventSink
    brake: Brake
    slowing: Slowing
    services: Mapping[str, Callable[[], object]]


def make_site(parts: Parts) -> StreamingSite:
    """
    What answers requests.
    """
    config, reactor, balance = parts.config, parts.reactor, parts.balance
    domains, tally = config.domains, parts.tally
    requests, usage = RequestTally(tally, parts.buckets), Usage(parts.disk.index)
    over = make_over(parts.store, config.scanner)
    authenticator = Authenticator(
        parts.accounts,
        config.region,
        reactor,
        config.signature_v2,
        config.access.proxies,
        requests.refused,
        parts.slowing,
    )
    health = Health(parts.disk.probe, parts.kms, reactor)
    objects = _objects(parts, authenticator, over)
    administration = AdminResource(
        _administration(parts, authenticator, usage, over, BucketDocuments(objects))
    )
    metrics = MetricsResource(_metrics(parts, health, usage))
    tokens = make_token_service(
        reactor,
        config.identity,
        parts.authorities,
        parts.accounts,
        authenticator,
        parts.slowing,
        config.access.proxies,
        partial(tell_page, rules=default_rules(config.cors_origins)),
    )

    def refuse(error: BadRequest, request_id: str) -> Response:
        """
        Count what is no request, and answer it.
        """
        requests.invalid()
        return refuse_framing(error, request_id, host_id=HOST_ID)

    tracer = Tracer(parts.broadcast, node_name(config), frozenset(tally.layout.operations))
    return StreamingSite(
        Fronts(
            (
                (for_server(below(b"/minio/admin/"), domains), administration),
                (for_server(below(b"/minio/kms/"), domains), administration),
                (for_server(is_call, domains), tokens),
                (for_server(below(PREFIX), domains), metrics),
                (for_server(lambda request: request.path == OLDEST, domains), metrics),
            ),
            S3Resource(objects, health.probe),
        ),
        reactor,
        refusal=refuse,
        count=None if balance is None else balance.tell,
        observer=_Observer(requests, tracer),
    )


def _objects(parts: Parts, authenticator: Authenticator, over: Over) -> Front:
    config, kms = parts.config, parts.kms

    async def test_key(name: str) -> None:
        """
        See that a master key can be used.
        """
        await kms.prove(name)

    return Front(
        store=parts.store,
        authenticator=authenticator,
        authorizer=parts.accounts,
        lanes=parts.disk.lanes,
        region=config.region,
        clock=parts.reactor,
        encrypts=True,
        host_id=HOST_ID,
        domains=config.domains,
        account_id=config.account_id,
        storage_classes=config.storage_classes,
        allow_insecure_customer_keys=config.loopback_customer_keys,
        test_key=test_key,
        default_key=kms.default_key,
        proxies=config.access.proxies,
        cors_origins=config.cors_origins,
        calendar=over.calendar,
        brake=parts.brake,
        events=parts.events,
        broadcast=parts.broadcast,
        targets=config.events,
        rewrapping=parts.rewrapping,
        auto_encryption=config.auto_encryption,
        blocks_customer_keys=config.blocks_customer_keys,
    )


def _administration(
    parts: Parts,
    authenticator: Authenticator,
    usage: Usage,
    over: Over,
    documents: Documents,
) -> AdminFront:
    config, reactor, brake = parts.config, parts.reactor, parts.brake
    return AdminFront(
        accounts=parts.accounts,
        authenticator=authenticator,
        store=parts.store,
        kms=parts.kms,
        clock=reactor,
        lanes=parts.disk.lanes,
        root=parts.root.access_key,
        region=config.region,
        directory=config.directory,
        started=reactor.seconds(),
        version=version("kypello"),
        usage=usage,
        over=over,
        services={**parts.services, "freeze": brake.pull, "unfreeze": brake.release},
        identity=config.identity,
        proxies=config.access.proxies,
        host_id=HOST_ID,
        broadcast=parts.broadcast,
        node=node_name(config),
        targets=make_targets(reactor, config),
        rewrapping=parts.rewrapping,
        key_usage=parts.key_usage,
        key_calls=partial(key_calls, parts.tally),
        auto_encryption=config.auto_encryption,
        documents=documents,
    )


def _metrics(parts: Parts, health: Health, usage: Usage) -> MetricsFront:
    config, reactor, lanes = parts.config, parts.reactor, parts.disk.lanes
    public = config.access.public_metrics
    return MetricsFront(
        tally=parts.tally,
        buckets=parts.buckets,
        health=health,
        storage=Storage(parts.store, usage, config.directory, lanes, reactor),
        bearers=None
        if public
        else Bearers(parts.accounts, reactor, config.access.proxies, parts.slowing),
        lanes=lanes,
        clock=reactor,
        server=node_name(config),
        version=version("kypello"),
        webhooks=config.events.webhooks,
        main=os.getpid() if parts.balance is None else os.getppid(),
    )
