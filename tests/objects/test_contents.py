# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of the comparison of contents with what their metadata tell.
"""

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import md5, sha256

from attrs import evolve

from kypello.crypto.dare import encrypt
from kypello.errors import NotAuthentic
from kypello.model import SSE_C, ObjectInfo, ObjectMetadata, PartInfo, Sealing
from kypello.objects.contents import Contents, Streams
from tests.cases import SyncCase

_PIECES = (os.urandom(70_000), b"", os.urandom(5))
_CONTENT = b"".join(_PIECES)
_S3, _KMS = Sealing("AES256"), Sealing("aws:kms", "k")


def hashed(content: bytes) -> str:
    """
    The MD5 in hex.
    """
    return md5(content, usedforsecurity=False).hexdigest()


def summed(content: bytes) -> Mapping[str, str]:
    """
    The SHA-256, as metadata tell it.
    """
    return {"sha256": b64encode(sha256(content).digest()).decode()}


def whole(sealing: Sealing, etag: str, checksums: Mapping[str, str]) -> ObjectInfo:
    """
    An object in one piece.
    """
    kind = "FULL_OBJECT" if checksums else ""
    metadata = ObjectMetadata(etag, checksums=checksums, checksum_type=kind, sealing=sealing)
    return ObjectInfo("b", "k", "null", len(_CONTENT), 0, metadata)


def parted(sealing: Sealing, pieces: Sequence[bytes] = _PIECES) -> ObjectInfo:
    """
    An object in parts, with a checksum of their checksums.
    """
    random = sealing is not _S3
    etags = [os.urandom(16).hex() if random else hashed(piece) for piece in pieces]
    parts = tuple(
        PartInfo(number, len(piece), 0, ObjectMetadata(etag, checksums=summed(piece)))
        for number, (piece, etag) in enumerate(zip(pieces, etags, strict=True), 3)
    )
    digests = b"".join(sha256(piece).digest() for piece in pieces)
    count = len(pieces)
    metadata = ObjectMetadata(
        f"{hashed(b''.join(map(bytes.fromhex, etags)))}-{count}",
        checksums={"sha256": f"{summed(digests)['sha256']}-{count}"},
        checksum_type="COMPOSITE",
        sealing=sealing,
    )
    size = sum(map(len, pieces))
    return ObjectInfo("b", "k", "null", size, 0, metadata, parts)


def compare(info: ObjectInfo, content: bytes = _CONTENT, step: int = 30_000) -> None:
    """
    Feed content in blocks.
    """
    contents = Contents(info)
    for at in range(0, len(content), step):
        contents.feed(content[at : at + step])
    contents.finish()


class ContentsTests(SyncCase):
    """
    With the key.
    """

    def test_sound(self) -> None:
        """
        What fits passes, however it is cut; a random ETag is compared with nothing.
        """
        for step in (1000, 70_000, 70_001, 1 << 20):
            for info in (
                whole(_S3, hashed(_CONTENT), summed(_CONTENT)),
                whole(_S3, hashed(_CONTENT), {}),
                whole(_KMS, "0" * 32, summed(_CONTENT)),
                parted(_S3),
                parted(_KMS),
                parted(_S3, [_CONTENT, b""]),
            ):
                compare(info, step=step)
        compare(evolve(whole(_S3, hashed(b""), summed(b"")), size=0), b"")

    def test_other(self) -> None:
        """
        Any other content, ETag, checksum or size is refused.
        """
        other = bytes([_CONTENT[0] ^ 1]) + _CONTENT[1:]
        last = _CONTENT[:-1] + bytes([_CONTENT[-1] ^ 1])
        right = whole(_S3, hashed(_CONTENT), summed(_CONTENT))
        sha = whole(_KMS, "0" * 32, summed(_CONTENT))
        for info in (right, sha, parted(_S3), parted(_KMS)):
            for content in (other, last, _CONTENT[:-1], _CONTENT + b"x", b""):
                with self.assertRaises(NotAuthentic):
                    compare(info, content)
        for wrong in (
            whole(_S3, hashed(b""), {}),
            whole(_KMS, "0" * 32, summed(b"")),
            self.told(parted(_S3), etag=f"{'0' * 32}-3"),
            self.told(parted(_KMS), etag=f"{'0' * 32}-3"),
            self.told(parted(_KMS), checksums={"sha256": f"{summed(b'')['sha256']}-3"}),
            self.told(parted(_KMS), checksums={"crc32": "AAAAAA==-3"}),
        ):
            with self.assertRaises(NotAuthentic):
                compare(wrong)

    def told(self, info: ObjectInfo, **changes: object) -> ObjectInfo:
        """
        An object whose metadata tell something else.
        """
        return evolve(info, metadata=evolve(info.metadata, **changes))


class StreamsTests(SyncCase):
    """
    Without the key.
    """

    def test_parts(self) -> None:
        """
        Each part is a stream of its own; those that are swapped, cut or empty are seen.
        """
        streams = [encrypt(os.urandom(32), os.urandom(12), piece) for piece in _PIECES]
        parts = tuple(PartInfo(number, len(each)) for number, each in enumerate(streams, 1))
        metadata = ObjectMetadata(sealing=Sealing(SSE_C))
        info = ObjectInfo("b", "k", "null", sum(map(len, streams)), 0, metadata, parts)
        self.look_at(info, b"".join(streams))
        for wrong in (streams[2] + streams[0], streams[0], b"", streams[0] + streams[2] + b"x"):
            with self.assertRaises(NotAuthentic):
                self.look_at(info, wrong)
        alone = evolve(info, parts=(), size=len(streams[0]))
        self.look_at(alone, streams[0])
        with self.assertRaises(NotAuthentic):
            self.look_at(alone, streams[0][:-1])

    def look_at(self, info: ObjectInfo, content: bytes) -> None:
        """
        Feed a stream.
        """
        streams = Streams(info)
        for at in range(0, len(content), 1000):
            streams.feed(content[at : at + 1000])
        streams.finish()
