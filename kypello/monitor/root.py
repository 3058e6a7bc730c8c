# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The resource that Prometheus reads.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource

from kypello.errors import KypelloError, Refused, StorageFailed
from kypello.eventconfig import WebhookSettings
from kypello.http.head import read_head
from kypello.http.request import StreamingRequest
from kypello.http.respond import respond
from kypello.http.response import Response
from kypello.interfaces import ILanes
from kypello.monitor.bearer import Bearers
from kypello.monitor.bucketcounted import bucket_series
from kypello.monitor.buckettally import BucketTally
from kypello.monitor.counted import endpoint_series, key_series, request_series
from kypello.monitor.health import Health
from kypello.monitor.notifications import event_series
from kypello.monitor.processes import machine_series, process_series
from kypello.monitor.storage import Storage
from kypello.monitor.tally import Tally
from kypello.monitor.text import CONTENT_TYPE, Family, gauge, render

#: What paths begin with, and the oldest of them, which stands for several.
PREFIX = b"/minio/v2/metrics/"
OLDEST = b"/minio/prometheus/metrics"

_KINDS = ("cluster", "node", "bucket", "resource")


@frozen(eq=False)
class MetricsFront:
    """
    What all requests share.

    :ivar bearers: Who may read; ``None`` for everybody.
    :ivar server: What the label of this name says.
    :ivar webhooks: Where events are sent.
    :ivar main: The process id of the supervisor, or of the only process.
    """

    tally: Tally
    buckets: BucketTally
    health: Health
    storage: Storage
    bearers: Bearers | None
    lanes: ILanes
    clock: IReactorTime
    server: str
    version: str
    main: int
    webhooks: Sequence[WebhookSettings] = ()

    async def families(self, kind: str) -> list[Family]:
        """
        The series of one of the paths.
        """
        if kind == "cluster":
            events = event_series(self.tally, self.webhooks)
            return [*await self._cluster(), *key_series(self.tally), *events]
        if kind == "bucket":
            return await self._buckets()
        return await self._node() if kind == "node" else await self._resource()

    async def _cluster(self) -> list[Family]:
        families = await self.storage.cluster(await self._probe("cluster/read"))
        online = await self._probe("ready")
        text = "Whether an endpoint of the KMS answers."
        families.append(gauge("minio_cluster_kms_online", text, int(online)))
        families += endpoint_series(self.health.endpoints)
        return [*families, *request_series(self.tally)]

    async def _buckets(self) -> list[Family]:
        infos = await self.storage.infos()
        return [*await self.storage.buckets(), *bucket_series(self.buckets, infos)]

    async def _node(self) -> list[Family]:
        version = Family(
            "minio_software_version_info",
            "gauge",
            "The version of the server.",
            [("", {"version": self.version}, 1)],
        )
        drive = await self.storage.drive(await self._probe("cluster/read"))
        return [*drive, *await self._processes(), version, *request_series(self.tally)]

    async def _resource(self) -> list[Family]:
        drive = await self.storage.drive(await self._probe("cluster/read"))
        return [*drive, *await self.lanes.lane().run(machine_series)]

    async def _processes(self) -> list[Family]:
        read = partial(process_series, self.main, self.tally.processes, self.clock.seconds())
        families: list[Family] = await self.lanes.lane().run(read)
        return families

    async def _probe(self, word: str) -> bool:
        response = await self.health.probe(word)
        return response is not None and response.status == 200


class MetricsResource(Resource):
    """
    The paths below ``/minio/v2/metrics/``, and ``/minio/prometheus/metrics``.
    """

    isLeaf = True

    def __init__(self, front: MetricsFront) -> None:
        """
        Serve *front*.
        """
        Resource.__init__(self)
        self._front = front

    def render(self, request: StreamingRequest) -> int:
        """
        Called by Twisted.
        """
        return respond(request, self._answer(request), partial(_word, request))

    async def _answer(self, request: StreamingRequest) -> Response:
        request.operation = "Metrics"
        front, head = self._front, read_head(request)
        if front.bearers is not None:
            await front.bearers.check(head)
        if head.method not in ("GET", "HEAD"):
            raise Refused("MethodNotAllowed", "Metrics are read with GET.")
        kind = request.path.removeprefix(PREFIX).decode("latin-1")
        if request.path == OLDEST:
            families = [*await front.families("cluster"), *await front.families("node")]
        elif kind in _KINDS:
            families = await front.families(kind)
        else:
            raise Refused("NoSuchKey", f"There are metrics of {', '.join(_KINDS)}.")
        unique = {family.name: family for family in families}
        body = render(unique.values(), {"server": front.server})
        return Response(200, (("Content-Type", CONTENT_TYPE),), body)


_STATUS: Mapping[str, int] = {"AccessDenied": 403, "MethodNotAllowed": 405, "NoSuchKey": 404}


def _word(request: StreamingRequest, error: Exception) -> Response:
    """
    Tell what went wrong.
    """
    status, code, message = 500, "InternalError", "Something went wrong; the log says what."
    if isinstance(error, Refused):
        status, code, message = _STATUS.get(error.code, 400), error.code, error.message
    elif isinstance(error, KypelloError):
        status, code = 503, "ServiceUnavailable"
        message = "The storage does not answer." if isinstance(error, StorageFailed) else str(error)
    told = {
        "Code": code,
        "Message": message,
        "Resource": request.path.decode("latin-1"),
        "RequestId": request.request_id,
        "HostId": "kypello",
    }
    headers = [("Content-Type", "application/json"), ("x-amz-request-id", request.request_id)]
    if status == 503:
        headers.append(("Retry-After", "5"))
    return Response(status, headers, msgspec.json.encode(told) + b"\n")
