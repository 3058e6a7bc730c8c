# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The fronts of a server, put together behind one address.
"""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from kypello.admin.call import AdminFront
from kypello.admin.root import AdminResource
from kypello.config import Config
from kypello.http.balance import Balance
from kypello.http.fronts import Fronts
from kypello.http.site import StreamingSite
from kypello.iam.accounts import Accounts
from kypello.iam.authenticate import Authenticator
from kypello.interfaces import IObjectStore
from kypello.model import Identity
from kypello.monitor.health import Health
from kypello.objects.canary import GuardedKMS
from kypello.s3.call import Front
from kypello.s3.errors import refuse_framing
from kypello.s3.root import S3Resource
from kypello.store.disk import DiskStore

_HOST_ID = "kypello"


def make_site(
    reactor: Any,
    config: Config,
    root: Identity,
    disk: DiskStore,
    store: IObjectStore,
    kms: GuardedKMS,
    accounts: Accounts,
    balance: Balance | None,
    stop: Callable[[], object],
) -> StreamingSite:
    """
    What answers requests.

    :param disk: The parts below *store*.
    :param stop: Ends the whole server, after the requests that are under way.
    :param balance: Told of connections; ``None`` for a process that serves alone.
    """
    region, proxies = config.region, config.access.proxies
    authenticator = Authenticator(accounts, region, reactor, config.signature_v2, proxies)

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
        host_id=_HOST_ID,
        domains=config.domains,
        account_id=config.account_id,
        storage_classes=config.storage_classes,
        allow_insecure_customer_keys=config.loopback_customer_keys,
        test_key=test_key,
        default_key=kms.default_key,
        proxies=proxies,
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
            services={"stop": stop},
            proxies=proxies,
            host_id=_HOST_ID,
        )
    )
    health = Health(disk.probe, kms, reactor)
    return StreamingSite(
        Fronts(
            {b"/minio/admin/": administration, b"/minio/kms/": administration},
            S3Resource(objects, health.probe),
        ),
        reactor,
        refusal=partial(refuse_framing, host_id=_HOST_ID),
        count=None if balance is None else balance.tell,
    )
