# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every ``IBlobs`` must do.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kypello.errors import BodyTruncated, Damaged, Refused, StorageFailed
from kypello.interfaces import IBlob, IBlobs, IBodySource, ILazySource, IPin
from kypello.model import Buffer
from kypello.testing.fakes import BytesSource
from tests.contracts.object_store import StuckSource, blocks, pattern

#: Sizes around those of chunks and blocks, in bytes.
SIZES = (0, 1, 65535, 65536, 65537, 262144, 1 << 20, (5 << 20) + 12345)


def name_of(number: int) -> str:
    """
    A name of a blob.
    """
    return f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"


@implementer(ILazySource)
class LazySource(BytesSource):
    """
    A body whose blocks are made when they are called for.

    :ivar made: How many calls were made.
    """

    def __init__(self, blocks: Iterable[Buffer], refusal: Exception | None = None) -> None:
        """
        :param refusal: Raised by the call behind the last block.
        """
        super().__init__(blocks)
        self._refusal = refusal
        self.made = 0

    async def next_call(self) -> Callable[[], Buffer] | None:
        """
        Give a call that has to be the next one.
        """
        number = self.reads
        block = await self.read()
        if len(block):
            return lambda: self._make(number, block)
        refusal, self._refusal = self._refusal, None
        return None if refusal is None else lambda: self._refuse(refusal)

    def _make(self, number: int, block: Buffer) -> Buffer:
        if self.closed or self.made != number:
            raise AssertionError("this is not the turn of this call")
        self.made += 1
        return block

    def _refuse(self, refusal: Exception) -> Buffer:
        raise refusal


class BlobsContract:
    """
    The contract of blobs.  Subclasses provide ``make_blobs``.
    """

    # Those of trial's TestCase, which the subclass brings.
    assertEqual: Any
    assertRaises: Any
    assertTrue: Any

    async def make_blobs(self) -> IBlobs:
        """
        An empty store of blobs.
        """
        raise NotImplementedError

    async def turn(self) -> None:
        """
        Let the reactor turn, for stores that work in threads.
        """

    async def write(
        self, blobs: IBlobs, name: str, data: bytes, described: bytes = b"described"
    ) -> None:
        """
        Write one in blocks of odd sizes.
        """
        body = BytesSource(blocks(data, 77_777))
        told: list[int] = []

        def describe(size: int) -> bytes:
            """
            Note the size.
            """
            told.append(size)
            return described

        self.assertEqual(await blobs.write(name, body, describe), len(data))
        self.assertEqual((told, body.closed), ([len(data)], True))

    async def drain(self, source: IBodySource) -> bytes:
        """
        Read to the end.
        """
        found = bytearray()
        while block := await source.read():
            found += block
        self.assertEqual(bytes(await source.read()), b"")
        source.close()
        return bytes(found)

    async def test_interface(self) -> None:
        """
        The providers provide their interfaces.
        """
        blobs = await self.make_blobs()
        self.assertTrue(verifyObject(IBlobs, blobs))
        await self.write(blobs, name_of(1), b"data")
        blob = await blobs.open(name_of(1))
        self.assertTrue(verifyObject(IBlob, blob))
        source = blob.read(0, 4)
        self.assertTrue(verifyObject(IBodySource, source))
        source.close()
        blob.close()

    async def test_write_and_read(self) -> None:
        """
        Blobs of all sizes are read back, whole and in ranges, with what was described.
        """
        blobs = await self.make_blobs()
        for number, size in enumerate(SIZES):
            name, data = name_of(number), pattern(size, number)
            await self.write(blobs, name, data, b"d" * number * 1000)
            self.assertEqual(await blobs.describe(name), b"d" * number * 1000)
            blob = await blobs.open(name)
            self.assertEqual(blob.size, size)
            for start, stop in (
                (0, size),
                (0, 0),
                (size // 3, size // 2),
                (max(size - 1, 0), size),
                (min(65536, size), min(131072, size)),
                (min(65535, size), size),
            ):
                source = blob.read(start, stop)
                self.assertEqual(source.size, stop - start)
                self.assertEqual(await self.drain(source), data[start:stop])
            blob.close()
            blob.close()

    async def test_lazy(self) -> None:
        """
        A body whose blocks have yet to be made is written like any other.
        """
        blobs = await self.make_blobs()
        for number, size in enumerate(SIZES):
            name, data = name_of(number), pattern(size, number)
            body = LazySource(blocks(data, 77_777))
            self.assertTrue(verifyObject(ILazySource, body))
            self.assertEqual(await blobs.write(name, body, lambda size: b"%d" % size), size)
            self.assertTrue(body.closed)
            self.assertEqual(await blobs.describe(name), b"%d" % size)
            blob = await blobs.open(name)
            self.assertEqual(await self.drain(blob.read(0, size)), data)
            blob.close()

    async def test_missing(self) -> None:
        """
        A blob that is missing is damaged; deleting it is no error.
        """
        blobs = await self.make_blobs()
        for call in (blobs.open(name_of(1)), blobs.describe(name_of(1))):
            with self.assertRaises(Damaged):
                await call
        await blobs.delete([name_of(1)])

    async def test_twice(self) -> None:
        """
        A name that is in use is refused, and its blob stays.
        """
        blobs = await self.make_blobs()
        await self.write(blobs, name_of(1), b"first")
        body = BytesSource([b"second"])
        with self.assertRaises(StorageFailed):
            await blobs.write(name_of(1), body, lambda _: b"")
        self.assertTrue(body.closed)
        blob = await blobs.open(name_of(1))
        self.assertEqual(await self.drain(blob.read(0, 5)), b"first")
        blob.close()

    async def test_pinned(self) -> None:
        """
        An open blob, and a source of a closed one, read on after it is deleted.
        """
        blobs = await self.make_blobs()
        data = pattern(3 << 20)
        await self.write(blobs, name_of(1), data)
        blob = await blobs.open(name_of(1))
        first, second = blob.read(0, len(data)), blob.read(5, 10)
        begun = bytes(await first.read())
        await blobs.delete([name_of(1)])
        blob.close()
        self.assertEqual(begun + await self.drain(first), data)
        self.assertEqual(await self.drain(second), data[5:10])
        self.assertEqual(list(await blobs.names("", 10)), [])

    async def test_kept(self) -> None:
        """
        A blob is not removed while anybody pins it.
        """
        blobs = await self.make_blobs()
        data = pattern(3000)
        await self.write(blobs, name_of(1), data)
        pins = [await blobs.pin(name_of(1)) for _ in range(2)]
        for pin in pins:
            self.assertTrue(verifyObject(IPin, pin))
            self.assertEqual(await blobs.delete([name_of(1)]), [name_of(1)])
            blob = await blobs.open(name_of(1))
            self.assertEqual(await self.drain(blob.read(0, len(data))), data)
            blob.close()
            pin.release()
            pin.release()
        for _ in range(1000):
            # It may be let go of in a thread.
            if not await blobs.delete([name_of(1)]):
                break
            await self.turn()
        self.assertEqual(await blobs.delete([name_of(1)]), [])
        with self.assertRaises(Damaged):
            await blobs.pin(name_of(1))

    async def test_close_early(self) -> None:
        """
        A source that was closed gives nothing more.
        """
        blobs = await self.make_blobs()
        await self.write(blobs, name_of(1), pattern(3 << 20))
        blob = await blobs.open(name_of(1))
        source = blob.read(0, 3 << 20)
        await source.read()
        source.close()
        source.close()
        self.assertEqual(bytes(await source.read()), b"")
        blob.close()

    async def test_failed(self) -> None:
        """
        A write whose body or description fails raises that and leaves nothing.
        """
        blobs = await self.make_blobs()

        def refuse(size: int) -> bytes:
            """
            Find a wrong digest.
            """
            raise Refused("BadDigest")

        for number, size in enumerate((0, 100, 5_000_000)):
            data = blocks(pattern(size))
            truncated = BytesSource(data, BodyTruncated())
            with self.assertRaises(BodyTruncated):
                await blobs.write(name_of(number), truncated, lambda _: b"")
            whole = BytesSource(data)
            with self.assertRaises(Refused):
                await blobs.write(name_of(number), whole, refuse)
            self.assertTrue(truncated.closed and whole.closed)
        self.assertEqual(list(await blobs.names("", 10)), [])

    async def test_cancelled(self) -> None:
        """
        A write that is cancelled while it waits for its body leaves nothing.
        """
        blobs = await self.make_blobs()
        for size in (0, 3_000_000):
            body = StuckSource(blocks(pattern(size)))
            writing = Deferred.fromCoroutine(blobs.write(name_of(size), body, lambda _: b""))
            while body.waiting is None:
                await self.turn()
            writing.cancel()
            with self.assertRaises(CancelledError):
                await writing
            self.assertTrue(body.closed)
        self.assertEqual(list(await blobs.names("", 10)), [])

    async def test_names(self) -> None:
        """
        Names come in order, in pages.
        """
        blobs = await self.make_blobs()
        names = [name_of(number) for number in range(1, 30)]
        for name in names:
            await self.write(blobs, name, b"")
        found: list[str] = []
        while page := await blobs.names(found[-1] if found else "", 7):
            self.assertTrue(len(page) <= 7)
            found += page
        self.assertEqual(found, sorted(names))
