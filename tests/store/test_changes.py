# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.changes``.
"""

import os

from hypothesis import given
from hypothesis import strategies as st

from kypello.model import Write
from kypello.store.changes import GROUPS, Changes, shared_table
from tests.cases import SyncCase

KEYS = (b"a", b"b", b"c")


class ChangesTests(SyncCase):
    """
    A table that several processes share.
    """

    def test_alone(self) -> None:
        """
        Who changes a group alone is told its stamp; it stays so until the next change.
        """
        changes = Changes()
        group = changes.group("s", b"a")
        before = changes.begin("s", [Write(b"a", b"1"), Write(b"b", b"1"), Write(b"a", None)])
        self.assertFalse(changes.quiet(changes.stamp(group)))
        alone = changes.end(before)
        self.assertEqual(set(alone), {group, changes.group("s", b"b")})
        self.assertEqual(alone[group], changes.stamp(group))
        self.assertTrue(changes.quiet(alone[group]))
        changes.end(changes.begin("s", [Write(b"a", b"2")]))
        self.assertNotEqual(alone[group], changes.stamp(group))

    def test_groups(self) -> None:
        """
        A key has the same group everywhere, and keys of different spaces hardly ever share one.
        """
        self.assertEqual(Changes().group("space", b"key"), Changes().group("space", b"key"))
        groups = {Changes().group(f"s{n % 7}", b"o%d" % (n // 7)) for n in range(7)}
        self.assertEqual(len(groups), 7)
        self.assertTrue(all(0 <= group < GROUPS for group in groups))

    @given(
        st.lists(
            st.tuples(st.integers(0, 2), st.sets(st.sampled_from(KEYS), min_size=1)), max_size=12
        ),
        st.data(),
    )
    def test_interleaved(self, work: list[tuple[int, set[bytes]]], data: st.DataObject) -> None:
        """
        However changes of three processes interleave: a stamp that is quiet and the same twice
        has seen no change begin between, and nobody is told a stamp that hides one of others.
        """
        descriptor = shared_table(3)
        try:
            processes = [Changes(number, 3, descriptor) for number in range(3)]
            watcher = processes[0]
            version = dict.fromkeys(KEYS, 0)  # how many changes have begun
            underway: list[tuple[int, set[bytes], dict[int, bytes], dict[bytes, int]]] = []
            seen: dict[tuple[bytes, bytes], int] = {}

            def look() -> None:
                """
                Compare all stamps with those before.
                """
                for key in KEYS:
                    stamp = watcher.stamp(watcher.group("s", key))
                    changing = any(key in keys for _, keys, _, _ in underway)
                    self.assertEqual(watcher.quiet(stamp), not changing)
                    if not changing:
                        self.assertEqual(seen.setdefault((key, stamp), version[key]), version[key])

            while work or underway:
                look()
                if underway and (not work or data.draw(st.booleans())):
                    at = data.draw(st.integers(0, len(underway) - 1))
                    number, keys, before, began = underway.pop(at)
                    alone = processes[number].end(before)
                    for key in keys:
                        group = watcher.group("s", key)
                        if group in alone:
                            self.assertEqual(alone[group], watcher.stamp(group))
                            self.assertEqual(version[key], began[key])
                else:
                    number, keys = work.pop()
                    busy = {key for _, others, _, _ in underway for key in others}
                    before = processes[number].begin("s", [Write(key, b"") for key in keys])
                    for key in keys:
                        version[key] += 1
                    # Who begins while another is at it can never be alone.
                    began = {key: -1 if key in busy else version[key] for key in keys}
                    underway.append((number, keys, before, began))
            look()
        finally:
            os.close(descriptor)

    def test_many_changes(self) -> None:
        """
        The count of changes comes round without harm.
        """
        changes = Changes(1, 2)
        group = changes.group("s", b"a")
        changes._numbers[group * 2 + 1] = ((1 << 32) - 1) << 32
        alone = changes.end(changes.begin("s", [Write(b"a", None)]))
        self.assertEqual(alone, {group: bytes(16)})
