# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
DARE 2.0: a stream cut into packages of 64 KiB, each encrypted and authenticated.

A package is a header of 16 bytes (version, cipher, length of the payload less one in two bytes,
12 bytes of nonce), the payload and a tag of 16 bytes.  The top bit of the nonce marks the final
package.  What the cipher takes as nonce is that of the header with its last four bytes XORed
with the number of the package, so packages can be neither swapped nor dropped.  Every package
but the final one is full.  A stream without payload has no packages at all.
"""

from enum import IntEnum
from hmac import compare_digest

from attrs import frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from kypello.buffers import Recycler
from kypello.errors import NotAuthentic
from kypello.model import Buffer, ByteRange

#: Payload bytes of a full package.
PAYLOAD_SIZE = 1 << 16

#: Bytes of header and tag around a payload.
OVERHEAD = 32

#: Bytes of a full package.
PACKAGE_SIZE = PAYLOAD_SIZE + OVERHEAD

#: Bytes of the random nonce of a stream.
NONCE_SIZE = 12

#: How many blocks of plaintext wait to be sent at most, with those that are made and read ahead.
_PLAINTEXTS = 8

_HEADER_SIZE = 16
_VERSION = 0x20
_FINAL = 0x80


class DARECipher(IntEnum):
    """
    The cipher of a stream, by its number in the header.
    """

    AES_256_GCM = 0
    CHACHA20_POLY1305 = 1


_AEADS: dict[int, type[AESGCM] | type[ChaCha20Poly1305]] = {
    DARECipher.AES_256_GCM: AESGCM,
    DARECipher.CHACHA20_POLY1305: ChaCha20Poly1305,
}


def encrypted_size(size: int) -> int:
    """
    How many bytes the packages of *size* bytes of plaintext take.
    """
    full, rest = divmod(size, PAYLOAD_SIZE)
    return full * PACKAGE_SIZE + (rest + OVERHEAD if rest else 0)


def plain_size(size: int) -> int:
    """
    How many bytes of plaintext are in packages of *size* bytes together.

    :raises NotAuthentic: No stream has that size.
    """
    full, rest = divmod(size, PACKAGE_SIZE)
    if 0 < rest <= OVERHEAD:
        raise NotAuthentic("size")
    return full * PAYLOAD_SIZE + (rest - OVERHEAD if rest else 0)


@frozen
class PackageRange:
    """
    The packages that hold a range of plaintext.

    :ivar encrypted: Where they are in the encrypted stream.
    :ivar sequence: The number of the first.
    :ivar skip: Bytes of plaintext before the range.
    :ivar to_end: Whether the final package is among them.
    """

    encrypted: ByteRange
    sequence: int
    skip: int
    to_end: bool


def package_range(wanted: ByteRange, size: int) -> PackageRange:
    """
    Tell which packages hold *wanted* of a stream with *size* bytes of plaintext.

    :param wanted: Within the size.
    """
    first, skip = divmod(wanted.start, PAYLOAD_SIZE)
    stop = ((wanted.stop - 1) // PAYLOAD_SIZE + 1) * PACKAGE_SIZE
    end = encrypted_size(size)
    return PackageRange(
        ByteRange(first * PACKAGE_SIZE, min(stop, end)), first, skip, to_end=stop >= end
    )


class _Stream:
    """
    What all packages of one stream share.

    :ivar aead: The cipher with the key.
    :ivar start: The first two bytes of every header.
    :ivar nonce: The nonce of every header, without the mark of the final one.
    :ivar full: The header of a full package that is not the final one, as nearly all are.
    :ivar full_head: What of it is authenticated beside the payload.
    """

    def __init__(self, key: bytes, cipher: int, nonce: bytes) -> None:
        self.aead = _AEADS[cipher](key)
        self.start = bytes([_VERSION, cipher])
        self.nonce = _marked(nonce, final=False)
        self.full = self.start + (PAYLOAD_SIZE - 1).to_bytes(2, "little") + self.nonce
        self.full_head = self.full[:4]
        self._prefixes = (self.nonce[:8], _marked(nonce, final=True)[:8])
        self._counter = int.from_bytes(nonce[8:], "little")

    def package_nonce(self, sequence: int, final: bool) -> bytes:
        """
        What the cipher takes as nonce for a package.

        :raises OverflowError: The stream has more than 2**32 packages.
        """
        return self._prefixes[final] + (self._counter ^ sequence).to_bytes(4, "little")


def _marked(nonce: bytes, *, final: bool) -> bytes:
    return bytes([nonce[0] | _FINAL if final else nonce[0] & ~_FINAL]) + nonce[1:]


class Encoder:
    """
    Encrypts a stream, fed in blocks of any size.

    Up to 64 KiB are held back: only the next byte tells that a package is not the final one.

    :param key: 32 bytes, used for this stream alone or with a random nonce.
    :param nonce: 12 random bytes; one bit of them is overwritten.
    """

    def __init__(
        self, key: bytes, nonce: bytes, cipher: DARECipher = DARECipher.AES_256_GCM
    ) -> None:
        if len(nonce) != NONCE_SIZE:
            raise ValueError("a nonce has 12 bytes")
        self._stream = _Stream(key, cipher, nonce)
        self._sequence = 0
        self._held = bytearray()
        self._buffers = Recycler()

    def feed(self, block: Buffer) -> Buffer:
        """
        Take the next bytes of plaintext; give the packages that are complete, often none.

        *block* can be used again when this returns.
        """
        held = self._held
        count = (len(held) + len(block) - 1) // PAYLOAD_SIZE
        if count <= 0:
            held += block
            return b""
        packages = self._buffers.take(count * PACKAGE_SIZE)
        target, source = memoryview(packages), memoryview(block)
        position = PAYLOAD_SIZE - len(held)
        held += source[:position]
        self._encrypt_full(held, target[:PACKAGE_SIZE])
        for start in range(PACKAGE_SIZE, len(packages), PACKAGE_SIZE):
            stop = position + PAYLOAD_SIZE
            self._encrypt_full(source[position:stop], target[start : start + PACKAGE_SIZE])
            position = stop
        self._held = bytearray(source[position:])
        return packages

    def finish(self) -> Buffer:
        """
        Give the final package; nothing when the plaintext was empty.  Feed nothing after this.
        """
        if not self._held:
            return b""
        stream, payload = self._stream, self._held
        self._held = bytearray()
        head = stream.start + (len(payload) - 1).to_bytes(2, "little")
        package = bytearray(head + _marked(stream.nonce, final=True))
        package += bytes(len(payload) + OVERHEAD - _HEADER_SIZE)
        nonce = stream.package_nonce(self._sequence, final=True)
        stream.aead.encrypt_into(nonce, payload, head, memoryview(package)[_HEADER_SIZE:])
        self._sequence += 1
        return package

    def close(self) -> None:
        """
        Let go of all buffers.  Feed nothing after this.
        """
        self._buffers.close()

    def _encrypt_full(self, payload: Buffer, package: memoryview) -> None:
        stream = self._stream
        package[:_HEADER_SIZE] = stream.full
        nonce = stream.package_nonce(self._sequence, final=False)
        stream.aead.encrypt_into(nonce, payload, stream.full_head, package[_HEADER_SIZE:])
        self._sequence += 1


class Decoder:
    """
    Decrypts a stream, or consecutive packages of one, fed in blocks of any size.

    No byte of a package is given before the whole package is authenticated.

    :param key: The key of the stream.
    :param sequence: The number of the first package.
    :param to_end: Whether the packages end with the final one.  Otherwise the last is full.
    """

    def __init__(self, key: bytes, sequence: int = 0, *, to_end: bool = True) -> None:
        self._key = key
        self._sequence = sequence
        self._to_end = to_end
        self._stream: _Stream | None = None
        self._held = bytearray()
        self._ended = False
        self._buffers = Recycler(_PLAINTEXTS)

    def feed(self, block: Buffer) -> Buffer:
        """
        Take the next encrypted bytes; give the plaintext of the full packages, often nothing.

        *block* can be used again when this returns.

        :raises NotAuthentic: A package is not what the writer made, or not in its place.  The
            stream is over then.
        """
        held = self._held
        count = (len(held) + len(block)) // PACKAGE_SIZE
        if not count:
            held += block
            return b""
        plaintext = self._buffers.take(count * PAYLOAD_SIZE)
        target, source = memoryview(plaintext), memoryview(block)
        position = first = 0
        if held:
            position, first = PACKAGE_SIZE - len(held), PAYLOAD_SIZE
            held += source[:position]
            self._decrypt(memoryview(held), target[:first])
        for start in range(first, len(plaintext), PAYLOAD_SIZE):
            stop = position + PACKAGE_SIZE
            self._decrypt(source[position:stop], target[start : start + PAYLOAD_SIZE])
            position = stop
        self._held = bytearray(source[position:])
        return plaintext

    def finish(self) -> Buffer:
        """
        Give the plaintext of a final package that is not full.

        :raises NotAuthentic: As :meth:`feed`; or the stream has lost its end.
        """
        plaintext = bytearray(max(0, len(self._held) - OVERHEAD))
        if self._held:
            self._decrypt(memoryview(self._held), memoryview(plaintext))
            self._held = bytearray()
        if self._to_end and self._sequence and not self._ended:
            raise NotAuthentic("end")
        return plaintext

    def close(self) -> None:
        """
        Let go of all buffers.  Feed nothing after this.
        """
        self._buffers.close()

    def _decrypt(self, package: memoryview, target: memoryview) -> None:
        if self._ended:
            raise NotAuthentic("end")
        stream = self._stream
        if stream is not None and package[:_HEADER_SIZE] == stream.full:
            nonce = stream.package_nonce(self._sequence, final=False)
            self._open(stream, nonce, package, stream.full_head, target)
            return
        head = bytes(package[:_HEADER_SIZE])
        size = int.from_bytes(head[2:4], "little") + 1
        if len(package) != size + OVERHEAD or size != len(target):
            raise NotAuthentic("package size")
        final = bool(head[4] & _FINAL)
        if size != PAYLOAD_SIZE and not final:
            raise NotAuthentic("package size")
        stream = stream or self._begin(head)
        if not compare_digest(
            head[:2] + _marked(head[4:], final=False), stream.start + stream.nonce
        ):
            raise NotAuthentic("package header")
        self._open(stream, stream.package_nonce(self._sequence, final), package, head[:4], target)
        self._ended = final

    def _open(
        self,
        stream: _Stream,
        nonce: bytes,
        package: memoryview,
        associated: bytes,
        target: memoryview,
    ) -> None:
        try:
            stream.aead.decrypt_into(nonce, package[_HEADER_SIZE:], associated, target)
        except InvalidTag:
            raise NotAuthentic("package") from None
        self._sequence += 1

    def _begin(self, head: bytes) -> _Stream:
        if head[0] != _VERSION or head[1] not in _AEADS:
            raise NotAuthentic("package header")
        self._stream = _Stream(self._key, head[1], head[4:])
        return self._stream


class StreamKey:
    """
    A key of streams that is used often, with its ciphers at hand.

    :ivar secret: 32 bytes.
    :ivar outer: The key of the layer around this one, where content is encrypted twice.
    """

    __slots__ = ("_aeads", "outer", "secret")

    def __init__(self, secret: bytes, outer: "StreamKey | None" = None) -> None:
        self.secret = secret
        self.outer = outer
        self._aeads: dict[int, AESGCM | ChaCha20Poly1305] = {}

    def open(self, package: Buffer) -> bytes:
        """
        Decrypt a stream of one package.

        :raises NotAuthentic: It is not what the writer made, or not all of it.
        """
        head = bytes(package[:_HEADER_SIZE])
        # In the first package the nonce of the header, mark included, is that of the cipher.
        nonce, rest = head[4:], memoryview(package)[_HEADER_SIZE:]
        if (
            len(package) <= OVERHEAD
            or len(package) != int.from_bytes(head[2:4], "little") + 1 + OVERHEAD
            or not nonce[0] & _FINAL
        ):
            raise NotAuthentic("package size")
        if head[0] != _VERSION or head[1] not in _AEADS:
            raise NotAuthentic("package header")
        try:
            return self._aead(head[1]).decrypt(nonce, rest, head[:4])
        except InvalidTag:
            raise NotAuthentic("package") from None

    def seal(
        self, nonce: bytes, payload: Buffer, cipher: DARECipher = DARECipher.AES_256_GCM
    ) -> bytes:
        """
        Encrypt a stream of one package.

        :param nonce: 12 random bytes; one bit of them is overwritten.
        :param payload: At least one byte, and at most :data:`PAYLOAD_SIZE`.
        """
        if len(nonce) != NONCE_SIZE or not 0 < len(payload) <= PAYLOAD_SIZE:
            raise ValueError("a nonce has 12 bytes, and a package 1 to 65536")
        head = bytes((_VERSION, cipher)) + (len(payload) - 1).to_bytes(2, "little")
        nonce = _marked(nonce, final=True)
        return head + nonce + self._aead(cipher).encrypt(nonce, payload, head)

    def _aead(self, cipher: int) -> AESGCM | ChaCha20Poly1305:
        aead = self._aeads.get(cipher)
        if aead is None:
            aead = self._aeads[cipher] = _AEADS[cipher](self.secret)
        return aead


def encrypt(
    key: bytes, nonce: bytes, plaintext: Buffer, cipher: DARECipher = DARECipher.AES_256_GCM
) -> bytes:
    """
    Encrypt a message that fits in memory.

    :param nonce: 12 random bytes.
    """
    if 0 < len(plaintext) <= PAYLOAD_SIZE:
        return StreamKey(key).seal(nonce, plaintext, cipher)
    encoder = Encoder(key, nonce, cipher)
    return b"".join((encoder.feed(plaintext), encoder.finish()))


def decrypt(key: bytes, ciphertext: Buffer) -> bytes:
    """
    Decrypt a message that fits in memory.

    :raises NotAuthentic:
    """
    if 0 < len(ciphertext) <= PACKAGE_SIZE:
        return StreamKey(key).open(ciphertext)
    decoder = Decoder(key)
    return b"".join((decoder.feed(ciphertext), decoder.finish()))
