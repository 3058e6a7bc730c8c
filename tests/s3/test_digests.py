# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.digests``; those of requests are tested with payloads.
"""

from hashlib import md5

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from kypello.errors import Damaged
from kypello.interfaces import IBodySource
from kypello.model import Buffer
from kypello.s3.digests import AT_ONCE, IN_FLIGHT, digested
from kypello.testing.fakes import BytesSource, InlineLanes
from tests.cases import AsyncCase
from tests.s3.test_multipart import checksum
from tests.s3.test_payload import HeldLanes, content


class DigestedSourceTests(AsyncCase):
    """
    Streams that are digested on their way.
    """

    def test_interface(self) -> None:
        """
        It provides the seam, with the size of its stream.
        """
        source = digested(BytesSource([b"abc"]), InlineLanes(), (), want_md5=False)
        verifyObject(IBodySource, source)
        self.assertEqual(source.size, 3)

    async def test_digests(self) -> None:
        """
        After the end the digests are those of the content; what nobody wants is not computed.
        """
        for blocks in ([], [b"abc"], [bytes(AT_ONCE), b"abc"]):
            whole = b"".join(blocks)
            source = digested(BytesSource(blocks), InlineLanes(), ("sha1", "crc32"), want_md5=True)
            self.assertEqual(await content(source), whole)
            self.assertEqual(source.md5, md5(whole).hexdigest())
            expected = {name: checksum(name, whole) for name in ("sha1", "crc32")}
            self.assertEqual(source.checksums, expected)
            source = digested(BytesSource(blocks), InlineLanes(), (), want_md5=False)
            self.assertEqual(await content(source), whole)
            self.assertEqual((source.md5, source.checksums), ("", {}))

    async def test_in_flight(self) -> None:
        """
        A bounded number of blocks waits for their digests, and the end waits for all.
        """
        blocks: list[Buffer] = [bytes([number]) * AT_ONCE for number in range(IN_FLIGHT + 1)]
        lanes = HeldLanes()
        source = digested(BytesSource(blocks), lanes, (), want_md5=True)
        for block in blocks[:IN_FLIGHT]:
            self.assertIs(await source.read(), block)
        reading = Deferred.fromCoroutine(source.read())
        self.assertNoResult(reading)
        lanes.release()
        self.assertIs(self.successResultOf(reading), blocks[-1])
        ending = Deferred.fromCoroutine(source.read())
        for _ in range(IN_FLIGHT):
            self.assertNoResult(ending)
            lanes.release()
        self.assertEqual(self.successResultOf(ending), b"")
        self.assertEqual(source.md5, md5(b"".join(blocks)).hexdigest())

    async def test_failure(self) -> None:
        """
        What stops the stream is raised.
        """
        source = digested(BytesSource([b"a"], Damaged("x")), InlineLanes(), (), want_md5=True)
        self.assertEqual(await source.read(), b"a")
        with self.assertRaises(Damaged):
            await source.read()

    def test_close(self) -> None:
        """
        Closing it closes the stream.
        """
        body = BytesSource([b"a"])
        digested(body, InlineLanes(), (), want_md5=True).close()
        self.assertTrue(body.closed)
