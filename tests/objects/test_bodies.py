# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of bodies that are encrypted or decrypted while they flow.
"""

from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from kypello.crypto import dare
from kypello.errors import BodyTruncated, NotAuthentic
from kypello.interfaces import IBodySource, ILazySource
from kypello.model import ByteRange
from kypello.objects.bodies import (
    DecryptingSource,
    EncryptingSource,
    PackageSource,
    SealedSource,
    encrypting,
)
from kypello.testing.fakes import BytesSource
from tests.cases import SyncCase

KEY = bytes(range(32))
NONCE = bytes(range(12))
STREAM_KEY = dare.StreamKey(KEY)
OUTER_KEY = bytes(range(32, 64))
DUAL_KEY = dare.StreamKey(KEY, dare.StreamKey(OUTER_KEY))
DATA = bytes(range(256)) * 1024


def blocks_of(data: bytes, size: int) -> BytesSource:
    """
    A body in blocks of *size* bytes.
    """
    return BytesSource([data[start : start + size] for start in range(0, len(data), size)])


class BodyCase(SyncCase):
    """
    A test that reads bodies.
    """

    def read(self, source: IBodySource) -> bytes:
        """
        Read to the end, which stays the end.
        """
        blocks = []
        while block := self.successResultOf(_deferred(source.read())):
            blocks.append(bytes(block))
        self.assertEqual(self.successResultOf(_deferred(source.read())), b"")
        return b"".join(blocks)


class EncryptingSourceTests(BodyCase):
    """
    Encryption.
    """

    @given(st.integers(0, len(DATA)), st.integers(1000, 300_000))
    def test_stream(self, size: int, block: int) -> None:
        """
        What comes out is the DARE stream of the body, of the size told before.
        """
        source = EncryptingSource(blocks_of(DATA[:size], block), dare.Encoder(KEY, NONCE))
        verifyObject(IBodySource, source)
        expected = dare.encrypt(KEY, NONCE, DATA[:size])
        self.assertEqual(source.size, len(expected))
        self.assertEqual(self.read(source), expected)

    @given(st.integers(0, len(DATA)), st.integers(1000, 300_000))
    def test_calls(self, size: int, block: int) -> None:
        """
        The calls make the same stream, also when they are made later.
        """
        source = EncryptingSource(blocks_of(DATA[:size], block), dare.Encoder(KEY, NONCE))
        verifyObject(ILazySource, source)
        calls = []
        while (call := self.successResultOf(_deferred(source.next_call()))) is not None:
            calls.append(call)
        made = b"".join([bytes(call()) for call in calls])
        self.assertEqual(made, dare.encrypt(KEY, NONCE, DATA[:size]))
        self.assertIsNone(self.successResultOf(_deferred(source.next_call())))

    def test_failure(self) -> None:
        """
        A body that fails never has a final package, and its size is not known.
        """
        body = BytesSource([DATA], BodyTruncated())
        source = EncryptingSource(body, dare.Encoder(KEY, NONCE))
        self.assertIsNone(source.size)
        first = self.successResultOf(_deferred(source.read()))
        self.assertEqual(len(first) % dare.PACKAGE_SIZE, 0)
        self.failureResultOf(_deferred(source.read()), BodyTruncated)

    def test_close(self) -> None:
        """
        Closing closes the body and ends the stream without a final package.
        """
        body = BytesSource([b"a"])
        source = EncryptingSource(body, dare.Encoder(KEY, NONCE))
        source.close()
        self.assertTrue(body.closed)
        self.assertEqual(self.read(source), b"")


class SealedSourceTests(BodyCase):
    """
    Encryption of what fits into one package.
    """

    @given(st.integers(0, dare.PAYLOAD_SIZE), st.integers(1000, 70_000))
    def test_stream(self, size: int, block: int) -> None:
        """
        What comes out is the DARE stream of the body, of the size told before.
        """
        source = encrypting(blocks_of(DATA[:size], block), STREAM_KEY, NONCE)
        self.assertIsInstance(source, SealedSource)
        verifyObject(IBodySource, source)
        expected = dare.encrypt(KEY, NONCE, DATA[:size])
        self.assertEqual(source.size, len(expected))
        self.assertEqual(self.read(source), expected)

    def test_longer(self) -> None:
        """
        Longer bodies, and those of unknown size, are encrypted as they flow.
        """
        for body in (
            blocks_of(DATA[: dare.PAYLOAD_SIZE + 1], 1000),
            BytesSource([b"a"], BodyTruncated()),
        ):
            self.assertIsInstance(encrypting(body, STREAM_KEY, NONCE), EncryptingSource)

    def test_wrong_size(self) -> None:
        """
        A body that is longer than it said is refused, before much of it is held.
        """
        body = blocks_of(DATA, 1000)
        body.size = 1
        self.failureResultOf(_deferred(encrypting(body, STREAM_KEY, NONCE).read()), BodyTruncated)

    def test_close(self) -> None:
        """
        Closing closes the body and ends the stream without a package.
        """
        body = BytesSource([b"a"])
        source = encrypting(body, STREAM_KEY, NONCE)
        source.close()
        self.assertTrue(body.closed)
        self.assertEqual(self.read(source), b"")


class LayersTests(BodyCase):
    """
    Encryption in two layers.
    """

    @given(
        st.one_of(
            st.integers(0, len(DATA)),
            # What fills a package, with what encryption adds, and the next one.
            st.sampled_from([65503, 65504, 65505, 65536, 65537, 131008, 131009]),
        ),
        st.integers(1000, 300_000),
        st.booleans(),
    )
    def test_stream(self, size: int, block: int, sized: bool) -> None:
        """
        What comes out is the DARE stream of the DARE stream of the body, of the size told before.
        """
        body = blocks_of(DATA[:size], block)
        if not sized:
            body.size = None
        source = encrypting(body, DUAL_KEY, NONCE)
        expected = dare.encrypt(OUTER_KEY, NONCE, dare.encrypt(KEY, NONCE, DATA[:size]))
        self.assertEqual(source.size, len(expected) if sized else None)
        self.assertEqual(self.read(source), expected)

    @given(st.integers(65505, len(DATA)), st.integers(1000, 300_000))
    def test_calls(self, size: int, block: int) -> None:
        """
        The calls make both layers, also when they are made later.
        """
        source = encrypting(blocks_of(DATA[:size], block), DUAL_KEY, NONCE)
        verifyObject(ILazySource, source)
        calls = []
        while (call := self.successResultOf(_deferred(source.next_call()))) is not None:
            calls.append(call)
        made = b"".join([bytes(call()) for call in calls])
        expected = dare.encrypt(OUTER_KEY, NONCE, dare.encrypt(KEY, NONCE, DATA[:size]))
        self.assertEqual(made, expected)
        self.assertIsNone(self.successResultOf(_deferred(source.next_call())))

    def test_failure(self) -> None:
        """
        A body that fails has a final package in no layer.
        """
        source = encrypting(BytesSource([DATA], BodyTruncated()), DUAL_KEY, NONCE)
        first = self.successResultOf(_deferred(source.read()))
        self.assertEqual(len(first) % dare.PACKAGE_SIZE, 0)
        self.failureResultOf(_deferred(source.read()), BodyTruncated)

    def test_close(self) -> None:
        """
        Closing closes the body, and ends the stream without a package.
        """
        for body in (BytesSource([b"a"]), BytesSource([DATA])):
            source = encrypting(body, DUAL_KEY, NONCE)
            source.close()
            self.assertTrue(body.closed)
            self.assertEqual(self.read(source), b"")


class DecryptingSourceTests(BodyCase):
    """
    Decryption.
    """

    def source(self, stream: bytes, wanted: ByteRange, block: int, size: int) -> DecryptingSource:
        """
        The range of a stream, read in blocks.
        """
        found = dare.package_range(wanted, size)
        packages = stream[found.encrypted.start : found.encrypted.stop]
        decoder = dare.Decoder(KEY, found.sequence, to_end=found.to_end)
        return DecryptingSource(blocks_of(packages, block), decoder, found.skip, wanted.size)

    @given(st.integers(1, len(DATA)), st.integers(1000, 300_000), st.data())
    def test_range(self, size: int, block: int, data: st.DataObject) -> None:
        """
        What comes out is the range of the plaintext.
        """
        start = data.draw(st.integers(0, size - 1))
        wanted = ByteRange(start, data.draw(st.integers(start + 1, size)))
        stream = dare.encrypt(KEY, NONCE, DATA[:size])
        source = self.source(stream, wanted, block, size)
        verifyObject(IBodySource, source)
        self.assertEqual(source.size, wanted.size)
        self.assertEqual(self.read(source), DATA[wanted.start : wanted.stop])

    def test_lost_end(self) -> None:
        """
        A stream that has lost packages is refused where they are missing, not ended.
        """
        stream = dare.encrypt(KEY, NONCE, DATA)
        for lost in (1, dare.PACKAGE_SIZE, 2 * dare.PACKAGE_SIZE, len(stream)):
            source = self.source(stream[:-lost], ByteRange(0, len(DATA)), 100_000, len(DATA))
            with self.assertRaises(NotAuthentic):
                while True:
                    block = self.result(source)
                    self.assertTrue(block)

    def test_lost_range(self) -> None:
        """
        A range of packages that are not there is refused although it holds no final one.
        """
        wanted = ByteRange(0, dare.PAYLOAD_SIZE)
        source = self.source(b"", wanted, 100_000, len(DATA))
        with self.assertRaises(NotAuthentic):
            self.result(source)

    def result(self, source: IBodySource) -> bytes:
        """
        The next block, or what is raised.
        """
        outcome: list[object] = []
        _deferred(source.read()).addBoth(outcome.append)
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return bytes(outcome[0])

    def test_close(self) -> None:
        """
        Closing closes the packages and ends the body.
        """
        packages = BytesSource([dare.encrypt(KEY, NONCE, DATA)])
        source = DecryptingSource(packages, dare.Decoder(KEY), 0, len(DATA))
        source.close()
        self.assertTrue(packages.closed)
        self.assertEqual(self.read(source), b"")


class PackageSourceTests(BodyCase):
    """
    Decryption of what is one package.
    """

    def source(self, package: bytes, size: int, wanted: ByteRange | None = None) -> PackageSource:
        """
        The plaintext of a package, or a range of it.
        """
        return PackageSource(blocks_of(package, 50), dare.StreamKey(KEY), size, wanted)

    @given(st.integers(1, 300), st.data())
    def test_range(self, size: int, data: st.DataObject) -> None:
        """
        What comes out is the plaintext, or the range of it, in one block.
        """
        start = data.draw(st.integers(0, size - 1))
        wanted = ByteRange(start, data.draw(st.integers(start + 1, size)))
        package = dare.encrypt(KEY, NONCE, DATA[:size])
        source = self.source(package, size)
        verifyObject(IBodySource, source)
        self.assertEqual((source.size, self.read(source)), (size, DATA[:size]))
        source = self.source(package, size, wanted)
        self.assertEqual(source.size, wanted.size)
        self.assertEqual(self.read(source), DATA[wanted.start : wanted.stop])

    def test_other_content(self) -> None:
        """
        Content that was cut, that is of another size, or that has more bytes is refused.
        """
        package = dare.encrypt(KEY, NONCE, DATA[:200])
        for found, size in ((package[:-1], 200), (b"", 200), (package, 199), (package, 201)):
            deferred = _deferred(self.source(found, size).read())
            self.failureResultOf(deferred, NotAuthentic)

    def test_close(self) -> None:
        """
        Closing closes the package and ends the body.
        """
        package = BytesSource([dare.encrypt(KEY, NONCE, b"a")])
        source = PackageSource(package, dare.StreamKey(KEY), 1, None)
        source.close()
        self.assertTrue(package.closed)
        self.assertEqual(self.read(source), b"")


def _deferred(coroutine):
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)
