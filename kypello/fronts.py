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

from attrs import define

from kypello.admin.call import AdminFront
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
from kypello.s3.call import Front
from kypello.s3.cors import default_rules
from kypello.s3.errors import refuse_framing
from kypello.s3.root import S3Resource
from kypello.s3.routes import every_operation
from kypello.s3.virtualhost import bucket_of_host
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


def make_site(
    reactor: Any,
    config: Config,
    root: Identity,
    disk: DiskStore,
    store: IObjectStore,
    kms: GuardedKMS,
    accounts: Accounts,
    authorities: Authorities,
    balance: Balance | None,
    tally: Tally,
    broadcast: Broadcast,
    events: IEventSink,
    services: Mapping[str, Callable[[], object]],
    buckets: BucketTally,
    brake: Brake,
    rewrapping: IRewrapping,
    key_usage: KeyUsage,
) -> StreamingSite:
    """
    What answers requests.

    :param authorities: Who vouches for other servers, and for clients.
    :param disk: The parts below *store*.
    :param services: Ends the whole server, after the requests that are under way (``stop``), or
        has its workers replaced (``restart``).
    :param buckets: What is counted of single buckets.
    :param brake: Pulled and released by who may, and obeyed by S3.
    :param balance: Told of connections; ``None`` for a process that serves alone.
    :param tally: What is counted.
    :param broadcast: Tells what happens.
    :param events: Takes what happens to objects.
    :param rewrapping: Seals keys below *store* anew.
    :param key_usage: Counts what needs which master key.
    """
    region, proxies, domains = config.region, config.access.proxies, config.domains
    requests, usage = RequestTally(tally, buckets), Usage(disk.index)
    over = make_over(store, config.scanner)
    tracer = Tracer(broadcast, node_name(config), frozenset(tally.layout.operations))
    authenticator = Authenticator(
        accounts, region, reactor, config.signature_v2, proxies, requests.refused
    )

    async def test_key(name: str) -> None:
        """
        See that a master key can be used.
        """
        await kms.prove(name)

    objects = Front(
        store=store,
        authenticator=authenticator,
        authorizer=accounts,
        lanes=disk.lanes,
        region=region,
        clock=reactor,
        encrypts=True,
        host_id=HOST_ID,
        domains=domains,
        account_id=config.account_id,
        storage_classes=config.storage_classes,
        allow_insecure_customer_keys=config.loopback_customer_keys,
        test_key=test_key,
        default_key=kms.default_key,
        proxies=proxies,
        cors_origins=config.cors_origins,
        calendar=over.calendar,
        brake=brake,
        events=events,
        broadcast=broadcast,
        targets=config.events,
        rewrapping=rewrapping,
        blocks_customer_keys=config.blocks_customer_keys,
    )
    administration = AdminResource(
        AdminFront(
            accounts=accounts,
            authenticator=authenticator,
            store=store,
            kms=kms,
            clock=reactor,
            lanes=disk.lanes,
            root=root.access_key,
            region=region,
            directory=config.directory,
            started=reactor.seconds(),
            version=version("kypello"),
            usage=usage,
            over=over,
            services={**services, "freeze": brake.pull, "unfreeze": brake.release},
            identity=config.identity,
            proxies=proxies,
            host_id=HOST_ID,
            broadcast=broadcast,
            node=node_name(config),
            targets=make_targets(reactor, config),
            rewrapping=rewrapping,
            key_usage=key_usage,
            key_calls=partial(key_calls, tally),
        )
    )
    tokens = make_token_service(
        reactor,
        config.identity,
        authorities,
        accounts,
        authenticator,
        proxies,
        partial(tell_page, rules=default_rules(config.cors_origins)),
    )
    health = Health(disk.probe, kms, reactor)
    metrics = MetricsResource(
        MetricsFront(
            tally=tally,
            buckets=buckets,
            health=health,
            storage=Storage(store, usage, config.directory, disk.lanes, reactor),
            bearers=None if config.access.public_metrics else Bearers(accounts, reactor, proxies),
            lanes=disk.lanes,
            clock=reactor,
            server=node_name(config),
            version=version("kypello"),
            webhooks=config.events.webhooks,
            main=os.getpid() if balance is None else os.getppid(),
        )
    )

    def refuse(error: BadRequest, request_id: str) -> Response:
        """
        Count what is no request, and answer it.
        """
        requests.invalid()
        return refuse_framing(error, request_id, host_id=HOST_ID)

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
