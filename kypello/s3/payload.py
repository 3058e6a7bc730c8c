# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The verified content of a request: its body, unframed, with every digest checked.
"""

from collections import deque
from collections.abc import Callable, Mapping
from hashlib import md5
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from kypello.auth.chunked import ChunkedDecoder
from kypello.auth.mode import PayloadMode
from kypello.crypto.checksums import Checksum, encode, new_checksum
from kypello.errors import Refused
from kypello.interfaces import IBodySource, ILane, ILanes
from kypello.model import Buffer
from kypello.s3.announced import PREFIX, Announced, checksum_value, read_announced
from kypello.s3.authenticate import Authenticated

#: How many blocks may wait for one digest; a block has about a MiB.
IN_FLIGHT = 3

#: Bodies up to this size, in bytes, are digested at once: some 30 microseconds at most, less
#: than the way to a lane and back.
AT_ONCE = 16 * 1024


def open_payload(
    authenticated: Authenticated, body: IBodySource, lanes: ILanes, want_md5: bool
) -> "Payload":
    """
    Begin to read the content of a request.

    :param body: As it came; closed with the payload.
    :param want_md5: Compute the MD5 digest even if the client has not sent one.

    :raises Refused: What the headers say is wrong; *body* has not been touched.
    """
    mode = authenticated.mode
    announced = read_announced(authenticated.head, mode, body.size)
    small = body.size is not None and body.size <= AT_ONCE
    decoder = None
    if mode.chunked:
        decoder = ChunkedDecoder(announced.size, mode.seed, mode.trailer, announced.trailers)
    names = {name for name in (announced.algorithm, mode.sha256 and "sha256") if name}
    return Payload(
        size=announced.size,
        body=body,
        mode=mode,
        announced=announced,
        content=_Content(decoder, {name: new_checksum(name) for name in names}),
        content_queue=_Queue(_Here() if small else lanes.lane()),
        md5_hash=(md5(usedforsecurity=False) if want_md5 or announced.md5 is not None else None),
        md5_queue=_Queue(_Here() if small else lanes.lane()),
    )


async def read_small(payload: IBodySource, limit: int) -> bytes:
    """
    Read all of a body that must fit into memory, and close it.

    :param limit: The most bytes it may have.

    :raises Refused: ``MaxMessageLengthExceeded``, and what the payload raises.
    """
    blocks: list[Buffer] = []
    try:
        size = payload.size or 0
        while size <= limit:
            block = await payload.read()
            if not len(block):
                return b"".join(blocks)
            blocks.append(block)
            size = max(size, sum(map(len, blocks)))
    finally:
        payload.close()
    raise Refused(
        "MaxMessageLengthExceeded",
        "Your request was too big.",
        {"MaxMessageLengthBytes": str(limit)},
    )


@implementer(ILane)
class _Here:
    """
    The lane of small bodies: the thread that calls.
    """

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)


@define
class _Queue:
    """
    Calls in a lane, up to :data:`IN_FLIGHT` of them without waiting for their end.
    """

    lane: ILane
    _running: deque[Deferred[Any]] = field(factory=deque)

    async def put(self, call: Callable[..., Any], *arguments: Any) -> None:
        if len(self._running) >= IN_FLIGHT:
            await self._running.popleft()
        self._running.append(Deferred.fromCoroutine(self.lane.run(call, *arguments)))

    async def drain(self) -> None:
        while self._running:
            await self._running.popleft()


@define
class _Content:
    """
    What happens to the body in a lane: unframing, and every digest but MD5.
    """

    decoder: ChunkedDecoder | None
    checksums: dict[str, Checksum]

    def unframe(self, decoder: ChunkedDecoder, block: Buffer) -> Buffer:
        pieces = decoder.feed(block)
        for piece in pieces:
            self.digest(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def digest(self, block: Buffer) -> None:
        for checksum in self.checksums.values():
            checksum.update(block)


@implementer(IBodySource)
@define(eq=False)
class Payload:
    """
    The content of a request.

    Blocks are handed on while their digests are still being computed, so whoever reads must
    not commit anything before the end has come: what does not match is raised in its place.

    :ivar size: Bytes of content.
    :ivar md5: After the end, the digest in lower-case hex; ``None`` when nobody wants it.
    :ivar checksums: After the end, the checksum that the client sent, in base64 by lower-case
        algorithm; empty when it sent none.
    """

    size: int | None
    _body: IBodySource
    _mode: PayloadMode
    _announced: Announced
    _content: _Content
    _content_queue: _Queue
    _md5_hash: Checksum | None
    _md5_queue: _Queue
    md5: str | None = field(default=None, init=False)
    checksums: Mapping[str, str] = field(factory=dict, init=False)
    _over: bool = field(default=False, init=False)

    @property
    def covered(self) -> bool:
        """
        Whether some digest or signature tells damaged content from what was sent.
        """
        announced, mode = self._announced, self._mode
        digests = (announced.md5, announced.algorithm, mode.sha256, mode.seed)
        return any(digest is not None for digest in digests)

    async def read(self) -> Buffer:
        """
        Give the next block of content; see :meth:`IBodySource.read`.

        :raises Refused: ``IncompleteBody``, ``SignatureDoesNotMatch``,
            ``MalformedTrailerError``, ``XAmzContentSHA256Mismatch`` or ``BadDigest``.
        """
        while not self._over:
            block = await self._body.read()
            if len(block):
                content = await self._take(block)
                if len(content):
                    return content
            else:
                await self._content_queue.drain()
                await self._md5_queue.drain()
                self._verify()
                self._over = True
        return b""

    def close(self) -> None:
        """
        Give up what is left.
        """
        self._body.close()

    async def _take(self, block: Buffer) -> Buffer:
        content, decoder = self._content, self._content.decoder
        if decoder is not None:
            block = await self._content_queue.lane.run(content.unframe, decoder, block)
        elif content.checksums:
            await self._content_queue.put(content.digest, block)
        if self._md5_hash is not None and len(block):
            await self._md5_queue.put(self._md5_hash.update, block)
        return block

    def _verify(self) -> None:
        decoder = self._content.decoder
        trailers = {} if decoder is None else decoder.finish()
        self._verify_sha256()
        self._verify_md5()
        algorithm, expected = self._announced.algorithm, self._announced.checksum
        if algorithm is not None:
            if expected is None:
                expected = checksum_value(algorithm, trailers[PREFIX + algorithm])
            if self._content.checksums[algorithm].digest() != expected:
                raise Refused(
                    "BadDigest",
                    f"The {algorithm.upper()} you specified did not match the calculated checksum.",
                )
            self.checksums = {algorithm: encode(expected)}

    def _verify_sha256(self) -> None:
        expected = self._mode.sha256
        if expected is not None:
            computed = self._content.checksums["sha256"].digest().hex()
            if computed != expected:
                raise Refused(
                    "XAmzContentSHA256Mismatch",
                    "The provided 'x-amz-content-sha256' header does not match what was computed.",
                    {
                        "ClientComputedContentSHA256": expected,
                        "S3ComputedContentSHA256": computed,
                    },
                )

    def _verify_md5(self) -> None:
        if self._md5_hash is None:
            return
        expected, computed = self._announced.md5, self._md5_hash.digest()
        if expected is not None and computed != expected:
            raise Refused(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                {"ExpectedDigest": encode(expected), "CalculatedDigest": encode(computed)},
            )
        self.md5 = computed.hex()
