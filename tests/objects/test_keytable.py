# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.objects.keytable``.
"""

import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from twisted.internet.task import Clock

from kypello.objects.keytable import OPENED, OPENED_SIZE, PARTS, KeyTable, Name, shared_opened_keys
from tests.cases import SyncCase

_KEY, _OTHER = b"k" * 32, b"o" * 32

#: Keeps keys as fast as it can, until it is killed.
_WRITER = """
import itertools, sys
from twisted.internet.task import Clock
from kypello.objects.keytable import KeyTable
clock = Clock()
clock.advance(1000)
keys = KeyTable(clock, 64, 32, 100, int(sys.argv[1]))
print("begun", flush=True)
for number in itertools.count():
    value = bytes([number % 256])
    keys.put(("master", b"sealed", b""), 32 * value, 1050, 1100)
    keys.put(("master", b"%d" % (number % 200), b""), 32 * value, 1050, 1100)
"""


def opening(number: int = 0, key_name: str = "master") -> Name:
    """
    One of many.
    """
    return key_name, b"sealed %d" % number, b"context"


class KeyTableTests(SyncCase):
    """
    Keys that are kept for 100 seconds at most, as two processes see them.
    """

    def setUp(self) -> None:
        """
        Keep nothing yet.
        """
        self.clock = Clock()
        self.clock.advance(1000)
        self.descriptor = shared_opened_keys()
        self.addCleanup(os.close, self.descriptor)
        self.one, self.two = self.view(), self.view()

    def view(self, limit: int = 1000) -> KeyTable:
        """
        What one process sees.
        """
        return KeyTable(self.clock, limit, OPENED_SIZE, 100.0, self.descriptor)

    def memory(self) -> bytes:
        """
        All slots.
        """
        return os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 96)

    def wipe(self, keys: KeyTable) -> None:
        """
        Wipe all parts.
        """
        for _ in range(PARTS):
            keys.wipe()

    def test_together(self) -> None:
        """
        What one keeps, both have, until it is replaced or dropped by either.
        """
        self.one.put(opening(), _KEY, 1010, 1020)
        found = self.two.get(opening())
        assert found is not None
        self.assertEqual((found.value, found.fresh, found.until), (_KEY, 1010, 1020))
        self.two.put(opening(), _OTHER, 1011, 1021)
        found = self.one.get(opening())
        assert found is not None
        self.assertEqual((found.value, found.fresh, found.until), (_OTHER, 1011, 1021))
        self.one.drop(opening())
        self.assertIsNone(self.two.get(opening()))
        self.assertEqual(self.memory().strip(b"\0"), b"")

    def test_opening(self) -> None:
        """
        Another master key, sealed key or context is another opening, however they are cut.
        """
        self.one.put(("ab", b"cd", b"ef"), _KEY, 1010, 1020)
        for other in (("a", b"bcd", b"ef"), ("ab", b"c", b"def"), ("ab", b"cdef", b"")):
            self.assertIsNone(self.two.get(other))

    def test_time(self) -> None:
        """
        A key is forgotten at its time, and when the clock is set back so far that it cannot have
        been kept for so long.
        """
        self.one.put(opening(), _KEY, 1010, 1100)
        self.clock.advance(99)
        self.assertIsNotNone(self.two.get(opening()))
        self.clock.advance(1)
        self.assertIsNone(self.two.get(opening()))
        self.clock.rightNow = 999
        self.assertIsNone(self.two.get(opening()))

    def test_for_ever(self) -> None:
        """
        What is kept for ever is not forgotten, nor wiped.
        """
        self.one.put(opening(), _KEY, math.inf, math.inf)
        self.clock.advance(1e6)
        self.wipe(self.two)
        self.assertIsNotNone(self.two.get(opening()))

    def test_wiped(self) -> None:
        """
        What has expired is wiped from memory, though nobody asks for it, and nothing else is.
        """
        for number in range(50):
            self.one.put(opening(number), _KEY, 1010, 1010)
        self.one.put(opening(99), _OTHER, 1010, 1100)
        self.clock.advance(9)
        self.wipe(self.two)
        self.assertEqual(self.memory().count(_KEY), 50)
        self.clock.advance(1)
        self.wipe(self.two)
        self.assertEqual((self.memory().count(_KEY), self.memory().count(_OTHER)), (0, 1))

    def test_broken(self) -> None:
        """
        A slot of which any byte is not as it was written counts as nothing, and is wiped.
        """
        for at in range(112):
            self.one.put(opening(), _KEY, 1010, 1020)
            memory = self.memory()
            place = memory.index(_KEY) - 64
            broken = bytes([memory[place + at] ^ 1])
            os.pwrite(self.descriptor, broken, 96 + place + at)
            self.assertIsNone(self.two.get(opening()))
            self.wipe(self.two)
            self.assertEqual(self.memory().strip(b"\0"), b"")

    def test_revoked(self) -> None:
        """
        A master key that is revoked takes along all that it has opened, and this is told; another
        one stays.  Where there was nothing, nothing is told.
        """
        for number in range(200):
            self.one.put(opening(number), _KEY, 1010, 1020)
            self.one.put(opening(number, "other"), _OTHER, math.inf, math.inf)
        self.assertTrue(self.two.revoke("master"))
        self.assertEqual((self.memory().count(_KEY), self.memory().count(_OTHER)), (0, 200))
        self.assertEqual((self.one.revocations, self.two.revocations), (1, 1))
        self.assertFalse(self.one.revoke("master"))
        self.assertEqual(self.one.revocations, 1)

    def test_claimed(self) -> None:
        """
        Each process can claim a key once, but not the one that made it, nor what is not there or
        has expired; a key that takes its place can be claimed anew.
        """
        self.assertIsNone(self.one.claim(opening(), 0))
        for value in (_KEY, _OTHER):
            self.one.put(opening(), value, 1010, 1020, 3)
            claimed = [
                keys.claim(opening(), number)
                for number in (3, 67, 0, 63, 0)
                for keys in (self.one, self.two)
            ]
            got = [None if each is None else each.value for each in claimed]
            self.assertEqual(got, [None] * 4 + [value, None, value, None, None, None])
        self.clock.advance(20)
        self.assertIsNone(self.one.claim(opening(), 5))
        self.assertIsNone(self.view(0).claim(opening(), 5))

    def test_full(self) -> None:
        """
        When there is no room, the key that was kept first goes, and those that are kept for ever
        go last.
        """
        keys = KeyTable(self.clock, 4, OPENED_SIZE, 100.0)
        keys.put(opening(0), _KEY, math.inf, math.inf)
        for number in range(1, 10):
            keys.put(opening(number), _KEY, 1010, 1020)
        left = [number for number in range(10) if keys.get(opening(number))]
        self.assertEqual(left, [0, 7, 8, 9])
        for number in range(10, 14):
            keys.put(opening(number), _KEY, math.inf, math.inf)
        left = [number for number in range(14) if keys.get(opening(number))]
        self.assertEqual(left, [10, 11, 12, 13])

    def test_limits(self) -> None:
        """
        No keys are kept where none shall be; no more are than there is room for, whatever is
        wanted; and none that is not as long as a data key.
        """
        none = self.view(0)
        none.put(opening(), _KEY, 1010, 1020)
        none.drop(opening())
        none.wipe()
        self.assertEqual((none.get(opening()), none.revoke("master")), (None, False))
        many = self.view(OPENED)
        many.put(opening(), _KEY, 1010, 1020)
        self.assertIsNotNone(many.get(opening()))
        self.assertEqual(len(many._memory), 96 + 112 * OPENED)
        many.put(opening(1), bytes(33), 1010, 1020)
        self.assertIsNone(many.get(opening(1)))

    def test_secrets(self) -> None:
        """
        Neither names nor sealed keys are in the memory, and no key shows in a repr.
        """
        self.one.put(("master-key", b"sealed-key", b"context"), _KEY, 1010, 1020)
        for word in (b"master-key", b"sealed-key", b"context"):
            self.assertNotIn(word, self.memory())
        self.assertNotIn("kkk", repr((self.one, self.one.get(("master-key", b"sealed-key", b"")))))
        self.assertNotIn("kkk", repr(self.one.get(("master-key", b"sealed-key", b"context"))))

    def test_killed_writers(self) -> None:
        """
        While others write, and are killed while they do, only whole keys are read, and who comes
        after them can write.
        """
        for _ in range(2):
            writers = [
                subprocess.Popen(
                    [sys.executable, "-c", _WRITER, str(self.descriptor)],
                    pass_fds=[self.descriptor],
                    stdout=subprocess.PIPE,
                )
                for _ in range(2)
            ]
            for writer in writers:
                assert writer.stdout is not None
                self.assertEqual(writer.stdout.readline(), b"begun\n")
            keys, seen = self.view(64), set()
            for _ in range(20_000):
                found = keys.get(("master", b"sealed", b""))
                if found is not None:
                    self.assertEqual(found.value, 32 * found.value[:1])
                    seen.add(found.value)
            self.assertGreater(len(seen), 1)
            for writer in writers:
                writer.send_signal(signal.SIGKILL)
                writer.communicate()
            keys.put(opening(), _KEY, 1010, 1020)
            self.assertIsNotNone(self.view(64).get(opening()))

    def test_out_of_dumps(self) -> None:
        """
        The memory is left out of core dumps, and locked where there is the right to.
        """
        maps = Path("/proc/self/smaps").read_text().split("memfd:kypello-opened-keys")[1:]
        self.assertGreaterEqual(len(maps), 2)
        for each in maps:
            (flags,) = re.findall(r"^VmFlags: (.*)$", each, re.MULTILINE)[:1]
            self.assertIn("dd", flags.split())
            if _may_lock() == math.inf:
                self.assertIn("lo", flags.split())


def _may_lock() -> float:
    """
    How many bytes this process may lock.
    """
    limits = Path("/proc/self/limits").read_text()
    (soft,) = re.findall(r"^Max locked memory +(\S+)", limits, re.MULTILINE)
    return math.inf if soft == "unlimited" else float(soft)
