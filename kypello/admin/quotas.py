# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How much buckets may hold, by the administration API.
"""

from collections.abc import Mapping
from functools import partial

import msgspec

from kypello.admin.call import Call
from kypello.admin.errors import invalid_argument
from kypello.admin.wire import json_response
from kypello.http.response import Response
from kypello.quota import SETTING, Quota, quota_of

#: The one kind of quota: what would exceed it is refused.
_HARD = "hard"

#: The largest quota, in bytes.
_MOST = (1 << 63) - 1


class Asked(msgspec.Struct):
    """
    What a client sets.

    :ivar quota: Bytes, as older clients tell it; zero for anything.
    :ivar size: The same, as newer ones do.
    :ivar rate: How fast data may come and go, which is not limited here.
    :ivar requests: How many requests there may be, which is not limited here.
    :ivar quotatype: ``hard``, or empty.
    """

    quota: int = 0
    size: int = 0
    rate: int = 0
    requests: int = 0
    quotatype: str = ""


async def get_quota(call: Call) -> Response:
    """
    Tell the quota of a bucket.
    """
    return json_response(told_quota((await call.front.store.bucket(call.named("bucket"))).settings))


async def set_quota(call: Call) -> Response:
    """
    Set the quota of a bucket, or remove it.
    """
    bucket, asked = call.named("bucket"), call.read(Asked)
    await change_quota(call, bucket, asked)
    return Response(200)


def told_quota(settings: Mapping[str, bytes]) -> dict[str, int | str]:
    """
    The quota of a bucket with these settings, as clients know it.
    """
    quota = quota_of(settings)
    told: dict[str, int | str] = {"quota": 0, "size": 0, "rate": 0, "requests": 0}
    if quota is not None:
        told.update(quota=quota.size, size=quota.size, quotatype=_HARD)
    return told


async def change_quota(call: Call, bucket: str, asked: Asked) -> None:
    """
    Set the quota of a bucket, or remove it.

    :raises Rejected: It cannot be kept so.
    """
    size = asked.size or asked.quota
    if asked.quotatype not in ("", _HARD):
        raise invalid_argument(
            "There are hard quotas only: no object is removed to make room for others."
        )
    if asked.rate or asked.requests:
        raise invalid_argument("Neither traffic nor requests of a bucket can be limited.")
    if not 0 <= size <= _MOST or (asked.quota and asked.size not in (0, asked.quota)):
        raise invalid_argument("The quota is no size.")
    since = int(call.front.clock.seconds() * 1e9)
    await call.front.store.change_bucket(bucket, partial(_changed, size=size, since=since))


def _changed(settings: Mapping[str, bytes], *, size: int, since: int) -> Mapping[str, bytes]:
    others = {name: value for name, value in settings.items() if name != SETTING}
    return {**others, SETTING: Quota(size, since).to_bytes()} if size else others
