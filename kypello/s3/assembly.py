# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What becomes of an upload: the list of parts that completes it, and the object that they make.
"""

from collections.abc import Mapping, Sequence
from hashlib import md5, sha256
from itertools import pairwise

from attrs import evolve, frozen

from kypello.auth.request import RequestHead
from kypello.crypto.checksums import SIZES, combine, compose, decode, encode
from kypello.errors import Refused
from kypello.model import Assembly, PartInfo, UploadInfo
from kypello.s3.announced import stated_checksum
from kypello.s3.errors import invalid_argument
from kypello.s3.ranges import MAX_PART
from kypello.s3.xml import child_texts, children, malformed, read_document

#: The longest list, in bytes: 10 000 parts with a checksum each, generously spaced.
MAX_LIST = 4 * 1024 * 1024

#: Each part may have a number, an entity tag and all kinds of checksums.
_PART = frozenset({"PartNumber", "ETag", *(f"Checksum{name.upper()}" for name in SIZES)})
_MAX_ELEMENTS = 1 + MAX_PART * (1 + len(_PART))
_MAX_DIGITS = 19

_TYPE = "x-amz-checksum-type"
_SIZE = "x-amz-mp-object-size"


@frozen
class Listed:
    """
    A part as the client lists it.

    :ivar etag: Without quotes.
    :ivar checksums: By lower-case algorithm.
    """

    number: int
    etag: str
    checksums: Mapping[str, str]


@frozen
class Completion:
    """
    What the end of an upload asks for.

    :ivar parts: In order.
    :ivar checksum: Algorithm and value that the object must have.
    :ivar checksum_type: That the upload must have; ``None`` for any.
    :ivar size: Bytes that the object must have, in digits; ``None`` for any.
    :ivar min_part: The smallest part, but for the last, in bytes.
    :ivar max_object: The largest object.
    """

    parts: Sequence[Listed]
    checksum: tuple[str, str] | None
    checksum_type: str | None
    size: str | None
    min_part: int
    max_object: int

    @property
    def digest(self) -> bytes:
        """
        Tells lists of parts apart.
        """
        lines = "".join(f"{part.number} {part.etag}\n" for part in self.parts)
        return sha256(lines.encode()).digest()

    def assemble(self, upload: UploadInfo, stored: Sequence[PartInfo]) -> Assembly:
        """
        Tell what the object is made of; see :data:`kypello.interfaces.Assemble`.

        :raises Refused: ``InvalidPart``, ``EntityTooSmall``, ``EntityTooLarge``,
            ``InvalidRequest`` or ``BadDigest``.
        """
        parts = self._chosen(upload, stored)
        self._check_sizes(parts)
        self._check_type(upload)
        size = sum(part.size for part in parts)
        self._check_size(size)
        value = _checksum(upload, parts)
        self._check_checksum(upload, value)
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
        etag = f"{md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        checksums = {upload.checksum: value} if value else {}
        return Assembly(
            tuple(part.number for part in parts),
            evolve(upload.metadata, etag=etag, checksums=checksums),
        )

    def _chosen(self, upload: UploadInfo, stored: Sequence[PartInfo]) -> list[PartInfo]:
        by_number = {part.number: part for part in stored}
        chosen = []
        for listed in self.parts:
            part = by_number.get(listed.number)
            if (
                part is None
                or part.etag != listed.etag
                or any(
                    part.metadata.checksums.get(name) != value
                    for name, value in listed.checksums.items()
                )
            ):
                raise Refused(
                    "InvalidPart",
                    "One or more of the specified parts could not be found. The part may not have"
                    " been uploaded, or the specified entity tag may not match the part's entity"
                    " tag.",
                    {
                        "UploadId": upload.upload_id,
                        "PartNumber": str(listed.number),
                        "ETag": listed.etag,
                    },
                )
            chosen.append(part)
        return chosen

    def _check_sizes(self, parts: Sequence[PartInfo]) -> None:
        for part in parts[:-1]:
            if part.size < self.min_part:
                raise Refused(
                    "EntityTooSmall",
                    "Your proposed upload is smaller than the minimum allowed size",
                    {
                        "ProposedSize": str(part.size),
                        "MinSizeAllowed": str(self.min_part),
                        "PartNumber": str(part.number),
                        "ETag": part.etag,
                    },
                )

    def _check_type(self, upload: UploadInfo) -> None:
        expected = upload.metadata.checksum_type if upload.checksum else ""
        if self.checksum_type is not None and self.checksum_type != expected:
            raise _invalid(
                f"The upload was created using the {expected or 'null'} checksum mode. The complete"
                " request must use the same checksum mode."
            )

    def _check_size(self, size: int) -> None:
        if self.size is not None and self.size != str(size):
            raise _invalid(
                f"The provided '{_SIZE}' header value {self.size} does not match what was"
                f" computed: {size}"
            )
        if size > self.max_object:
            raise Refused(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed object size.",
                {"ProposedSize": str(size), "MaxSizeAllowed": str(self.max_object)},
            )

    def _check_checksum(self, upload: UploadInfo, value: str) -> None:
        if self.checksum is None:
            return
        algorithm, stated = self.checksum
        if algorithm != upload.checksum:
            raise _invalid(
                "Checksum Type mismatch occurred, expected checksum Type:"
                f" {upload.checksum or 'null'}, actual checksum Type: {algorithm}"
            )
        # A composite value may come without the number of parts.
        if stated not in (value, value.partition("-")[0]):
            raise Refused(
                "BadDigest",
                f"The {algorithm.upper()} you specified did not match the calculated checksum.",
            )


def read_completion(body: bytes, head: RequestHead, min_part: int, max_object: int) -> Completion:
    """
    Read the request to end an upload.

    :raises Refused: ``MalformedXML``, ``InvalidArgument``, ``InvalidPartOrder`` or
        ``InvalidRequest``.
    """
    root = read_document(body, "CompleteMultipartUpload", _MAX_ELEMENTS)
    parts = [_read_part(child_texts(child, _PART)) for child in children(root, frozenset({"Part"}))]
    if not parts:
        raise malformed("You must specify at least one part")
    for part in parts:
        if part.number < 1:
            raise invalid_argument("PartNumber", str(part.number), "PartNumber must be >= 1")
    if any(one.number >= other.number for one, other in pairwise(parts)):
        raise Refused(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
        )
    return Completion(
        parts,
        stated_checksum(head),
        head.header(_TYPE),
        head.header(_SIZE),
        min_part,
        max_object,
    )


def _read_part(texts: Mapping[str, str]) -> Listed:
    number, etag = texts.get("PartNumber", "").strip(), texts.get("ETag", "").strip()
    digits = number.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS and etag):
        raise malformed()
    checksums = {
        name.removeprefix("Checksum").lower(): text.strip()
        for name, text in texts.items()
        if name.startswith("Checksum") and text.strip()
    }
    return Listed(int(number), etag.strip('"'), checksums)


def _checksum(upload: UploadInfo, parts: Sequence[PartInfo]) -> str:
    """
    The checksum of the object; empty when the upload has none.
    """
    algorithm = upload.checksum
    if not algorithm:
        return ""
    digests = [
        decode(part.metadata.checksums.get(algorithm, ""), SIZES[algorithm]) for part in parts
    ]
    known = [digest for digest in digests if digest is not None]
    assert len(known) == len(parts), "every part of such an upload gets a checksum"
    if upload.metadata.checksum_type == "COMPOSITE":
        return f"{encode(compose(algorithm, known))}-{len(parts)}"
    sizes = (part.size for part in parts)
    return encode(combine(algorithm, zip(known, sizes, strict=True)))


def _invalid(message: str) -> Refused:
    return Refused("InvalidRequest", message)
