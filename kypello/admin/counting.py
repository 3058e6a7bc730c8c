# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How many objects there are, if that is few enough to be counted when somebody asks.
"""

from collections.abc import Iterable
from typing import Any

from attrs import evolve

from kypello.interfaces import IObjectStore
from kypello.model import BucketInfo, ListQuery

#: How many objects are counted at most; a page of a listing stands for :data:`PAGE` at least.
MOST = 10_000
PAGE = 50

_PAGE = ListQuery()


async def count(store: IObjectStore, buckets: Iterable[BucketInfo]) -> dict[str, Any]:
    """
    The buckets, the current objects and their size in bytes, as the API tells them.

    Clients show all three or none, and nothing as zero: so all of them are left out when there are
    too many objects.
    """
    objects = size = cost = 0
    names = [bucket.name for bucket in buckets]
    for name in names:
        query: ListQuery | None = _PAGE
        while query is not None:
            if cost >= MOST:
                reason = {"error": f"there are more than {objects} objects, which are not counted"}
                return {"buckets": reason, "objects": reason, "usage": reason}
            page = await store.list(name, query)
            cost += max(len(page.objects), PAGE)
            objects += len(page.objects)
            size += sum(info.size for info in page.objects)
            query = None if page.next is None else evolve(_PAGE, start_after=page.next)
    return {
        "buckets": {"count": len(names)},
        "objects": {"count": objects},
        "usage": {"size": size},
    }
