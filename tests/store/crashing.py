# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A process that writes until it is killed, and tells what it does.

Before each write it prints ``B key size number``, and ``A key size number`` when the write has
been acknowledged; the size is -1 for a deletion.  Each key has one writer.  Keys that begin
with a slash are buckets.
"""

import os
import random
import sys
from collections.abc import Awaitable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater

from kypello.model import ObjectMetadata
from kypello.store.files import FileBlobs
from kypello.store.lanes import Lanes
from kypello.store.layout import LayoutStore
from kypello.store.sqlite import SQLiteIndex
from kypello.store.sweep import Sweeper
from kypello.testing.fakes import BytesSource
from tests.contracts.object_store import blocks, pattern

#: Deletion, content in the index, content in blobs.
SIZES = (-1, 0, 700, 16_000, 17_000, 200_000, 2_500_000)


def parts(path: Path, lanes: Lanes) -> tuple[SQLiteIndex, FileBlobs, LayoutStore, Sweeper]:
    """
    A store on disk.
    """
    for name in ("index", "blobs"):
        (path / name).mkdir(exist_ok=True)
    index, blobs = SQLiteIndex(path / "index", lanes), FileBlobs(path / "blobs", lanes)
    store = LayoutStore(index, blobs, IReactorTime(reactor), os.urandom)
    return index, blobs, store, Sweeper(index, blobs, store.intents, store.pins)


async def say(key: str, size: int, number: int, work: Awaitable[object]) -> None:
    """
    Do *work* between two lines.
    """
    line = f"{key} {size} {number}\n".encode()
    os.write(1, b"B " + line)
    await work
    os.write(1, b"A " + line)


async def write(store: LayoutStore, key: str, chance: random.Random) -> None:
    """
    Write one key, for ever.
    """
    while True:
        size, number = chance.choice(SIZES), chance.randrange(1 << 30)
        if size < 0:
            work: Awaitable[object] = store.delete("b", key)
        else:
            body = BytesSource(blocks(pattern(size, number)))
            work = store.put("b", key, body, lambda _, n=number: ObjectMetadata(str(n)))
        await say(key, size, number, work)


async def make(store: LayoutStore, name: str) -> None:
    """
    Make and delete one bucket, for ever.
    """
    exists = name in [info.name for info in await store.buckets()]
    while True:
        work: Awaitable[object]
        work = store.delete_bucket(name) if exists else store.create_bucket(name, {})
        exists = not exists
        await say("/" + name, 0 if exists else -1, 0, work)


async def sweep(sweeper: Sweeper) -> None:
    """
    Sweep, for ever.
    """
    while True:
        await sweeper.sweep()
        await deferLater(reactor, 0.02)


async def main(path: Path, seed: int) -> None:
    """
    Do all of it at once.
    """
    lanes = Lanes(IReactorFromThreads(reactor), 4)
    lanes.start()
    _, _, store, sweeper = parts(path, lanes)
    chance = random.Random(seed)
    work = [write(store, f"key-{number}", chance) for number in range(8)]
    work += [make(store, "made"), sweep(sweeper)]
    await gatherResults([Deferred.fromCoroutine(each) for each in work], consumeErrors=True)


if __name__ == "__main__":

    def fail(failure: object) -> None:
        """
        Tell what went wrong, and end.
        """
        os.write(1, b"E " + repr(failure).replace("\n", " ").encode() + b"\n")
        os._exit(1)

    reactor.callWhenRunning(
        lambda: Deferred.fromCoroutine(main(Path(sys.argv[1]), int(sys.argv[2]))).addErrback(fail)
    )
    reactor.run()
