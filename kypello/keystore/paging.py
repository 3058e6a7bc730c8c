# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Listings of services that come page by page.
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from kypello.errors import KeyStoreFailed

#: How many pages a listing has at most: no service has as many secrets as would fill them.
_PAGES = 10000


async def pages(
    service: str,
    token: str,
    get: Callable[[str | None], Coroutine[Deferred[Any], Any, dict[str, Any]]],
) -> AsyncIterator[dict[str, Any]]:
    """
    All pages of a listing, one after the other.

    :param service: Whose listing it is, for people.
    :param token: What a page calls the token of the next one.
    :param get: Asks for the page of a token, at first of none.
    :raises KeyStoreFailed: It goes round in circles, or on and on; or what *get* raises.
    """
    following: str | None = None
    seen: set[str] = set()
    while len(seen) < _PAGES:
        page = await get(following)
        yield page
        following = page.get(token)
        if not following:
            return
        if following in seen:
            break
        seen.add(following)
    raise KeyStoreFailed(f"the listing of {service} has no end")
