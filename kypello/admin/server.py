# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The server as a whole, by the administration API: how it is, what it holds, how it ends.

Objects are counted by who walks over all of them, now and then.  What is not known yet is left out
rather than told as zero.
"""

import os
import platform
from collections.abc import Iterator
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, gatherResults

from kypello.admin.call import AdminFront, Call
from kypello.admin.errors import invalid_argument, not_offered, text_of
from kypello.admin.kms import tell_status
from kypello.admin.wire import json_response, tell_update
from kypello.errors import KypelloError
from kypello.filesystem import Space, read_space
from kypello.http.response import Response
from kypello.model import BucketInfo, Kind, Question
from kypello.policy.canned import CANNED
from kypello.scanner.usage import BucketUsage, Total

#: What programs know a server on one file system by.
_BACKEND = "FS"
_BACKEND_NUMBER = 1

_SERVICE_ACTIONS = {
    "restart": "admin:ServiceRestart",
    "stop": "admin:ServiceStop",
    "freeze": "admin:ServiceFreeze",
    "unfreeze": "admin:ServiceFreeze",
}


async def info(call: Call) -> Response:
    """
    What the server is, and how it does.
    """
    front, request = call.front, call.head
    host = request.header("host") or ""
    drive = await _drive(front)
    counted = await _counted(front)
    return json_response(
        {
            "mode": "online",
            "region": front.shown_region,
            **counted,
            "services": await _services(front),
            "sqsARN": [target.arn for target in front.targets],
            "backend": {"backendType": _BACKEND, "onlineDisks": 1, "offlineDisks": 0},
            "servers": [
                {
                    "state": "online",
                    "endpoint": host,
                    "scheme": "https" if request.secure else "http",
                    "uptime": int(front.clock.seconds() - front.started),
                    "version": front.version,
                    "commitID": "",
                    "network": {host: "online"},
                    "drives": [drive],
                    "poolNumber": 1,
                    "poolNumbers": [1],
                    "num_cpu": os.cpu_count() or 1,
                    "runtime_version": f"Python {platform.python_version()}",
                }
            ],
        }
    )


async def usage(call: Call) -> Response:
    """
    What the buckets hold, as far as they have been counted.
    """
    front = call.front
    buckets = await front.store.buckets()
    total = await front.usage.total(buckets)
    space: Space = await front.lanes.lane().run(read_space, str(front.directory))
    sizes = {name: usage.size for name, usage in total.by_bucket.items()}
    return json_response(
        {
            "lastUpdate": tell_update(max(_ends(total), default=None)),
            "objectsCount": total.objects,
            "versionsCount": total.versions,
            "deleteMarkersCount": total.markers,
            "objectsTotalSize": total.size,
            "objectsReplicationInfo": None,
            "bucketsCount": len(buckets),
            "bucketsUsageInfo": {
                name: {
                    "size": usage.size,
                    "objectsCount": usage.objects,
                    "versionsCount": usage.versions,
                    "deleteMarkersCount": usage.markers,
                    "objectsSizesHistogram": usage.size_histogram(),
                    "objectsVersionsHistogram": usage.stack_histogram(),
                }
                for name, usage in total.by_bucket.items()
            },
            "bucketsSizes": sizes,
            "capacity": space.total,
            "freeCapacity": space.free,
            "usedCapacity": space.used,
        }
    )


async def storage_info(call: Call) -> Response:
    """
    The disk and its space.
    """
    return json_response({"Disks": [await _drive(call.front)], "Backend": _backend()})


async def account_info(call: Call) -> Response:
    """
    Who asks, what they may do, and the buckets that they may see.
    """
    buckets = [
        told
        for bucket in await call.front.store.buckets()
        if (told := await _tell_bucket(call, bucket)) is not None
    ]
    return json_response(
        {
            "AccountName": call.user,
            "Server": _backend(),
            "Policy": msgspec.Raw(await _policy(call)),
            "Buckets": buckets,
        }
    )


async def service(call: Call) -> Response:
    """
    Stop the server, start it again, or let requests of S3 wait (``freeze``) and go on.
    """
    action, front = call.parameter("action"), call.front
    needed = _SERVICE_ACTIONS.get(action)
    if needed is None:
        raise invalid_argument("There is no such action.")
    await call.require(needed)
    perform = front.services.get(action)
    if perform is None:
        raise not_offered(
            "The server is one process, which is started and stopped by what runs it, such as"
            " systemctl restart. With several workers (--workers) they are replaced one by one."
        )
    rehearsal = call.parameter("dry-run") == "true"
    if not rehearsal:
        perform()
    results = [{"host": call.head.header("host") or ""}]
    return json_response({"action": action, "dryRun": rehearsal, "results": results})


async def _counted(front: AdminFront) -> dict[str, Any]:
    """
    The buckets and what they hold.

    Clients show all of it or none, and nothing as zero: so all of it is left out as long as a
    bucket was never counted.
    """
    buckets = await front.store.buckets()
    total = await front.usage.total(buckets)
    if total.since is None:
        reason = {"error": "what there is has not been counted yet"}
        return dict.fromkeys(("buckets", "objects", "versions", "deletemarkers", "usage"), reason)
    return {
        "buckets": {"count": len(buckets)},
        "objects": {"count": total.objects},
        "versions": {"count": total.versions},
        "deletemarkers": {"count": total.markers},
        "usage": {"size": total.size},
    }


def _ends(total: Total) -> Iterator[int]:
    return (usage.ended for usage in total.by_bucket.values())


def _backend() -> dict[str, Any]:
    return {"Type": _BACKEND_NUMBER, "OnlineDisks": None, "OfflineDisks": None}


async def _services(front: AdminFront) -> dict[str, Any]:
    """
    The services that the server uses: that of its keys, and where it sends events.
    """
    asked = [Deferred.fromCoroutine(target.reachable()) for target in front.targets]
    states: list[bool] = await gatherResults(asked, consumeErrors=True)
    told = [
        {target.name: {"status": "online" if state else "offline"}}
        for target, state in zip(front.targets, states, strict=True)
    ]
    services: dict[str, Any] = {"notifications": [{"webhook": told}]} if told else {}
    if front.kms is None:
        return services
    try:
        endpoints = tell_status(await front.kms.status())["endpoints"]
    except KypelloError as error:
        # The rest is to be told all the same.
        endpoints = {text_of(error): "offline"}
    services["kmsStatus"] = [{"status": state, "endpoint": url} for url, state in endpoints.items()]
    return services


async def _drive(front: AdminFront) -> dict[str, Any]:
    path = str(front.directory)
    space: Space = await front.lanes.lane().run(read_space, path)
    return {
        "endpoint": path,
        "path": path,
        "state": "ok",
        "totalspace": space.total,
        "usedspace": space.used,
        "availspace": space.free,
        "utilization": round(100 * space.used / space.total, 2) if space.total else 0,
        "pool_index": 0,
        "set_index": 0,
        "disk_index": 0,
    }


async def _policy(call: Call) -> bytes:
    if call.identity.kind is Kind.ROOT:
        return CANNED["consoleAdmin"].text
    return await call.accounts.effective_policy(call.identity.access_key)


async def _tell_bucket(call: Call, bucket: BucketInfo) -> dict[str, Any] | None:
    """
    A bucket with what may be done there; ``None`` when that is nothing.
    """
    name = bucket.name
    read = await _may(call, bucket, "s3:ListBucket", name) or await _may(
        call, bucket, "s3:GetBucketLocation", name
    )
    write = await _may(call, bucket, "s3:PutObject", f"{name}/*")
    if not (read or write):
        return None
    counted = await call.front.usage.of(bucket) if read else None
    return {
        "name": name,
        **({} if counted is None else _held(counted)),
        "created": tell_update(bucket.created),
        "access": {"read": read, "write": write},
    }


def _held(counted: BucketUsage) -> dict[str, Any]:
    """
    What a bucket holds.
    """
    return {
        "size": counted.size,
        "objects": counted.objects,
        "objectHistogram": counted.size_histogram(),
        "objectsVersionsHistogram": counted.stack_histogram(),
    }


async def _may(call: Call, bucket: BucketInfo, action: str, resource: str) -> bool:
    question = Question(action, resource, call.values)
    return await call.accounts.allows(call.identity, question, bucket.settings)
