# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What ``x-amz-content-sha256`` says about the body of a request.
"""

import re

from attrs import define, field

from kypello.errors import Refused

#: Says that no signature covers the body.
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

#: Says that the body is cut into chunks, each signed.
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"

#: The same with signed trailers after the last chunk.
SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"

#: Says that the body is cut into chunks without signatures, and trailers may follow.
UNSIGNED_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

_HEX_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@define
class ChunkSeed:
    """
    What the signatures of chunks are chained to: the verified signature of the request.

    :ivar key: The signing key.
    :ivar timestamp: ``YYYYMMDDTHHMMSSZ``.
    :ivar scope: ``date/region/service/aws4_request``.
    :ivar signature: Of the request, in hex.
    """

    key: bytes = field(repr=False)
    timestamp: str
    scope: str
    signature: str = field(repr=False)


@define
class PayloadMode:
    """
    How the body is framed and what protects it.

    :ivar sha256: The digest that the body must have, in lower-case hex; ``None`` when none is
        given.
    :ivar chunked: The body is in aws-chunked framing.
    :ivar trailer: Trailers may follow the last chunk.
    :ivar seed: What the chunks are signed with; ``None`` when they are not.
    """

    sha256: str | None = None
    chunked: bool = False
    trailer: bool = False
    seed: ChunkSeed | None = None


def payload_mode(value: str | None, seed: ChunkSeed | None) -> PayloadMode:
    """
    Understand the value of ``x-amz-content-sha256``.

    :param value: ``None`` when it was not sent: the body is not protected then.
    :param seed: The verified signature of the request; ``None`` when it is anonymous.

    :raises Refused: ``InvalidArgument`` for anything but a digest or a known token;
        ``InvalidRequest`` for signed chunks without a signature of the request;
        ``NotImplemented`` for asymmetric signatures.
    """
    if value is None or value == UNSIGNED_PAYLOAD:
        return PayloadMode()
    if value == UNSIGNED_CHUNKS_TRAILER:
        return PayloadMode(chunked=True, trailer=True)
    if value in (SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER):
        if seed is None:
            raise Refused(
                "InvalidRequest",
                "Anonymous requests don't support this x-amz-content-sha256 value. Please use"
                f" {UNSIGNED_PAYLOAD} or {UNSIGNED_CHUNKS_TRAILER}.",
            )
        return PayloadMode(chunked=True, trailer=value == SIGNED_CHUNKS_TRAILER, seed=seed)
    if _HEX_SHA256.fullmatch(value):
        return PayloadMode(sha256=value.lower())
    if value.startswith("STREAMING-AWS4-ECDSA-"):
        raise Refused(
            "NotImplemented",
            "A header you provided implies functionality that is not implemented",
            {"Header": "x-amz-content-sha256"},
        )
    raise Refused(
        "InvalidArgument",
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER,"
        " STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, or a"
        " valid sha256 value.",
        {"ArgumentName": "x-amz-content-sha256", "ArgumentValue": value},
    )
