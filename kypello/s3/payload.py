# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The verified content of a request: its body, unframed, with every digest checked.
"""

from collections.abc import Mapping

from attrs import define, field
from zope.interface import implementer

from kypello.auth.chunked import ChunkedDecoder
from kypello.auth.mode import PayloadMode
from kypello.crypto.checksums import encode
from kypello.errors import Refused
from kypello.iam.authenticate import Authenticated
from kypello.interfaces import IBodySource, ILanes
from kypello.model import Buffer
from kypello.s3.announced import PREFIX, Announced, checksum_value, read_announced
from kypello.s3.digests import Digests, begin_digests


def open_payload(
    authenticated: Authenticated,
    body: IBodySource,
    lanes: ILanes,
    want_md5: bool,
    compute: str = "",
) -> "Payload":
    """
    Begin to read the content of a request.

    :param body: As it came; closed with the payload.
    :param want_md5: Compute the MD5 digest even if the client has not sent one.
    :param compute: The checksum to compute when the client sends none, by lower-case algorithm;
        empty for none.

    :raises Refused: What the headers say is wrong; *body* has not been touched.
    """
    mode = authenticated.mode
    announced = read_announced(authenticated.head, mode, body.size)
    decoder = None
    if mode.chunked:
        decoder = ChunkedDecoder(announced.size, mode.seed, mode.trailer, announced.trailers)
    algorithm = announced.algorithm or compute
    names = {name for name in (algorithm, mode.sha256 and "sha256") if name}
    return Payload(
        size=announced.size,
        body=body,
        mode=mode,
        announced=announced,
        algorithm=algorithm,
        decoder=decoder,
        digests=begin_digests(lanes, body.size, names, want_md5 or announced.md5 is not None),
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


@implementer(IBodySource)
@define(eq=False)
class Payload:
    """
    The content of a request.

    Blocks are handed on while their digests are still being computed, so whoever reads must
    not commit anything before the end has come: what does not match is raised in its place.

    :ivar size: Bytes of content.
    :ivar md5: After the end, the digest in lower-case hex; ``None`` when nobody wants it.
    :ivar checksums: After the end, the checksum that the client sent, or that is wanted, in
        base64 by lower-case algorithm; empty when there is none.
    """

    size: int | None
    _body: IBodySource
    _mode: PayloadMode
    _announced: Announced
    _algorithm: str
    _decoder: ChunkedDecoder | None
    _digests: Digests
    md5: str | None = field(default=None, init=False)
    checksums: Mapping[str, str] = field(factory=dict, init=False)
    _over: bool = field(default=False, init=False)

    @property
    def algorithm(self) -> str | None:
        """
        Of the checksum that the client sends, in lower case; ``None`` when it sends none.
        """
        return self._announced.algorithm

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
                await self._digests.drain()
                self._verify()
                self._over = True
        return b""

    def close(self) -> None:
        """
        Give up what is left.
        """
        self._body.close()

    async def _take(self, block: Buffer) -> Buffer:
        digests, decoder = self._digests, self._decoder
        if decoder is None:
            await digests.take(block)
            return block
        block = await digests.lane.run(self._unframe, decoder, block)
        await digests.take_md5(block)
        return block

    def _unframe(self, decoder: ChunkedDecoder, block: Buffer) -> Buffer:
        pieces = decoder.feed(block)
        for piece in pieces:
            self._digests.digest(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _verify(self) -> None:
        trailers = {} if self._decoder is None else self._decoder.finish()
        self._verify_sha256()
        self._verify_md5()
        algorithm = self._algorithm
        if algorithm:
            computed = self._digests.checksum(algorithm)
            self._verify_checksum(computed, trailers)
            self.checksums = {algorithm: encode(computed)}

    def _verify_checksum(self, computed: bytes, trailers: Mapping[str, str]) -> None:
        algorithm, expected = self._announced.algorithm, self._announced.checksum
        if algorithm is None:
            return
        if expected is None:
            expected = checksum_value(algorithm, trailers[PREFIX + algorithm])
        if computed != expected:
            raise Refused(
                "BadDigest",
                f"The {algorithm.upper()} you specified did not match the calculated checksum.",
            )

    def _verify_sha256(self) -> None:
        expected = self._mode.sha256
        if expected is not None:
            computed = self._digests.checksum("sha256").hex()
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
        expected, computed = self._announced.md5, self._digests.md5()
        if computed is None:
            return
        if expected is not None and computed != expected:
            raise Refused(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                {"ExpectedDigest": encode(expected), "CalculatedDigest": encode(computed)},
            )
        self.md5 = computed.hex()
