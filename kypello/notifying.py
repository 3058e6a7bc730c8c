# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is done with events, put together.
"""

import os
from collections.abc import Sequence
from socket import gethostname
from typing import Any

from attrs import evolve, frozen

from kypello.config import Config
from kypello.eventconfig import WebhookSettings
from kypello.events.broadcast import Broadcast
from kypello.events.counts import COUNTED, TargetCounts, counted
from kypello.events.delivery import Deliveries, Delivery
from kypello.events.queue import Queue
from kypello.events.record import Source
from kypello.events.sealing import IssuesDataKeys, Sealer
from kypello.events.sink import EventSink
from kypello.events.target import Target
from kypello.events.webhook import Webhook
from kypello.iam.authorities import Authorities
from kypello.monitor.tally import Tally
from kypello.store.disk import DiskStore

#: What ``x-amz-id-2`` says.
HOST_ID = "kypello"


@frozen(eq=False)
class Notifying:
    """
    The parts.

    :ivar sink: Takes events.
    :ivar deliveries: Sends them; ``None`` in a process that does not.
    """

    sink: EventSink
    deliveries: Deliveries | None


def node_name(config: Config) -> str:
    """
    What the server is called where it tells of itself.
    """
    return f"{config.host or gethostname()}:{config.port}"


def numbers(webhooks: Sequence[WebhookSettings]) -> tuple[str, ...]:
    """
    The names of what is counted of targets.
    """
    return tuple(counted(what, webhook.name) for webhook in webhooks for what in COUNTED)


def make_notifying(
    reactor: Any,
    config: Config,
    disk: DiskStore,
    keys: IssuesDataKeys,
    tally: Tally,
    broadcast: Broadcast,
    authorities: Authorities,
    worker: int,
) -> Notifying:
    """
    Put them together.

    :param disk: Where events wait.
    :param authorities: Who vouches for targets.
    :param worker: The number of this process: the first one sends.
    """
    webhooks = config.events.webhooks
    source = Source(config.region or "", node_name(config), HOST_ID)
    queue, sealer = Queue(disk.index, reactor, worker), Sealer(keys, reactor, os.urandom)
    sink = EventSink.make(broadcast, queue, sealer, source, reactor, webhooks, tally)
    if worker or not webhooks:
        return Notifying(sink, None)
    deliveries = [
        Delivery(
            Webhook(
                webhook,
                reactor,
                lambda present: evolve(authorities, present=present),
                disk.lanes.lane(),
            ),
            queue,
            sealer,
            TargetCounts(tally, webhook.name),
            reactor,
        )
        for webhook in webhooks
    ]
    return Notifying(sink, Deliveries(reactor, deliveries))


def make_targets(reactor: Any, config: Config) -> list[Target]:
    """
    Targets, for those who look after the server.
    """
    region = config.region or "us-east-1"
    return [
        Target(webhook.name, webhook.arn(region), webhook.endpoint, reactor)
        for webhook in config.events.webhooks
    ]
