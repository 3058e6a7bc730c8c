# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of DARE streams.
"""

from base64 import b64decode
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from kypello.crypto.dare import (
    PACKAGE_SIZE,
    PAYLOAD_SIZE,
    DARECipher,
    Decoder,
    Encoder,
    PackageRange,
    StreamKey,
    decrypt,
    encrypt,
    encrypted_size,
    package_range,
    plain_size,
)
from kypello.errors import NotAuthentic
from kypello.model import ByteRange
from tests.cases import SyncCase

KEY = bytes(range(32))
NONCE = bytes(range(12))
OBJECT_KEY = bytes.fromhex("67d8d1f2d04109bdb1fa19f5112f2d2cdf81578962b0dbc09b7c51a131b0e34f")
AES, CHACHA = DARECipher.AES_256_GCM, DARECipher.CHACHA20_POLY1305
CIPHERS = st.sampled_from(DARECipher)
PATTERN = (bytes(range(251)) * 2000)[: 5 * PAYLOAD_SIZE + 1000]
#: Sizes around those where the number of packages changes.
SIZES = st.one_of(
    st.integers(0, 200),
    st.builds(
        lambda packages, off: max(0, packages * PAYLOAD_SIZE + off),
        st.integers(1, 5),
        st.integers(-40, 40),
    ),
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """
    Cut *data* at each of *cuts* (taken modulo its size), empty pieces included.
    """
    places = sorted(cut % (len(data) + 1) for cut in cuts)
    return [
        data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)
    ]


def run(codec: Encoder | Decoder, blocks: list[bytes]) -> bytes:
    """
    Feed *blocks* and give all that came out.
    """
    out = [bytes(codec.feed(block)) for block in blocks]
    return b"".join([*out, bytes(codec.finish())])


class VectorTests(SyncCase):
    """
    Published streams.
    """

    def check(self, expected_sha256: str, size: int, data: bytes, cipher: DARECipher) -> None:
        """
        Encrypting gives a stream of that size and digest, and decrypting gives *data* back.
        """
        stream = encrypt(KEY, NONCE, data, cipher)
        self.assertEqual(len(stream), size)
        self.assertEqual(sha256(stream).hexdigest(), expected_sha256)
        self.assertEqual(decrypt(KEY, stream), data)

    def test_short(self) -> None:
        """
        A short text makes one final package.
        """
        for cipher, expected in (
            (AES, "36ba0363729b9232e978d397a9a2c8c43752d7506bca59b37630ca"),
            (CHACHA, "3ac03d84048db5169db2dcb275dfea64642dbb8049df6d7ba2502b"),
        ):
            stream = bytes([0x20, cipher, 10, 0, 0x80]) + NONCE[1:] + bytes.fromhex(expected)
            self.assertEqual(encrypt(OBJECT_KEY, NONCE, b"hello world", cipher), stream)
            self.assertEqual(decrypt(OBJECT_KEY, stream), b"hello world")

    def test_two_packages(self) -> None:
        """
        One byte more than a payload makes a second package with the same header nonce.
        """
        data = bytes(index % 251 for index in range(65537))
        stream = encrypt(KEY, NONCE, data)
        self.assertEqual(stream[:16].hex(), "2000ffff000102030405060708090a0b")
        self.assertEqual(stream[65568:65584].hex(), "20000000800102030405060708090a0b")
        self.check(
            "9019eba9b0aa65bbd5b94aa6162c9fecb926b9ade24b02f264f9d441362784ff", 65601, data, AES
        )
        self.check(
            "ac5bcd4e3dedd151098fd8b86c27061e196a20574e6828c28a561b560e39bab9", 65601, data, CHACHA
        )

    def test_zeros(self) -> None:
        """
        Streams around one and two full packages are those of other implementations.
        """
        for size, expected_size, expected in (
            (65535, 65567, "e018b4237033791a7f19478f46abfb5fcd86a3f58f0f0c6e422b847db479f653"),
            (65536, 65568, "7a0f34c3846b59e47f5c42f2376521e339ebf1f033124480538e2f22564228e8"),
            (131072, 131136, "1f62c3a7bc7852747738017996332d4ebb4b1f4884762e72764c014cc0247b37"),
        ):
            self.check(expected, expected_size, bytes(size), AES)

    def test_sealed_key(self) -> None:
        """
        A sealed object key is a stream.
        """
        key = bytes.fromhex("b80ef85eaba21e7ea108070ba27de3aca10d165c446e4a309f840faf75262b9f")
        sealed = b64decode(
            "IAAfAIABAgMEBQYHCAkKC6gXk+8SKMCWFJ5BWs2j4CzKEQL7AG8AhvWm2dkE3HYWMpZyEj0MhWUg2qJqqaf+tw=="
        )
        self.assertEqual(decrypt(key, sealed), OBJECT_KEY)


class SizeTests(SyncCase):
    """
    Arithmetic of sizes and ranges.
    """

    def test_vectors(self) -> None:
        """
        Sizes are those of other implementations.
        """
        for size, encrypted in (
            (0, 0),
            (1, 33),
            (65535, 65567),
            (65536, 65568),
            (65537, 65601),
            (131072, 131136),
            (5 << 20, 5245440),
            (5 << 30, 5371330560),
        ):
            self.assertEqual(encrypted_size(size), encrypted)
            self.assertEqual(plain_size(encrypted), size)

    @given(st.integers(0, 2**48))
    def test_inverse(self, size: int) -> None:
        """
        The plain size is told by the encrypted one.
        """
        self.assertEqual(plain_size(encrypted_size(size)), size)

    @given(st.integers(0, 2**32), st.integers(1, 32))
    def test_impossible(self, packages: int, rest: int) -> None:
        """
        A size that leaves no room for a payload is refused.
        """
        with self.assertRaises(NotAuthentic):
            plain_size(packages * PACKAGE_SIZE + rest)

    def test_range(self) -> None:
        """
        A range starts at its package and ends with the package of its last byte.
        """
        self.assertEqual(
            package_range(ByteRange(65535, 65537), 200_000),
            PackageRange(ByteRange(0, 2 * PACKAGE_SIZE), 0, 65535, False),
        )
        self.assertEqual(
            package_range(ByteRange(131072, 131073), 131073),
            PackageRange(ByteRange(2 * PACKAGE_SIZE, 2 * PACKAGE_SIZE + 33), 2, 0, True),
        )


class CodecTests(SyncCase):
    """
    Encoding and decoding.
    """

    @given(CIPHERS, SIZES, st.lists(st.integers(0, 2**20), max_size=12))
    def test_cuts(self, cipher: DARECipher, size: int, cuts: list[int]) -> None:
        """
        How the input is cut changes nothing, in either direction.
        """
        data = PATTERN[:size]
        stream = run(Encoder(KEY, NONCE, cipher), pieces(data, cuts))
        self.assertEqual(stream, encrypt(KEY, NONCE, data, cipher))
        self.assertEqual(len(stream), encrypted_size(size))
        self.assertEqual(run(Decoder(KEY), pieces(stream, cuts)), data)

    @given(CIPHERS, SIZES.filter(bool), st.data())
    def test_ranges(self, cipher: DARECipher, size: int, data: st.DataObject) -> None:
        """
        The packages of a range decrypt alone to the bytes of the range.
        """
        start = data.draw(st.integers(0, size - 1))
        wanted = ByteRange(start, data.draw(st.integers(start + 1, size)))
        found = package_range(wanted, size)
        stream = encrypt(KEY, NONCE, PATTERN[:size], cipher)
        decoder = Decoder(KEY, found.sequence, to_end=found.to_end)
        plain = run(decoder, [stream[found.encrypted.start : found.encrypted.stop]])
        self.assertEqual(
            plain[found.skip : found.skip + wanted.size], PATTERN[wanted.start : wanted.stop]
        )

    def test_input_is_left_alone(self) -> None:
        """
        A block that was fed can be used again at once.
        """
        encoder, decoder = Encoder(KEY, NONCE), Decoder(KEY)
        stream = plain = b""
        block = bytearray(40_000)
        for number in range(5):
            block[:] = bytes([number]) * 40_000
            stream += encoder.feed(block)
        stream += encoder.finish()
        for start in range(0, len(stream), 40_000):
            piece = stream[start : start + 40_000]
            block[: len(piece)] = piece
            plain += decoder.feed(memoryview(block)[: len(piece)])
        plain += decoder.finish()
        self.assertEqual(plain, b"".join(bytes([number]) * 40_000 for number in range(5)))

    def test_nonce_mark(self) -> None:
        """
        The first bit of a random nonce does not make a package final.
        """
        stream = encrypt(KEY, b"\xff" * 12, PATTERN)
        self.assertEqual(stream[4], 0x7F)
        self.assertEqual(decrypt(KEY, stream), PATTERN)

    def test_nonce_size(self) -> None:
        """
        A nonce of another size is refused.
        """
        with self.assertRaises(ValueError):
            Encoder(KEY, bytes(16))


class TamperTests(SyncCase):
    """
    What is refused.
    """

    def refused(self, stream: bytes, allowed: bytes = b"") -> None:
        """
        The stream is refused; what is given before is a prefix of *allowed* in whole packages.
        """
        decoder = Decoder(KEY)
        given_before = bytearray()
        with self.assertRaises(NotAuthentic):
            for start in range(0, len(stream), 10_000):
                given_before += decoder.feed(stream[start : start + 10_000])
            given_before += decoder.finish()
        self.assertEqual(len(given_before) % PAYLOAD_SIZE, 0)
        self.assertTrue(allowed.startswith(given_before))

    @given(CIPHERS, SIZES.filter(bool), st.data())
    def test_flipped_bit(self, cipher: DARECipher, size: int, data: st.DataObject) -> None:
        """
        Any bit that was flipped is noticed, and nothing of its package comes out.
        """
        stream = bytearray(encrypt(KEY, NONCE, PATTERN[:size], cipher))
        package = data.draw(st.integers(0, (len(stream) - 1) // PACKAGE_SIZE)) * PACKAGE_SIZE
        last = min(PACKAGE_SIZE, len(stream) - package)
        offset = data.draw(st.one_of(st.integers(0, min(40, last) - 1), st.integers(0, last - 1)))
        stream[package + offset] ^= 1 << data.draw(st.integers(0, 7))
        self.refused(bytes(stream), PATTERN[: package // PACKAGE_SIZE * PAYLOAD_SIZE])

    def test_every_header_bit(self) -> None:
        """
        Each bit of both headers counts.
        """
        stream = encrypt(KEY, NONCE, PATTERN[: PAYLOAD_SIZE + 5])
        for start in (0, PACKAGE_SIZE):
            for bit in range(16 * 8):
                tampered = bytearray(stream)
                tampered[start + bit // 8] ^= 1 << bit % 8
                self.refused(bytes(tampered), PATTERN[:PAYLOAD_SIZE])

    @given(SIZES.filter(bool), st.data())
    def test_truncated(self, size: int, data: st.DataObject) -> None:
        """
        A stream that was cut anywhere but before its first byte is refused at its end.
        """
        stream = encrypt(KEY, NONCE, PATTERN[:size])
        stop = data.draw(st.integers(1, len(stream) - 1))
        self.refused(stream[:stop], PATTERN)
        self.refused(stream[: max(stop // PACKAGE_SIZE, 1) * PACKAGE_SIZE][:stop], PATTERN)

    @given(st.permutations(range(4)).filter(lambda order: order != [0, 1, 2, 3]))
    def test_swapped(self, order: list[int]) -> None:
        """
        Packages in another order are refused.
        """
        stream = encrypt(KEY, NONCE, PATTERN[: 4 * PAYLOAD_SIZE])
        packages = [stream[n * PACKAGE_SIZE : (n + 1) * PACKAGE_SIZE] for n in range(4)]
        self.refused(b"".join(packages[n] for n in order), PATTERN)

    @given(st.integers(0, 3))
    def test_dropped_or_repeated(self, number: int) -> None:
        """
        A package that is missing or comes twice is noticed.
        """
        stream = encrypt(KEY, NONCE, PATTERN[: 3 * PAYLOAD_SIZE + 7])
        packages = [stream[n * PACKAGE_SIZE : (n + 1) * PACKAGE_SIZE] for n in range(4)]
        self.refused(b"".join(packages[:number] + packages[number + 1 :]), PATTERN)
        self.refused(b"".join(packages[: number + 1] + packages[number:]), PATTERN)

    @given(SIZES.filter(bool), st.binary(min_size=1, max_size=100))
    def test_appended(self, size: int, tail: bytes) -> None:
        """
        Nothing may follow the final package.
        """
        stream = encrypt(KEY, NONCE, PATTERN[:size])
        self.refused(stream + tail, PATTERN)
        self.refused(stream + stream, PATTERN)

    def test_spliced(self) -> None:
        """
        A package of another stream under the same key is refused, in its place too.
        """
        ours = encrypt(KEY, NONCE, PATTERN[: 2 * PAYLOAD_SIZE])
        theirs = encrypt(KEY, NONCE[::-1], PATTERN[: 2 * PAYLOAD_SIZE])
        self.refused(ours[:PACKAGE_SIZE] + theirs[PACKAGE_SIZE:], PATTERN)

    def test_wrong_key_or_place(self) -> None:
        """
        Another key, or another number of the first package, opens nothing.
        """
        stream = encrypt(KEY, NONCE, PATTERN)
        for decoder in (Decoder(bytes(32)), Decoder(KEY, 1)):
            with self.assertRaises(NotAuthentic):
                decoder.feed(stream)

    def test_range_past_the_end(self) -> None:
        """
        Consecutive packages that should end before the final one may not go on after it, and
        those that should end with it may not end before.
        """
        stream = encrypt(KEY, NONCE, PATTERN[: 3 * PAYLOAD_SIZE])
        decoder = Decoder(KEY, 2)
        with self.assertRaises(NotAuthentic):
            decoder.finish()
        decoder = Decoder(KEY, to_end=False)
        decoder.feed(stream)
        with self.assertRaises(NotAuthentic):
            decoder.feed(stream)


class StreamKeyTests(SyncCase):
    """
    A key that makes and opens streams of one package.
    """

    def refused(self, package: bytes) -> None:
        """
        The package is refused.
        """
        with self.assertRaises(NotAuthentic):
            StreamKey(KEY).open(package)

    @given(CIPHERS, st.integers(1, 200) | st.integers(PAYLOAD_SIZE - 3, PAYLOAD_SIZE))
    def test_inverse(self, cipher: DARECipher, size: int) -> None:
        """
        It opens what was encrypted under it, as often as one likes.
        """
        key, package = StreamKey(KEY), encrypt(KEY, NONCE, PATTERN[:size], cipher)
        for each in (package, memoryview(package)):
            self.assertEqual(key.open(each), PATTERN[:size])

    def test_every_bit(self) -> None:
        """
        Each bit of a package counts.
        """
        package = encrypt(KEY, NONCE, b"abc")
        for bit in range(len(package) * 8):
            tampered = bytearray(package)
            tampered[bit // 8] ^= 1 << bit % 8
            self.refused(bytes(tampered))

    def test_other_sizes(self) -> None:
        """
        No bytes, packages that were cut or have more bytes, the first of several, and several
        are refused.
        """
        package = encrypt(KEY, NONCE, b"abc")
        for size in range(len(package)):
            self.refused(package[:size])
        stream = encrypt(KEY, NONCE, PATTERN[: PAYLOAD_SIZE + 1])
        for other in (package + b"x", package + package, stream[:PACKAGE_SIZE], stream):
            self.refused(other)

    @given(CIPHERS, st.integers(1, 200) | st.integers(PAYLOAD_SIZE - 3, PAYLOAD_SIZE))
    def test_seal(self, cipher: DARECipher, size: int) -> None:
        """
        It makes the stream that an encoder makes.
        """
        package = StreamKey(KEY).seal(NONCE, PATTERN[:size], cipher)
        self.assertEqual(package, run(Encoder(KEY, NONCE, cipher), [PATTERN[:size]]))

    def test_no_package(self) -> None:
        """
        What is no payload of one package is a mistake of the caller.
        """
        for nonce, size in ((NONCE, 0), (NONCE, PAYLOAD_SIZE + 1), (NONCE[1:], 1)):
            with self.assertRaises(ValueError):
                StreamKey(KEY).seal(nonce, bytes(size))

    def test_other_key(self) -> None:
        """
        Another key opens nothing, and none is shown.
        """
        key = StreamKey(bytes(32))
        with self.assertRaises(NotAuthentic):
            key.open(encrypt(KEY, NONCE, b"abc"))
        self.assertNotIn(repr(bytes(32)), repr(key))
