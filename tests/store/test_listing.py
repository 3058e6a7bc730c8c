# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.listing``.
"""

from collections.abc import Sequence

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from kypello.model import ListQuery
from kypello.store.listing import Page, page, successor
from tests.cases import SyncCase

#: Few letters, so that prefixes and groups meet; the last two differ in length as UTF-8.
TEXT = st.text("ab/\x01é\U0010ffff", max_size=6)


def name_of(key: bytes) -> bytes:
    """
    The name in a key that is a name, NUL and more.
    """
    return key.partition(b"\x00")[0]


@define
class Scanned:
    """
    A sorted list of keys that counts what is read of it.
    """

    keys: list[bytes]
    scans: int = 0
    rows: int = field(default=0)

    async def scan(
        self, start: bytes, stop: bytes | None, limit: int
    ) -> Sequence[tuple[bytes, bytes]]:
        """
        The first keys of a range.
        """
        found = [key for key in self.keys if start <= key and (stop is None or key < stop)]
        self.scans += 1
        self.rows += len(found[:limit])
        return [(key, b"=" + key) for key in found[:limit]]


def slowly(keys: set[str], query: ListQuery) -> Page:
    """
    What a page must be, by looking at each key in turn.
    """
    after = query.start_after.encode()
    shown: dict[bytes, bool] = {}
    for key in sorted(keys):
        if not key.startswith(query.prefix):
            continue
        rest = key[len(query.prefix) :]
        name, grouped = key, False
        if query.delimiter and query.delimiter in rest:
            name = query.prefix + rest[: rest.index(query.delimiter)] + query.delimiter
            grouped = True
        if key.encode() > after and (not grouped or name.encode() > after):
            shown[name.encode()] = grouped
    # A key may look like a group, and is then in it.
    names = sorted(shown)
    kept = names[: query.limit]
    entries = [(name, b"=" + name) for name in kept if not shown[name]]
    groups = [name for name in kept if shown[name]]
    return Page(entries, groups, kept[-1] if kept and len(names) > len(kept) else None)


class PageTests(SyncCase):
    """
    One page of a listing.
    """

    def page(self, scanned: Scanned, query: ListQuery) -> Page:
        """
        Make one.
        """
        return self.successResultOf(Deferred.fromCoroutine(page(scanned.scan, query)))

    @given(st.sets(TEXT.filter(bool)), TEXT, st.sampled_from(["", "/", "a", "/a", "é"]), TEXT)
    def test_reference(self, keys: set[str], prefix: str, delimiter: str, after: str) -> None:
        """
        Pages of all sizes are those that looking at each key gives.
        """
        stored = sorted(key.encode() for key in keys)
        for limit in (0, 1, 2, 3, 1000):
            query = ListQuery(prefix, delimiter, after, limit)
            self.assertEqual(self.page(Scanned(stored), query), slowly(keys, query))

    @given(st.sets(TEXT.filter(bool)), TEXT, st.sampled_from(["", "/", "a"]), st.integers(1, 4))
    def test_pages_follow(self, keys: set[str], prefix: str, delimiter: str, limit: int) -> None:
        """
        Page after page gives what one large page gives.
        """
        scanned = Scanned(sorted(key.encode() for key in keys))
        whole = self.page(scanned, ListQuery(prefix, delimiter))
        entries, groups, after = [], [], ""
        while True:
            each = self.page(scanned, ListQuery(prefix, delimiter, after, limit))
            entries += each.entries
            groups += each.groups
            if each.next is None:
                break
            after = each.next.decode()
        self.assertEqual((entries, groups), (whole.entries, whole.groups))

    @given(
        st.lists(TEXT.filter(bool), max_size=12),
        TEXT,
        st.sampled_from(["", "/", "a", "0", "/a"]),
        TEXT,
        st.integers(0, 12),
    )
    def test_names(
        self, names: list[str], prefix: str, delimiter: str, after: str, skip: int
    ) -> None:
        """
        Keys that are more than a name are grouped and chosen by the name, and those of one name
        follow each other.
        """
        keys = sorted(b"%b\x00%02d" % (name.encode(), n) for n, name in enumerate(names))
        query = ListQuery(prefix, delimiter, after)
        of_names = slowly(set(names), query)
        grouped = bool(delimiter) and delimiter in after[len(prefix) :]
        for start in (after.encode() + b"\x01", b"%b\x00%02d" % (after.encode(), skip)):
            found = self.successResultOf(
                Deferred.fromCoroutine(page(Scanned(keys).scan, query, start, name_of))
            )
            kept = {name for name, _ in of_names.entries}
            expected = [
                key
                for key in keys
                if name_of(key) in kept
                or (
                    name_of(key) == after.encode()
                    and key >= start
                    and after.startswith(prefix)
                    and not grouped
                )
            ]
            self.assertEqual([key for key, _ in found.entries], expected)
            self.assertEqual(found.groups, of_names.groups)

    def test_large_groups(self) -> None:
        """
        The keys inside of large groups are not read.
        """
        keys = sorted(b"%02d/%05d" % (group, n) for group in range(20) for n in range(2000))
        scanned = Scanned(keys)
        found = self.page(scanned, ListQuery(delimiter="/", limit=10))
        self.assertEqual(found, Page([], [b"%02d/" % group for group in range(10)], b"09/"))
        self.assertLess(scanned.rows, 200)
        self.assertLess(scanned.scans, 15)

    def test_plain(self) -> None:
        """
        Without groups a page is one scan of its size and one more key.
        """
        scanned = Scanned([b"%05d" % number for number in range(5000)])
        found = self.page(scanned, ListQuery(start_after="01000"))
        self.assertEqual((len(found.entries), found.next), (1000, b"02000"))
        self.assertEqual((scanned.scans, scanned.rows), (1, 1001))

    def test_few_groups(self) -> None:
        """
        With a delimiter that no key holds a page takes few scans.
        """
        scanned = Scanned([b"%05d" % number for number in range(5000)])
        found = self.page(scanned, ListQuery(delimiter="/"))
        self.assertEqual((len(found.entries), found.next), (1000, b"00999"))
        self.assertLess(scanned.scans, 5)
        self.assertEqual(scanned.rows, 1001)

    def test_successor(self) -> None:
        """
        The successor of a prefix comes after all that begins so.
        """
        self.assertEqual(successor(b"a/"), b"a0")
        self.assertEqual(successor(b"a\xff\xff"), b"b")
        self.assertIsNone(successor(b"\xff"))
        self.assertIsNone(successor(b""))
