# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What clients ask for as a matter of course, and what this server has none of: tiers, jobs, sites,
disks to heal.
"""

from kypello.admin.call import Call
from kypello.admin.wire import json_response, tell_time
from kypello.http.response import Response


async def replication(call: Call) -> Response:
    """
    The replication between sites: off.
    """
    return json_response({"enabled": False})


async def replication_status(call: Call) -> Response:
    """
    The state of the replication between sites: off.
    """
    return json_response({"Enabled": False})


async def remote_targets(call: Call) -> Response:
    """
    The targets that a bucket is replicated to: none.
    """
    await call.front.store.bucket(call.named("bucket"))
    return json_response(None)


async def tiers(call: Call) -> Response:
    """
    The storage that objects move to, and its use: none.
    """
    return json_response(None)


async def jobs(call: Call) -> Response:
    """
    The jobs that run: none.
    """
    return json_response({"jobs": None})


async def background_healing(call: Call) -> Response:
    """
    The disks that are being healed: with one disk there is nothing to heal it from.
    """
    return json_response({"offline_nodes": None, "ScannedItemsCount": 0, "HealDisks": None})


async def heal(call: Call) -> Response:
    """
    Healing of a bucket or of everything: it has nothing to do, and so is over at once.
    """
    bucket = call.tail.partition("/")[0]
    if bucket:
        await call.front.store.bucket(bucket)
    now = tell_time(call.front.clock.seconds())
    if not call.parameter("clientToken"):
        token = call.front.random(16).hex()
        return json_response(
            {"clientToken": token, "clientAddress": call.head.peer, "startTime": now}
        )
    return json_response({"Summary": "finished", "StartTime": now, "Settings": {}, "Items": None})
