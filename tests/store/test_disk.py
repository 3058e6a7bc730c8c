# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The store on disk: its contract, and what is left when its process is killed.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from kypello.errors import NoSuchBucket, NoSuchKey
from kypello.interfaces import IObjectStore
from kypello.model import ListQuery
from kypello.store.files import FileBlobs
from kypello.store.layout import LayoutStore
from kypello.store.sqlite import SQLiteIndex
from kypello.store.sweep import Sweeper
from kypello.versioning import SETTING, Versioning
from tests.contracts.inneruploads import InnerUploadsContract
from tests.contracts.locks import LocksContract
from tests.contracts.object_store import ObjectStoreContract, pattern
from tests.contracts.uploads import UploadsContract
from tests.contracts.versions import VersionsContract
from tests.store.crashing import parts
from tests.store.disk import DiskCase
from tests.store.faults import live_blobs, whats_wrong
from tests.store.told import PREFIX, Told
from tests.store.toldversions import BUCKET, ToldVersions
from tests.store.toldversions import PREFIX as STACKS

#: How often the process is killed.
CYCLES = 16

#: What a key holds: size and number of the content; ``None`` for nothing.
State = tuple[int, int] | None


class DiskLayoutTests(
    ObjectStoreContract,
    UploadsContract,
    InnerUploadsContract,
    VersionsContract,
    LocksContract,
    DiskCase,
):
    """
    The contract of an object store, on disk.
    """

    async def make_store(self) -> LayoutStore:
        """
        An empty store.
        """
        path = self.directory()
        for name in ("index", "blobs"):
            (path / name).mkdir()
        index = SQLiteIndex(path / "index", self.lanes)
        self.addCleanup(lambda: Deferred.fromCoroutine(index.close()))
        blobs = FileBlobs(path / "blobs", self.lanes)
        store = LayoutStore(index, blobs, Clock(), os.urandom)
        self.sweeper = Sweeper(index, blobs, store.intents)
        return store

    async def settle(self, store: IObjectStore) -> None:
        """
        Sweep.
        """
        await self.sweeper.sweep()

    async def turn(self) -> None:
        """
        Let the reactor turn.
        """
        await deferLater(reactor, 0)


def run_and_kill(path: Path, seed: int, acknowledged: int) -> list[str]:
    """
    Run the writing process until it has acknowledged so many writes, then kill it.

    :return: What it told.
    """
    command = [sys.executable, "-m", "tests.store.crashing", str(path), str(seed)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                acknowledged -= line.startswith("A ")
                if not acknowledged:
                    break
        finally:
            process.kill()
        # What it told before it died is in the pipe.
        return lines + process.stdout.readlines()


class CrashTests(DiskCase):
    """
    A process that is killed while it writes, again and again.
    """

    def note(self, lines: list[str]) -> None:
        """
        Note what each key must hold, and what else it may hold.
        """
        for line in lines:
            told, key, *rest = line.split()
            if key.startswith(PREFIX):
                self.told.setdefault(key, Told(key)).note(told, rest)
                continue
            if key.startswith(STACKS):
                self.stacks.setdefault(key, ToldVersions(key)).note(told, rest)
                continue
            size, number = rest
            state = None if int(size) < 0 else (int(size), int(number))
            if told == "B":
                self.possible.setdefault(key, [None]).append(state)
            else:
                self.possible[key] = [state]

    async def test_killed(self) -> None:
        """
        After each kill every acknowledged write is there, every other one wholly or not at
        all, and a sweep leaves nothing but live data.
        """
        path = self.directory()
        chance = random.Random(7)
        self.possible: dict[str, list[State]] = {}
        self.told: dict[str, Told] = {}
        self.stacks: dict[str, ToldVersions] = {}
        index, _, store, _ = parts(path, self.lanes)
        await store.create_bucket("b", {})
        await store.create_bucket(BUCKET, {SETTING: Versioning("Enabled").to_bytes()})
        await index.close()
        acknowledged = 0
        for cycle in range(CYCLES):
            wanted = chance.randrange(1, 120)
            lines = await self.lanes.lane().run(run_and_kill, path, cycle, wanted)
            self.assertFalse([line for line in lines if line.startswith("E ")])
            acknowledged += sum(line.startswith("A ") for line in lines)
            self.note(lines)
            await self.check(path, chance)
        self.assertGreater(acknowledged, 20 * CYCLES)
        self.assertTrue(all(stack.stack for stack in self.stacks.values()))

    async def check(self, path: Path, chance: random.Random) -> None:
        """
        Compare what a new process finds with what the killed one told.
        """
        index, blobs, store, sweeper = parts(path, self.lanes)
        try:
            for turn in range(2):
                for key, possible in self.possible.items():
                    state = await self.state(store, key)
                    self.assertIn(state, possible, (key, turn))
                    self.possible[key] = [state]
                for told in self.told.values():
                    self.assertEqual(await told.check(store, chance), "", (told, turn))
                for stack in self.stacks.values():
                    self.assertEqual(await stack.check(store), "", (stack, turn))
                await sweeper.sweep()
            self.assertEqual(await whats_wrong(index, blobs), [])
            files = sorted(each.name for each in (path / "blobs").glob("*/*"))
            self.assertEqual(files, await live_blobs(index))
            self.assertEqual(len(await index.spaces()), 1 + len(await store.buckets()))
            names = {
                each.name.partition(".")[0]
                for each in (path / "index").rglob("*")
                if each.is_file()
            }
            self.assertEqual(names - {"lock", "reserve"}, set(await index.spaces()))
        finally:
            await index.close()

    async def state(self, store: LayoutStore, key: str) -> State:
        """
        What a key holds; its content is checked.
        """
        try:
            if key.startswith("/"):
                # A deletion that was interrupted is told at first by the bucket's own space only.
                await store.list(key[1:], ListQuery())
                return 0, 0
            opened = await store.open("b", key)
        except (NoSuchBucket, NoSuchKey):
            return None
        try:
            info = opened.info
            source = await opened.read(None)
            found = bytearray()
            while block := await source.read():
                found += block
            self.assertEqual(bytes(found), pattern(info.size, int(info.etag)))
            return info.size, int(info.etag)
        finally:
            opened.close()
