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

#: How many pages of listings are looked at, of a thousand objects each.
PAGES = 10

_PAGE = ListQuery()


async def count(store: IObjectStore, buckets: Iterable[BucketInfo]) -> dict[str, Any]:
    """
    The buckets, the current objects and their size in bytes, as the API tells them.

    Clients show all three or none, and nothing as zero: so all of them are left out when there are
    too many objects.
    """
    objects = size = pages = 0
    names = [bucket.name for bucket in buckets]
    for name in names:
        query: ListQuery | None = _PAGE
        while query is not None:
            if pages == PAGES:
                reason = {"error": f"there are more than {objects} objects, which are not counted"}
                return {"buckets": reason, "objects": reason, "usage": reason}
            pages += 1
            page = await store.list(name, query)
            objects += len(page.objects)
            size += sum(info.size for info in page.objects)
            query = None if page.next is None else evolve(_PAGE, start_after=page.next)
    return {
        "buckets": {"count": len(names)},
        "objects": {"count": objects},
        "usage": {"size": size},
    }
