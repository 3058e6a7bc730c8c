# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes_trail``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from kypello.errors import ConfigurationError
from kypello.kes.auditconfig import TrailSettings
from kypello.kes.chain import START, Examination, Finding, extend, read_line
from kypello.kes_trail import Trail, head_path, read_head
from kypello.testing.fakes import InlineLane
from tests.cases import AsyncCase

#: Writes into a file that may not grow beyond some bytes for a while.
_FULL = """
import os, resource, sys
from pathlib import Path
from twisted.internet.defer import ensureDeferred
from kypello.kes.auditconfig import TrailSettings
from kypello.kes_trail import Trail
from kypello.testing.fakes import InlineLane

trail = Trail(InlineLane(), os.urandom)
ensureDeferred(trail.use(TrailSettings(Path(sys.argv[1]))))
trail.write('{"a":0}')
_soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
size = os.path.getsize(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size + int(sys.argv[2]), hard))
for number in range(3):
    trail.write('{"a":%d}' % number)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
trail.write('{"a":9}')
trail.write('{"a":10}')
"""


class TrailTests(AsyncCase):
    """
    ``Trail`` writes a chain into files.
    """

    def setUp(self) -> None:
        """
        A folder.
        """
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.file = self.folder / "audit.log"
        self.settings = TrailSettings(self.file)

    async def trail(self, settings: TrailSettings | None = None) -> Trail:
        """
        One that goes on in the file.
        """
        trail = Trail(InlineLane(), os.urandom)
        await trail.use(settings or self.settings)
        self.addCleanup(trail.close)
        return trail

    def findings(self, *files: Path, key: bytes = b"") -> list[Finding]:
        """
        What is found in files, compared with the head.
        """
        head = read_head(head_path(self.file))
        examination = Examination(key, {} if head is None else {head.seq: head.digest})
        for file in files or (self.file,):
            for line in file.read_bytes().splitlines(keepends=True):
                examination.feed(file.name, line.rstrip(b"\n"), line.endswith(b"\n"))
        examination.end()
        self.reached = 0 if examination.place is None else examination.place.seq
        return examination.findings

    async def test_restart(self) -> None:
        """
        What is written is there at once, and the next server goes on with the chain.
        """
        for number in (1, 2, 3):
            trail = await self.trail()
            trail.write('{"a":1}')
            self.assertEqual(len(self.file.read_bytes().splitlines()), number)
            await trail.close()
        self.assertEqual((self.findings(), self.reached), ([], 3))
        self.assertEqual(self.file.stat().st_mode & 0o007, 0)

    async def test_moved(self) -> None:
        """
        When the file was moved away, the chain goes on in a new one; also after a restart in
        between, which has the head alone.
        """
        trail = await self.trail()
        trail.write('{"a":1}')
        first, second = self.folder / "audit.log.2", self.folder / "audit.log.1"
        self.file.rename(first)
        trail.write('{"a":2}')
        await trail.use(self.settings)
        trail.write('{"a":3}')
        await trail.use(self.settings)
        await trail.close()
        self.file.rename(second)
        trail = await self.trail()
        trail.write('{"a":4}')
        self.assertEqual((self.findings(first, second, self.file), self.reached), ([], 4))
        self.assertTrue(any(one.broken for one in self.findings(first, self.file)))

    async def test_changed(self) -> None:
        """
        Another file has a chain of its own, and without one nothing is written.
        """
        trail = await self.trail()
        trail.write('{"a":1}')
        other = self.folder / "other"
        await trail.use(TrailSettings(other))
        trail.write('{"a":2}')
        await trail.use(None)
        trail.write('{"a":3}')
        await trail.keep_head()
        self.assertEqual((self.findings(), self.reached), ([], 1))
        self.assertEqual(json.loads(other.read_bytes())["chain"]["seq"], 1)

    async def test_torn(self) -> None:
        """
        What a killed server has left of a line stays, and is told of; again and again.
        """
        trail = await self.trail()
        for cut in (20, 1, 30):
            trail.write('{"a":1}')
            await trail.close()
            with self.file.open("ab") as file:
                file.write(b'{"time":"2026-11-26T00:00:00Z","request"'[:cut])
            self.assertEqual([one.broken for one in self.findings()][-1:], [False])
            trail = await self.trail()
        # Killed within the very next line, too.
        await trail.close()
        with self.file.open("ab") as file:
            file.write(b'\n{"time')
        trail = await self.trail()
        trail.write('{"a":1}')
        self.assertEqual({one.broken for one in self.findings()}, {False})
        self.assertEqual(self.reached, 4)

    async def test_no_line_end(self) -> None:
        """
        A whole record without its line end counts.
        """
        trail = await self.trail()
        trail.write('{"a":1}')
        await trail.close()
        self.file.write_bytes(self.file.read_bytes()[:-1])
        trail = await self.trail()
        trail.write('{"a":2}')
        self.assertEqual((self.findings(), self.reached), ([], 2))

    async def test_cut_off(self) -> None:
        """
        Lines that were removed at the end leave a gap, which a restart does not hide.
        """
        trail = await self.trail()
        for _ in range(3):
            trail.write('{"a":1}')
        await trail.close()
        self.file.write_bytes(self.file.read_bytes().splitlines(keepends=True)[0])
        self.assertIn("records 2 to 3 are missing", self.findings()[0].text)
        trail = await self.trail()
        trail.write('{"a":2}')
        await trail.close()
        found = self.findings()
        self.assertEqual([one.text for one in found], ["records 2 to 3 are missing before it"])

    async def test_keyed(self) -> None:
        """
        With a key file, the chain takes that key to be made.
        """
        key = self.folder / "key"
        key.write_bytes(b"sixteen bytes or more\n")
        trail = await self.trail(TrailSettings(self.file, key))
        trail.write('{"a":1}')
        await trail.close()
        self.assertEqual(self.findings(key=b"sixteen bytes or more"), [])
        self.assertTrue(self.findings())

    async def test_mistakes(self) -> None:
        """
        A file that another process writes, one that cannot be made, and a key that is too short
        are told; the file that is in use stays.
        """
        trail = await self.trail()
        short = self.folder / "short"
        short.write_bytes(b"short")
        for settings, words in (
            (self.settings, "another process writes to it"),
            (TrailSettings(self.folder / "none" / "audit.log"), "No such file"),
            (TrailSettings(self.folder / "other", short), "16 bytes or more"),
            (TrailSettings(Path(os.devnull)), "a regular file"),
            (TrailSettings(self.folder / "other", self.folder / "none"), "No such file"),
        ):
            with self.assertRaises(ConfigurationError) as caught:
                await Trail(InlineLane(), os.urandom).use(settings)
            self.assertIn(words, caught.exception.mistakes[0])
        with self.assertRaises(ConfigurationError):
            await trail.use(TrailSettings(self.folder / "none" / "audit.log"))
        trail.write('{"a":1}')
        self.assertEqual((self.findings(), self.reached), ([], 1))

    async def test_head(self) -> None:
        """
        The head is written when the chain has gone on, and a damaged one does not stop a server.
        """
        trail = await self.trail()
        await trail.keep_head()
        self.assertFalse(head_path(self.file).exists())
        trail.write('{"a":1}')
        await trail.keep_head()
        head = read_head(head_path(self.file))
        assert head is not None
        self.assertEqual(head.seq, 1)
        await trail.close()
        head_path(self.file).write_text("junk")
        self.assertRaises(ValueError, read_head, head_path(self.file))
        trail = await self.trail()
        trail.write('{"a":2}')
        await trail.close()
        self.assertEqual((self.findings(), self.reached), ([], 2))

    def test_full(self) -> None:
        """
        What finds no room is told of as soon as there is some, wherever the last line was cut.
        """
        line, _link = extend('{"a":0}', START, b"")
        size = len(line)
        for room in (0, 1, 30, size - 1, size, size + 1, size + 2, size + 40):
            self.file.unlink(missing_ok=True)
            subprocess.run(
                [sys.executable, "-c", _FULL, str(self.file), str(room)], check=True, timeout=60
            )
            found = self.findings()
            self.assertEqual([one.text for one in found if one.broken], [], room)
            lines = [
                json.loads(line)
                for line in self.file.read_bytes().splitlines()
                if read_line(line) is not None
            ]
            lost = sum(line["chain"].get("lost", 0) for line in lines)
            self.assertEqual((len(lines) + lost, lines[-1]["a"]), (6, 10), room)
