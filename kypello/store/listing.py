# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One page of a listing over an ordered map of keys; pure.

Groups are skipped by seeking past them.  What a page costs is bounded by its size, however
many keys its groups hold: the number of keys that one scan asks for follows how many of the
last scan's were of use.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from attrs import frozen

from kypello.interfaces import IIndex
from kypello.model import ListQuery

V = TypeVar("V")

#: Gives the first records with ``start <= key < stop`` in order; ``stop`` may be ``None``.
Scan: TypeAlias = Callable[[bytes, bytes | None, int], Awaitable[Sequence[tuple[bytes, V]]]]

#: The size of the first scan when there may be groups, and the least of those that follow.
_FIRST, _LEAST = 64, 8


@frozen
class Page(Generic[V]):
    """
    A page.

    :ivar entries: Keys with their records.
    :ivar groups: In order.
    :ivar next: The last key or group when more follow, else ``None``.
    """

    entries: Sequence[tuple[bytes, V]]
    groups: Sequence[bytes]
    next: bytes | None


def successor(prefix: bytes) -> bytes | None:
    """
    The first key after all that begin with *prefix*; ``None`` when there is none.
    """
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def scanning(index: IIndex, space: str, within: tuple[bytes, bytes]) -> Scan[bytes]:
    """
    A scan of the records of one kind.

    :param within: From their prefix, one byte, to the next one.
    """
    first, end = within

    async def scan(start: bytes, stop: bytes | None, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """
        Scan without the prefix.
        """
        rows = await index.scan(space, first + start, end if stop is None else first + stop, limit)
        return [(key[1:], value) for key, value in rows]

    return scan


def whole(key: bytes) -> bytes:
    """
    The name of a record whose key is that name.
    """
    return key


async def page(
    scan: Scan[V],
    query: ListQuery,
    start: bytes | None = None,
    name: Callable[[bytes], bytes] = whole,
) -> Page[V]:
    """
    The first keys and groups that *query* wants.

    :param start: The first key of interest, unless ``query.start_after`` lies in a group;
        ``None`` for the one that follows it.
    :param name: The name in a key, which begins with it: the query is about names.
    """
    prefix, delimiter = query.prefix.encode(), query.delimiter.encode()
    entries: list[tuple[bytes, V]] = []
    groups: list[bytes] = []
    last = b""
    start = _first(prefix, delimiter, query.start_after.encode(), start)
    stop = successor(prefix)
    left = query.limit
    size = min(left + 1, _FIRST) if delimiter else left + 1
    while left or last:
        if start is None or (stop is not None and start >= stop):
            break
        before = left
        group: bytes | None = None
        rows = await scan(start, stop, size)
        if not delimiter:
            return Page(rows[:left], groups, rows[left - 1][0] if len(rows) > left else None)
        for key, value in rows:
            if group is not None and key.startswith(group):
                continue
            if not left:
                return Page(entries, groups, last)
            group = _group(prefix, delimiter, name(key))
            if group is None:
                entries.append((key, value))
            else:
                groups.append(group)
            last = key if group is None else group
            left -= 1
        if len(rows) < size:
            break
        start = successor(group) if group is not None else rows[-1][0] + b"\x00"
        size = min(left + 1, max(_LEAST, 4 * (before - left)))
    return Page(entries, groups, None)


def _group(prefix: bytes, delimiter: bytes, key: bytes) -> bytes | None:
    if not delimiter:
        return None
    found = key.find(delimiter, len(prefix))
    return None if found < 0 else key[: found + len(delimiter)]


def _first(prefix: bytes, delimiter: bytes, after: bytes, start: bytes | None) -> bytes | None:
    if after < prefix:
        return prefix
    group = _group(prefix, delimiter, after) if after.startswith(prefix) else None
    if group is not None:
        return successor(group)
    return after + b"\x00" if start is None else start
