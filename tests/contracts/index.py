# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every ``IIndex`` must do.
"""

import os
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from kypello.errors import Conflict
from kypello.interfaces import IIndex
from kypello.model import Write


class IndexContract:
    """
    The contract of an index.  Subclasses provide ``make_index``.
    """

    # Those of trial's TestCase, which the subclass brings.
    assertEqual: Any
    assertIn: Any
    assertRaises: Any
    assertTrue: Any

    async def make_index(self) -> IIndex:
        """
        An empty index.
        """
        raise NotImplementedError

    async def filled(self, *keys: bytes) -> IIndex:
        """
        An index whose space ``here`` holds each key as its own value.
        """
        index = await self.make_index()
        await index.commit("here", [Write(key, key) for key in keys], {}, ())
        return index

    async def test_interface(self) -> None:
        """
        The index provides ``IIndex``.
        """
        self.assertTrue(verifyObject(IIndex, await self.make_index()))

    async def test_get(self) -> None:
        """
        Values come in the order asked for, ``None`` for what is absent.
        """
        index = await self.filled(b"a", b"b", b"\x00\xff", b"")
        self.assertEqual(
            list(await index.get("here", [b"b", b"x", b"\x00\xff", b"a", b"", b"b"])),
            [b"b", None, b"\x00\xff", b"a", b"", b"b"],
        )
        self.assertEqual(list(await index.get("here", [])), [])
        self.assertEqual(list(await index.get("elsewhere", [b"a"])), [None])

    async def test_values(self) -> None:
        """
        Values are bytes of any kind, empty and of many KiB.
        """
        index = await self.make_index()
        values = [b"", b"\x00", b"'\"", "ü".encode("latin-1"), os.urandom(100_000)]
        writes = [Write(b"%d" % number, value) for number, value in enumerate(values)]
        await index.commit("here", writes, {}, ())
        found = await index.get("here", [write.key for write in writes])
        self.assertEqual(list(found), values)
        self.assertEqual(
            list(await index.scan("here", b"", None, 10)),
            [(write.key, write.value) for write in writes],
        )

    async def test_many(self) -> None:
        """
        One commit may change, and one call read, thousands of records.
        """
        index = await self.make_index()
        keys = [b"%05d" % number for number in range(3000)]
        await index.commit("here", [Write(key, key) for key in keys], {}, ())
        self.assertEqual(list(await index.get("here", keys)), keys)
        rows = await index.scan("here", b"", None, 5000)
        self.assertEqual([key for key, _ in rows], keys)
        expect = dict(zip(keys, keys, strict=True))
        await index.commit("here", [Write(key, None) for key in keys], expect, [(b"a", b"b")])
        self.assertEqual(list(await index.scan("here", b"", None, 5000)), [])

    async def test_scan(self) -> None:
        """
        A range has its start and not its stop, in the order of bytes, up to the limit.
        """
        keys = [b"a", b"a\x00", b"aa", b"b", b"\xc3\xa9", b"\xff", b"\xff\xff"]
        index = await self.filled(*reversed(keys))

        async def scan(start: bytes, stop: bytes | None, limit: int = 100) -> list[bytes]:
            """
            The keys of a range.
            """
            rows = await index.scan("here", start, stop, limit)
            for key, value in rows:
                self.assertEqual(key, value)
            return [key for key, _ in rows]

        self.assertEqual(await scan(b"", None), keys)
        self.assertEqual(await scan(b"a", b"b"), [b"a", b"a\x00", b"aa"])
        self.assertEqual(await scan(b"a\x00", None, 2), [b"a\x00", b"aa"])
        self.assertEqual(await scan(b"\xff", None), [b"\xff", b"\xff\xff"])
        self.assertEqual(await scan(b"x", b"c"), [])
        self.assertEqual(await scan(b"", None, 0), [])
        self.assertEqual(list(await index.scan("elsewhere", b"", None, 10)), [])

    async def test_commit(self) -> None:
        """
        A commit stores, replaces and removes; later writes of one key win.
        """
        index = await self.filled(b"a", b"b", b"c")
        writes = [
            Write(b"a", b"new"),
            Write(b"b", None),
            Write(b"x", None),
            Write(b"d", b"1"),
            Write(b"d", None),
            Write(b"e", None),
            Write(b"e", b"2"),
        ]
        await index.commit("here", writes, {}, ())
        self.assertEqual(
            list(await index.scan("here", b"", None, 10)),
            [(b"a", b"new"), (b"c", b"c"), (b"e", b"2")],
        )

    async def test_expect(self) -> None:
        """
        A commit whose expectation fails changes nothing and names the key.
        """
        index = await self.filled(b"a", b"b")
        for expect in ({b"a": b"x"}, {b"a": None}, {b"a": b"a", b"z": b"z"}):
            with self.assertRaises(Conflict) as caught:
                await index.commit("here", [Write(b"b", b"new")], expect, ())
            self.assertIn(caught.exception.key, (b"a", b"z"))
            self.assertEqual(list(await index.get("here", [b"b"])), [b"b"])
        await index.commit("here", [Write(b"b", b"new")], {b"a": b"a", b"z": None}, ())
        self.assertEqual(list(await index.get("here", [b"b"])), [b"new"])

    async def test_empty(self) -> None:
        """
        A commit that expects an empty range conflicts with any key in it.
        """
        index = await self.filled(b"a", b"c")
        for ranges in ([(b"a", b"b")], [(b"x", b"z"), (b"", b"a\x00")]):
            with self.assertRaises(Conflict) as caught:
                await index.commit("here", [Write(b"b", b"b")], {}, ranges)
            self.assertEqual(caught.exception.key, b"a")
        await index.commit("here", [Write(b"b", b"b")], {}, [(b"a\x00", b"c"), (b"d", b"z")])
        self.assertEqual(list(await index.get("here", [b"b"])), [b"b"])

    async def test_spaces(self) -> None:
        """
        Spaces begin with their first commit and do not see each other.
        """
        index = await self.filled(b"a")
        await index.get("there", [b"a"])
        for expect in ({b"a": b"a"}, {b"a": b"a", b"b": None}):
            with self.assertRaises(Conflict):
                await index.commit("there", [Write(b"a", b"b")], expect, ())
        self.assertEqual(list(await index.spaces()), ["here"])
        await index.commit("there", [Write(b"a", b"other")], {b"a": None}, [(b"", b"z")])
        await index.commit("system", [Write(b"a", b"third")], {}, ())
        self.assertEqual(list(await index.spaces()), ["here", "system", "there"])
        self.assertEqual(list(await index.get("here", [b"a"])), [b"a"])
        self.assertEqual(list(await index.get("there", [b"a"])), [b"other"])

    async def test_drop(self) -> None:
        """
        A dropped space is gone with its records; one of the same name begins empty.
        """
        index = await self.filled(b"a")
        await index.drop("here")
        await index.drop("here")
        self.assertEqual(list(await index.spaces()), [])
        self.assertEqual(list(await index.get("here", [b"a"])), [None])
        with self.assertRaises(Conflict):
            await index.commit("here", [Write(b"b", b"b")], {b"a": b"a"}, ())
        await index.commit("here", [Write(b"b", b"b")], {b"a": None}, ())
        self.assertEqual(list(await index.scan("here", b"", None, 10)), [(b"b", b"b")])

    async def test_one_winner(self) -> None:
        """
        Of commits that expect the same, made at once, exactly one succeeds.
        """
        index = await self.filled(b"k")
        won: list[bytes] = []

        async def attempt(value: bytes) -> None:
            """
            Try it.
            """
            try:
                await index.commit("here", [Write(b"k", value)], {b"k": b"k"}, ())
            except Conflict:
                return
            won.append(value)

        attempts = [attempt(b"%d" % number) for number in range(20)]
        await gatherResults([Deferred.fromCoroutine(each) for each in attempts])
        self.assertEqual(won, list(await index.get("here", [b"k"])))

    async def test_alone(self) -> None:
        """
        Commits made at once fail alone: those beside one that conflicts all happen, in order.
        """
        index = await self.filled(b"k")

        async def commit(number: int) -> None:
            """
            Commit, every third time with a false expectation.
            """
            expect = {b"k": b"k" if number % 3 else b"x"}
            empty = [(b"n%02d" % number, b"n%02d\x00" % number)]
            writes = [Write(b"n%02d" % number, b""), Write(b"last", b"%d" % number)]
            if number % 3:
                await index.commit("here", writes, expect, empty)
            else:
                with self.assertRaises(Conflict):
                    await index.commit("here", writes, expect, empty)

        await gatherResults([Deferred.fromCoroutine(commit(number)) for number in range(30)])
        rows = await index.scan("here", b"n", b"o", 100)
        self.assertEqual([key for key, _ in rows], [b"n%02d" % n for n in range(30) if n % 3])
        self.assertEqual(list(await index.get("here", [b"last"])), [b"29"])

    async def test_counting(self) -> None:
        """
        Increments by compare-and-set are never lost.
        """
        index = await self.make_index()

        async def increment() -> None:
            """
            Add one.
            """
            while True:
                (value,) = await index.get("here", [b"k"])
                write = Write(b"k", b"%d" % (int(value or b"0") + 1))
                try:
                    await index.commit("here", [write], {b"k": value}, ())
                except Conflict:
                    continue
                return

        await gatherResults([Deferred.fromCoroutine(increment()) for _ in range(12)])
        self.assertEqual(list(await index.get("here", [b"k"])), [b"12"])

    async def test_instant(self) -> None:
        """
        A reader sees all changes of a commit or none.
        """
        index = await self.filled(b"a", b"b")

        async def write() -> None:
            """
            Change both records together.
            """
            for number in range(20):
                value = b"%d" % number
                await index.commit("here", [Write(b"a", value), Write(b"b", value)], {}, ())

        async def read() -> None:
            """
            Compare both records.
            """
            for _ in range(20):
                first, second = await index.get("here", [b"a", b"b"])
                self.assertTrue(first == second or (first, second) == (b"a", b"b"))
                rows = await index.scan("here", b"", None, 10)
                self.assertTrue(rows[0][1] == rows[1][1] or rows[0][1] == b"a")

        await gatherResults([Deferred.fromCoroutine(each) for each in (write(), read(), read())])
