# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Bodies that are encrypted or decrypted while they flow.

Decryption works in the thread of the reader: AES-GCM takes about a tenth of a millisecond for
1 MiB, no more than it costs to hand the block to another thread and back.  Encryption does, too,
unless the reader prefers another, where the block has to go anyway to be written.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from attrs import define, field
from zope.interface import implementer

from kypello.crypto.dare import (
    OVERHEAD,
    PAYLOAD_SIZE,
    Decoder,
    Encoder,
    StreamKey,
    encrypted_size,
)
from kypello.errors import BodyTruncated, NotAuthentic
from kypello.interfaces import IBodySource, ILazySource
from kypello.model import Buffer, ByteRange


@implementer(IBodySource)
@define(eq=False)
class CheckedSource:
    """
    A body that ends only after a check.

    :ivar size: That of the body.
    :ivar _check: Made when all of the body was read.
    """

    _body: IBodySource
    _check: Callable[[], Coroutine[Any, Any, None]]
    size: int | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was read yet.
        """
        self.size = self._body.size

    async def read(self) -> Buffer:
        """
        Give the next block.

        :raises KypelloError: From the check, too.
        """
        block = await self._body.read()
        if not len(block):
            await self._check()
        return block

    def close(self) -> None:
        """
        Give up what is left.
        """
        self._body.close()


@implementer(ILazySource)
@define(eq=False)
class EncryptingSource:
    """
    The DARE stream of a body.

    :ivar size: Bytes of the stream, when the size of the body is known.
    """

    _body: IBodySource
    _encoder: Encoder
    size: int | None = field(init=False)
    _ended: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Tell the size from that of the body.
        """
        self.size = None if self._body.size is None else encrypted_size(self._body.size)

    async def read(self) -> Buffer:
        """
        Give the next packages.
        """
        while (call := await self.next_call()) is not None:
            packages = call()
            if packages:
                return packages
        return b""

    async def next_call(self) -> Callable[[], Buffer] | None:
        """
        Give what encrypts the next packages.
        """
        if self._ended:
            return None
        body = self._body
        if isinstance(body, EncryptingSource):
            # The layer within is made where this one is.
            inner = await body.next_call()
            if inner is not None:
                return partial(_encrypt_again, self._encoder, inner)
        elif len(block := await body.read()):
            return partial(self._encoder.feed, block)
        self._ended = True
        return self._encoder.finish

    def close(self) -> None:
        """
        Give up the body.
        """
        self._ended = True
        self._encoder.close()
        self._body.close()


@implementer(IBodySource)
@define(eq=False)
class SealedSource:
    """
    The DARE stream of a body that fits into one package.

    :ivar size: Bytes of the stream.
    :ivar _nonce: Random.
    """

    _body: IBodySource
    _key: StreamKey = field(repr=False)
    _nonce: bytes
    size: int | None = field(init=False)
    _ended: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Tell the size from that of the body.
        """
        self.size = encrypted_size(self._body.size or 0)

    async def read(self) -> Buffer:
        """
        Give the package, once the body has ended well.

        :raises BodyTruncated: The body is longer than it said.
        """
        if self._ended:
            return b""
        self._ended = True
        payload: Buffer = b""
        while len(block := await self._body.read()):
            payload = bytes(payload) + block if payload else block
            if len(payload) > PAYLOAD_SIZE:
                raise BodyTruncated()
        return self._key.seal(self._nonce, payload) if payload else b""

    def close(self) -> None:
        """
        Give up the body.
        """
        self._ended = True
        self._body.close()


@implementer(IBodySource)
@define(eq=False)
class DecryptingSource:
    """
    A range of the plaintext of a DARE stream.

    :ivar size: Bytes of the range.
    :ivar _packages: Those that hold the range.
    :ivar _skip: Bytes of plaintext to drop before the range.
    :ivar _left: Bytes of the range that are still to come.
    """

    _packages: IBodySource
    _decoder: Decoder
    _skip: int
    size: int | None
    _left: int = field(init=False)
    _ended: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing has come yet.
        """
        self._left = self.size or 0

    async def read(self) -> Buffer:
        """
        Give the next block of plaintext, all of it authenticated.

        :raises NotAuthentic: What is stored is not what was written, or not all of it.
        """
        while not self._ended:
            block = await self._packages.read()
            self._ended = not len(block)
            plaintext = self._decoder.finish() if self._ended else self._decoder.feed(block)
            wanted = self._cut(plaintext)
            if wanted:
                return wanted
        if self._left:
            raise NotAuthentic("end")
        return b""

    def close(self) -> None:
        """
        Give up the packages.
        """
        self._ended, self._left = True, 0
        self._decoder.close()
        self._packages.close()

    def _cut(self, plaintext: Buffer) -> Buffer:
        skipped = min(self._skip, len(plaintext))
        stop = min(skipped + self._left, len(plaintext))
        self._skip -= skipped
        self._left -= stop - skipped
        if stop - skipped == len(plaintext):
            return plaintext
        return memoryview(plaintext)[skipped:stop]


@implementer(IBodySource)
@define(eq=False)
class PackageSource:
    """
    The plaintext of a DARE stream of one package, or a range of it.

    :ivar size: Bytes that are given.
    :ivar _whole: Bytes of plaintext that the package has.
    :ivar _wanted: Which of them are given; ``None`` for all.
    """

    _package: IBodySource
    _key: StreamKey = field(repr=False)
    _whole: int
    _wanted: ByteRange | None
    size: int | None = field(init=False)
    _ended: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Tell the size.
        """
        self.size = self._whole if self._wanted is None else self._wanted.size

    async def read(self) -> Buffer:
        """
        Give all of it.

        :raises NotAuthentic: What is stored is not what was written, or not all of it.
        """
        if self._ended:
            return b""
        self._ended = True
        size = self._whole + OVERHEAD
        package = await self._package.read()
        while len(package) < size and len(more := await self._package.read()):
            package = bytes(package) + more
        plaintext = self._key.open(package) if len(package) == size else b""
        if len(plaintext) != self._whole:
            raise NotAuthentic("package size")
        wanted = self._wanted
        return plaintext if wanted is None else plaintext[wanted.start : wanted.stop]

    def close(self) -> None:
        """
        Give up the package.
        """
        self._ended = True
        self._package.close()


def encrypting(body: IBodySource, key: StreamKey, nonce: bytes) -> IBodySource:
    """
    The DARE stream of a body; with a key of two layers, the DARE stream of that.

    :param key: Used for this stream alone, or with a random nonce.
    :param nonce: Random.  The keys of layers are independent, so both can have the same one, and
        what is known of it binds both.
    """
    stream: IBodySource
    if body.size is not None and body.size <= PAYLOAD_SIZE:
        stream = SealedSource(body, key, nonce)
    else:
        stream = EncryptingSource(body, Encoder(key.secret, nonce))
    return stream if key.outer is None else encrypting(stream, key.outer, nonce)


def _encrypt_again(encoder: Encoder, inner: Callable[[], Buffer]) -> Buffer:
    return encoder.feed(inner())


def unmarked(nonce: bytes) -> bytes:
    """
    A nonce without the bit that marks the final package of its stream.
    """
    return bytes([nonce[0] & 0x7F]) + nonce[1:] if nonce else b""
