# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What GetObjectAttributes tells of an object: only what is asked for.
"""

from collections.abc import Set

from attrs import frozen

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.http.response import Response
from kypello.model import ObjectInfo, PartInfo
from kypello.s3.call import Call
from kypello.s3.dates import http_date
from kypello.s3.encryption import read_customer_key
from kypello.s3.errors import invalid_argument
from kypello.s3.headers import checksum_elements
from kypello.s3.versions import read_version, version_headers
from kypello.s3.xml import CONTENT_TYPE, document

#: The most parts that are told at once, and how many there are unless fewer are asked for.
MAX_PARTS = 1000

_ATTRIBUTES = frozenset({"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"})
_HEADER = "x-amz-object-attributes"
_LARGEST = 2**31 - 1


@frozen
class Wanted:
    """
    What a request asks for.

    :ivar after: Only parts with higher numbers.
    :ivar limit: How many parts.
    """

    attributes: Set[str]
    after: int = 0
    limit: int = MAX_PARTS


async def get_object_attributes(call: Call) -> Response:
    """
    Tell some attributes of an object.
    """
    loopback = call.front.allow_insecure_customer_keys
    wanted, key, version_id = await call.check(
        lambda: (
            _read_wanted(call.head),
            read_customer_key(call.head, loopback=loopback),
            read_version(call.head),
        )
    )
    info = await call.front.store.head(call.bucket, call.key, key, version_id)
    await call.announce("s3:ObjectAccessed:Attributes", info)
    headers = [
        CONTENT_TYPE,
        ("Last-Modified", http_date(info.modified)),
        *version_headers(call.settings, info.version_id),
    ]
    return Response(200, headers, attributes_document(info, wanted))


def attributes_document(info: ObjectInfo, wanted: Wanted) -> bytes:
    """
    The document that tells them.
    """
    metadata = info.metadata
    parts = {"ETag": f"<ETag>{metadata.etag}</ETag>"}
    if metadata.checksums:
        kind = metadata.checksum_type and f"<ChecksumType>{metadata.checksum_type}</ChecksumType>"
        parts["Checksum"] = f"<Checksum>{checksum_elements(metadata.checksums)}{kind}</Checksum>"
    if info.parts:
        parts["ObjectParts"] = _object_parts(info.parts, wanted)
    parts["StorageClass"] = f"<StorageClass>{metadata.storage_class}</StorageClass>"
    parts["ObjectSize"] = f"<ObjectSize>{info.size}</ObjectSize>"
    content = "".join(text for name, text in parts.items() if name in wanted.attributes)
    return document("GetObjectAttributesResponse", content)


def _object_parts(parts: tuple[PartInfo, ...], wanted: Wanted) -> str:
    later = [part for part in parts if part.number > wanted.after]
    page = later[: wanted.limit]
    truncated = "true" if page and len(page) < len(later) else "false"
    last = page[-1].number if page else wanted.after
    shown = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><Size>{part.size}</Size>"
        f"{checksum_elements(part.metadata.checksums)}</Part>"
        for part in page
    )
    return (
        f"<ObjectParts><PartsCount>{len(parts)}</PartsCount>"
        f"<PartNumberMarker>{wanted.after}</PartNumberMarker>"
        f"<NextPartNumberMarker>{last}</NextPartNumberMarker>"
        f"<MaxParts>{wanted.limit}</MaxParts><IsTruncated>{truncated}</IsTruncated>"
        f"{shown}</ObjectParts>"
    )


def _read_wanted(head: RequestHead) -> Wanted:
    stated = head.header(_HEADER) or ""
    attributes = {name.strip() for name in stated.split(",")} - {""}
    if not attributes:
        raise Refused(
            "InvalidRequest",
            f"The {_HEADER} header specifying the attributes to be retrieved is either missing or"
            " empty",
        )
    if unknown := attributes - _ATTRIBUTES:
        raise invalid_argument(_HEADER, min(unknown), "Invalid attribute name specified.")
    return Wanted(
        attributes,
        _number(head, "x-amz-part-number-marker", 0),
        min(_number(head, "x-amz-max-parts", MAX_PARTS), MAX_PARTS),
    )


def _number(head: RequestHead, name: str, default: int) -> int:
    stated = head.header(name)
    if not stated:
        return default
    if stated.isascii() and stated.isdigit() and len(stated) <= len(str(_LARGEST)):
        number = int(stated)
        if number <= _LARGEST:
            return number
    raise invalid_argument(name, stated, f"Provided {name} not an integer or within integer range")
