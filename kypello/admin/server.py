# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The server as a whole, by the administration API: how it is, what it holds, how it ends.

Objects are counted nowhere as they come and go.  What depends on their number, and is not cheap to
find out, is left out rather than told as zero.
"""

import os
import platform
from typing import Any

import msgspec
from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults

from kypello.admin.call import AdminFront, Call
from kypello.admin.counting import count
from kypello.admin.errors import invalid_argument, not_offered, text_of
from kypello.admin.kms import tell_status
from kypello.admin.wire import json_response, tell_update
from kypello.errors import KypelloError, StorageFailed
from kypello.http.response import Response
from kypello.model import BucketInfo, Kind, Question
from kypello.policy.canned import CANNED

#: What programs know a server on one file system by.
_BACKEND = "FS"
_BACKEND_NUMBER = 1

_SERVICE_ACTIONS = {"restart": "admin:ServiceRestart", "stop": "admin:ServiceStop"}
_FREEZING = frozenset({"freeze", "unfreeze"})


@frozen
class _Space:
    """
    The file system of the data directory, in bytes.
    """

    total: int
    used: int
    available: int


def _space(path: str) -> _Space:
    """
    Ask the file system; blocking.

    :raises StorageFailed:
    """
    try:
        told = os.statvfs(path)
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}") from None
    size = told.f_frsize
    return _Space(told.f_blocks * size, (told.f_blocks - told.f_bfree) * size, told.f_bavail * size)


async def info(call: Call) -> Response:
    """
    What the server is, and how it does.
    """
    front, request = call.front, call.head
    host = request.header("host") or ""
    drive = await _drive(front)
    counted = await count(front.store, await front.store.buckets())
    return json_response(
        {
            "mode": "online",
            "region": front.shown_region,
            **counted,
            "versions": {"error": "versions are not counted"},
            "deletemarkers": {"error": "delete markers are not counted"},
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
    Stop the server, or start it again.
    """
    action, front = call.parameter("action"), call.front
    if action in _FREEZING:
        await call.require("admin:ServiceFreeze")
        raise not_offered("Requests cannot be frozen: stop the server to end them all.")
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
    space: _Space = await front.lanes.lane().run(_space, path)
    return {
        "endpoint": path,
        "path": path,
        "state": "ok",
        "totalspace": space.total,
        "usedspace": space.used,
        "availspace": space.available,
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
    return {
        "name": name,
        "created": tell_update(bucket.created),
        "access": {"read": read, "write": write},
    }


async def _may(call: Call, bucket: BucketInfo, action: str, resource: str) -> bool:
    question = Question(action, resource, call.values)
    return await call.accounts.allows(call.identity, question, bucket.settings)
