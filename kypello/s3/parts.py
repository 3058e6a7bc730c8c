# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Parts of uploads: stored, copied from objects, and listed.
"""

import re
from collections.abc import Sequence
from functools import partial

from attrs import frozen

from kypello.auth.request import RequestHead
from kypello.crypto.sse import check_blocked
from kypello.errors import Refused
from kypello.http.response import Response
from kypello.model import (
    KMS_ALGORITHMS,
    ByteRange,
    CustomerKey,
    ObjectMetadata,
    PartInfo,
    UploadInfo,
)
from kypello.s3.call import Call
from kypello.s3.copysource import (
    COPY_SOURCE,
    Source,
    open_source,
    read_source,
    source_headers,
    too_large,
)
from kypello.s3.dates import xml_date
from kypello.s3.digests import DigestedSource, digested
from kypello.s3.encryption import is_opaque, read_part_key, sealing_headers
from kypello.s3.errors import invalid_argument
from kypello.s3.headers import checksum_elements, checksum_headers
from kypello.s3.owner import OWNER
from kypello.s3.paging import INITIATOR, read_limit, read_number
from kypello.s3.patience import answer_patiently
from kypello.s3.payload import Payload
from kypello.s3.ranges import read_part_number
from kypello.s3.xml import CONTENT_TYPE, document, escape

_RANGE_HEADER = f"{COPY_SOURCE}-range"
_RANGE = re.compile("bytes=([0-9]{1,19})-([0-9]{1,19})")


@frozen
class _Target:
    """
    Where a part belongs.

    :ivar customer_key: The key that the client brings for it.
    """

    upload: UploadInfo
    number: int
    customer_key: CustomerKey | None

    @property
    def want_md5(self) -> bool:
        """
        Whether the entity tag is the MD5 digest.
        """
        return not is_opaque(self.upload.metadata.sealing)

    def headers(self, part: PartInfo) -> Sequence[tuple[str, str]]:
        """
        What the answer says of the part beside its entity tag.
        """
        sealing = sealing_headers(self.upload.metadata.sealing, key=self.customer_key)
        return (*sealing, *checksum_headers(part.metadata))


async def upload_part(call: Call) -> Response:
    """
    Store a part of an upload, in place of an earlier one of its number.
    """
    target = await _target(call, copying=False)
    payload = _open_part(call, target)

    def describe(_size: int) -> ObjectMetadata:
        """
        What is known of the part, once it is read and verified.
        """
        return ObjectMetadata(etag=payload.md5 or "", checksums=payload.checksums)

    part = await call.front.store.put_part(
        call.bucket,
        call.key,
        target.upload.upload_id,
        target.number,
        payload,
        describe,
        target.customer_key,
    )
    return Response(200, [("ETag", f'"{part.etag}"'), *target.headers(part)])


async def upload_part_copy(call: Call) -> Response:
    """
    Store a copy of an object, or of a range of it, as a part of an upload.
    """
    target = await _target(call, copying=True)
    source = read_source(call.head)
    return await answer_patiently(call, _copy_part(call, target, source))


async def list_parts(call: Call) -> Response:
    """
    List the parts of an upload.
    """
    limit, after = await call.check(partial(_read_page, call.head))
    store, upload_id = call.front.store, _upload_id(call.head)
    upload = await store.upload(call.bucket, call.key, upload_id)
    found = await store.parts(call.bucket, call.key, upload_id, after, limit + 1)
    page = found[:limit]
    truncated = "true" if page and len(found) > limit else "false"
    content = (
        f"<Bucket>{call.bucket}</Bucket><Key>{escape(call.key)}</Key>"
        f"<UploadId>{escape(upload_id)}</UploadId>{INITIATOR}{OWNER}"
        f"<StorageClass>{escape(upload.metadata.storage_class)}</StorageClass>"
        f"<PartNumberMarker>{after}</PartNumberMarker>"
        f"<NextPartNumberMarker>{page[-1].number if page else 0}</NextPartNumberMarker>"
        f"<MaxParts>{limit}</MaxParts><IsTruncated>{truncated}</IsTruncated>"
        f"{checksum_kind(upload)}{''.join(map(_element, page))}"
    )
    return Response(200, (CONTENT_TYPE,), document("ListPartsResult", content))


def checksum_kind(upload: UploadInfo) -> str:
    """
    The elements that tell which checksums an upload has.  With a key of its client the type is
    sealed.
    """
    if not upload.checksum:
        return ""
    kind = upload.metadata.checksum_type
    return f"<ChecksumAlgorithm>{upload.checksum.upper()}</ChecksumAlgorithm>" + (
        kind and f"<ChecksumType>{kind}</ChecksumType>"
    )


async def _copy_part(call: Call, target: _Target, source: Source) -> Response:
    front, upload = call.front, target.upload
    opened = await open_source(call, source)
    try:
        wanted = _wanted(call.head, opened.info.size, front.max_part)
        algorithms = (upload.checksum,) if upload.checksum else ()
        body = digested(
            await opened.read(wanted), front.lanes, algorithms, want_md5=target.want_md5
        )
        part = await front.store.put_part(
            call.bucket,
            call.key,
            upload.upload_id,
            target.number,
            body,
            partial(_describe_copy, body),
            target.customer_key,
        )
    finally:
        opened.close()
    content = (
        f"<LastModified>{xml_date(part.modified)}</LastModified>"
        f"<ETag>&#34;{part.etag}&#34;</ETag>{checksum_elements(part.metadata.checksums)}"
    )
    headers = [CONTENT_TYPE, *target.headers(part), *await source_headers(call, opened.info)]
    return Response(200, headers, document("CopyPartResult", content))


def _describe_copy(body: DigestedSource, _size: int) -> ObjectMetadata:
    return ObjectMetadata(etag=body.md5, checksums=body.checksums)


async def _target(call: Call, *, copying: bool) -> _Target:
    head, front = call.head, call.front
    number = await call.check(lambda: read_part_number(head.parameter("partNumber")))
    upload = await front.store.upload(call.bucket, call.key, _upload_id(head))
    loopback = front.allow_insecure_customer_keys
    sealing = upload.metadata.sealing
    key = read_part_key(head, sealing, loopback=loopback, copying=copying)
    if key is not None:
        check_blocked(call.settings)
    if sealing is not None and sealing.algorithm in KMS_ALGORITHMS:
        await call.require_key("kms:GenerateDataKey", sealing.key_id)
    return _Target(upload, number, key)


def _upload_id(head: RequestHead) -> str:
    return head.parameter("uploadId") or ""


def _open_part(call: Call, target: _Target) -> Payload:
    head, limit = call.head, call.front.max_part
    for name in (COPY_SOURCE, _RANGE_HEADER):
        stated = head.header(name)
        if stated is not None:
            raise invalid_argument(
                name, stated, "You can only specify a copy source header for copy requests."
            )
    if head.header("content-length") is None and head.header("transfer-encoding") is None:
        raise Refused("MissingContentLength", "You must provide the Content-Length HTTP header.")
    payload = call.payload(target.want_md5, target.upload.checksum)
    if payload.size is not None and payload.size > limit:
        raise Refused(
            "EntityTooLarge",
            "Your proposed upload exceeds the maximum allowed object size.",
            {"ProposedSize": str(payload.size), "MaxSizeAllowed": str(limit)},
        )
    expected, actual = target.upload.checksum, payload.algorithm
    if expected and actual is not None and actual != expected:
        raise Refused(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum"
            f" Type: {actual}",
        )
    return payload


def _wanted(head: RequestHead, size: int, limit: int) -> ByteRange | None:
    """
    The bytes of the source that become the part; ``None`` for all of them.
    """
    stated = head.header(_RANGE_HEADER)
    if stated is None:
        if size > limit:
            raise too_large(limit)
        return None
    found = _RANGE.fullmatch(stated)
    first, last = (int(number) for number in found.groups()) if found is not None else (1, 0)
    if first > last:
        raise invalid_argument(
            _RANGE_HEADER,
            stated,
            f"The {_RANGE_HEADER} value must be of the form bytes=first-last where first and last"
            " are the zero-based offsets of the first and last bytes to copy",
        )
    if last >= size:
        raise invalid_argument(
            _RANGE_HEADER, stated, f"Range specified is not valid for source object of size: {size}"
        )
    if last + 1 - first > limit:
        raise too_large(limit)
    return ByteRange(first, last + 1)


def _read_page(head: RequestHead) -> tuple[int, int]:
    return read_limit(head, "max-parts"), read_number(head, "part-number-marker", 0)


def _element(part: PartInfo) -> str:
    return (
        f"<Part><PartNumber>{part.number}</PartNumber>"
        f"<LastModified>{xml_date(part.modified)}</LastModified>"
        f"<ETag>&#34;{part.etag}&#34;</ETag><Size>{part.size}</Size>"
        f"{checksum_elements(part.metadata.checksums)}</Part>"
    )
