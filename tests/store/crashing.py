# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A process that writes until it is killed, and tells what it does.

Before each write it prints ``B key size number``, and ``A key size number`` when the write has
been acknowledged; the size is -1 for a deletion.  Each key has one writer.  Keys that begin
with a slash are buckets; of uploads in parts ``told.py`` says what is printed, and of versions
``toldversions.py``.
"""

import os
import random
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater

from kypello.model import ObjectMetadata, UploadQuery
from kypello.store.files import FileBlobs
from kypello.store.lanes import Lanes
from kypello.store.layout import LayoutStore
from kypello.store.sqlite import SQLiteIndex
from kypello.store.sweep import Sweeper
from kypello.testing.fakes import BytesSource
from tests.contracts.object_store import blocks, pattern
from tests.store.told import PREFIX, finish
from tests.store.toldversions import BUCKET, found_versions
from tests.store.toldversions import PREFIX as STACKS

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
    return index, blobs, store, Sweeper(index, blobs, store.intents)


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


async def tell(key: str, what: str, work: Awaitable[Any]) -> Any:
    """
    Take a step of an upload between two lines.
    """
    os.write(1, f"B {key} {what}\n".encode())
    result = await work
    if what == "begin":
        what += " " + result.upload_id
    os.write(1, f"A {key} {what}\n".encode())
    return result


async def upload(store: LayoutStore, key: str, chance: random.Random) -> None:
    """
    Upload to one key, for ever; go on with what was begun by an earlier process.
    """
    while True:
        begun = (await store.uploads("b", UploadQuery(key))).uploads
        if begun and chance.random() < 0.7:
            name = chance.choice(begun).upload_id
        else:
            name = (
                await tell(key, "begin", store.create_upload("b", key, ObjectMetadata()))
            ).upload_id
        for _ in range(chance.choice((1, 2, 5, 25))):
            number, seed = chance.randrange(1, 31), chance.randrange(1 << 30)
            size = chance.choice((0, 10, 10, 1000, 100_000, 1_200_000))
            body = BytesSource(blocks(pattern(size, seed)))
            await tell(
                key,
                f"part {name} {number} {size} {seed}",
                store.put_part(
                    "b", key, name, number, body, lambda _, seed=seed: ObjectMetadata(str(seed))
                ),
            )
        end, seed = chance.random(), chance.randrange(1, 1 << 30)
        if end < 0.6:
            await tell(key, f"complete {name} {seed}", finish(store, key, name, seed))
        elif end < 0.8 or len(begun) > 3:
            await tell(key, f"abort {name}", store.abort_upload("b", key, name))


async def stack(store: LayoutStore, key: str, chance: random.Random) -> None:
    """
    Write and remove versions of one key, for ever.
    """
    ids = [version_id for version_id, _ in await found_versions(store, key)]
    while True:
        step = chance.random()
        if ids and step < len(ids) / 16:
            version_id = ids.pop(chance.randrange(len(ids)))
            await say_version(
                key, f"remove {version_id}", store.delete(BUCKET, key, None, version_id), False
            )
        elif step > 0.85:
            ids.append(await say_version(key, "mark", store.delete(BUCKET, key), True))
        else:
            size, seed = chance.choice(SIZES[1:]), chance.randrange(1 << 30)
            body = BytesSource(blocks(pattern(size, seed)))
            put = store.put(BUCKET, key, body, lambda _, seed=seed: ObjectMetadata(str(seed)))
            ids.append(await say_version(key, f"put {size} {seed}", put, True))


async def say_version(key: str, what: str, work: Awaitable[Any], told: bool) -> str:
    """
    Take a step between two lines.

    :param told: Whether its answer tells a version that was made.
    """
    os.write(1, f"B {key} {what}\n".encode())
    version_id: str = (await work).version_id
    os.write(1, f"A {key} {what}{f' {version_id}' if told else ''}\n".encode())
    return version_id


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
    work += [upload(store, f"{PREFIX}{number}", chance) for number in range(4)]
    work += [stack(store, f"{STACKS}{number}", chance) for number in range(3)]
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
