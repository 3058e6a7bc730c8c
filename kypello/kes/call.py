# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One call of the KES API as a value, and how its listings are cut.
"""

from collections.abc import Iterable, Sequence

from attrs import field, frozen

from kypello.http.response import Response
from kypello.kes.wire import (
    Fields,
    Rejected,
    continuation,
    json_response,
    lines_response,
    parse_selection,
)

#: How many names one answer lists: clients read 1 MiB, and a name has up to 80 bytes.
PAGE = 10_000


@frozen
class Call:
    """
    One call, checked so far as its route tells.

    :ivar name: What follows the route's path: a name, or a pattern.
    :ivar identity: Who calls; empty when nobody knows.
    :ivar fields: Of the body; none where the route takes no body.
    :ivar items: Of the members of the body, where it is an array.
    :ivar lines: Names are to be listed one per line, as before October 2023.
    :ivar details: More than names are to be listed.
    :ivar confirmed: The name that is repeated to confirm its deletion.
    """

    name: str
    identity: str
    fields: Fields = field(repr=False)
    items: tuple[Fields, ...] = field(default=(), repr=False)
    lines: bool = False
    details: bool = False
    confirmed: str = ""


def page(
    call: Call, known: Iterable[str], plural: str, singular: str, always: bool = False
) -> Response:
    """
    Answer a listing.

    :param known: All names, sorted.
    :param plural: What an answer calls them.
    :param singular: What a line calls one.
    :param always: Whether the end is told with an empty ``continue_at``.
    :raises Rejected: The pattern is none.
    """
    if call.lines:
        found, _more = selected(call.name, known, None)
        return lines_response({singular: name} for name in found)
    found, more = selected(call.name, known, PAGE)
    return json_response({plural: found} | ({"continue_at": more} if more or always else {}))


def selected(pattern: str, known: Iterable[str], limit: int | None) -> tuple[Sequence[str], str]:
    """
    The names that a listing asks for, and the pattern that asks for those behind them; empty at
    the end.

    :param limit: How many names there may be; ``None`` for all.
    :raises Rejected: The pattern is none.
    """
    wanted = parse_selection(pattern)
    if wanted is None:
        raise Rejected(400, f"listing pattern '{pattern}' is empty, too long or is invalid")
    found = [n for n in known if n.startswith(wanted.prefix) and n > wanted.after]
    if limit is None or len(found) <= limit:
        return found, ""
    return found[:limit], continuation(wanted.prefix, found[limit - 1])
