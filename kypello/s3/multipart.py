# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Uploads in parts: begun, completed, aborted and listed.
"""

import re
from collections.abc import Sequence
from functools import partial
from urllib.parse import quote

from attrs import evolve, frozen

from kypello.auth.request import RequestHead
from kypello.crypto.checksums import COMBINABLE
from kypello.errors import Refused
from kypello.http.response import Response
from kypello.model import (
    Assembly,
    EncryptionRequest,
    Lock,
    ObjectMetadata,
    PartInfo,
    UploadInfo,
    UploadQuery,
)
from kypello.s3.announced import read_algorithm
from kypello.s3.assembly import MAX_LIST, Completion, read_completion
from kypello.s3.bucketconfig import check_encryption
from kypello.s3.call import Call
from kypello.s3.conditions import write_condition
from kypello.s3.dates import xml_date
from kypello.s3.encryption import check_repeated, read_write_encryption, sealing_headers
from kypello.s3.errors import invalid_argument
from kypello.s3.headers import StoredHeaders, checksum_elements, read_stored_headers
from kypello.s3.lifecycle import expiration_headers
from kypello.s3.locking import read_lock, require_lock, with_lock
from kypello.s3.owner import OWNER
from kypello.s3.paging import INITIATOR, name_writer, read_limit
from kypello.s3.parts import checksum_kind
from kypello.s3.patience import answer_patiently
from kypello.s3.versions import version_headers
from kypello.s3.xml import CONTENT_TYPE, document, escape

_ALGORITHM = "x-amz-checksum-algorithm"
_TYPE = "x-amz-checksum-type"
_TYPES = ("COMPOSITE", "FULL_OBJECT")
_UPLOAD_ID = re.compile("[A-Za-z0-9._-]+")


@frozen
class _Beginning:
    """
    What the beginning of an upload asks for.

    :ivar checksum: The algorithm, in lower case; empty for none.
    """

    headers: StoredHeaders
    lock: Lock
    encryption: EncryptionRequest | None
    checksum: str
    checksum_type: str

    @property
    def metadata(self) -> ObjectMetadata:
        """
        What is known of the object already.
        """
        return ObjectMetadata(
            headers=self.headers.system,
            user=self.headers.user,
            checksum_type=self.checksum_type,
            tags=self.headers.tags,
            storage_class=self.headers.storage_class,
            lock=self.lock,
        )


async def create_upload(call: Call) -> Response:
    """
    Begin an upload.
    """
    wanted = await call.check(partial(_read_beginning, call))
    if wanted.headers.tags:
        await call.require("s3:PutObjectTagging")
    await require_lock(call, wanted.lock)
    await check_encryption(call, wanted.encryption)
    upload = await call.front.store.create_upload(
        call.bucket, call.key, wanted.metadata, wanted.checksum, wanted.encryption
    )
    key = wanted.encryption.customer_key if wanted.encryption is not None else None
    headers = [CONTENT_TYPE, *sealing_headers(upload.metadata.sealing, context=True, key=key)]
    if wanted.checksum:
        headers += [(_ALGORITHM, wanted.checksum.upper()), (_TYPE, wanted.checksum_type)]
    content = (
        f"<Bucket>{call.bucket}</Bucket><Key>{escape(call.key)}</Key>"
        f"<UploadId>{upload.upload_id}</UploadId>"
    )
    return Response(200, headers, document("InitiateMultipartUploadResult", content))


async def complete_upload(call: Call) -> Response:
    """
    Make an object of the parts of an upload.
    """
    head, front = call.head, call.front
    try:
        body = await call.read_document(MAX_LIST, about_object=True)
        asked = read_write_encryption(head, loopback=front.allow_insecure_customer_keys)
        wanted = read_completion(body, head, front.min_part, front.max_object)
    except Refused:
        # That there is no such upload is told before what is wrong with the list.
        await front.store.upload(call.bucket, call.key, _upload_id(head))
        raise
    return await answer_patiently(call, _complete(call, wanted, asked))


async def abort_upload(call: Call) -> Response:
    """
    End an upload and remove its parts.
    """
    await call.front.store.abort_upload(call.bucket, call.key, _upload_id(call.head))
    return Response(204)


async def list_uploads(call: Call) -> Response:
    """
    List the unfinished uploads of a bucket.
    """
    head = call.head
    query, (write, encoding) = await call.check(lambda: (_read_query(head), name_writer(head)))
    listing = await call.front.store.uploads(call.bucket, query)
    following = ("", "") if listing.next is None else listing.next
    delimiter = query.delimiter and f"<Delimiter>{write(query.delimiter)}</Delimiter>"
    content = (
        f"<Bucket>{call.bucket}</Bucket><KeyMarker>{write(query.after_key)}</KeyMarker>"
        f"<UploadIdMarker>{escape(query.after_upload)}</UploadIdMarker>"
        f"<NextKeyMarker>{write(following[0])}</NextKeyMarker>"
        f"<NextUploadIdMarker>{escape(following[1])}</NextUploadIdMarker>"
        f"<Prefix>{write(query.prefix)}</Prefix>{delimiter}<MaxUploads>{query.limit}</MaxUploads>"
        f"<IsTruncated>{'false' if listing.next is None else 'true'}</IsTruncated>{encoding}"
    )
    uploads = "".join(_element(upload, write(upload.key)) for upload in listing.uploads)
    groups = "".join(
        f"<CommonPrefixes><Prefix>{write(prefix)}</Prefix></CommonPrefixes>"
        for prefix in listing.prefixes
    )
    body = document("ListMultipartUploadsResult", content + uploads + groups)
    return Response(200, (CONTENT_TYPE,), body)


async def _complete(call: Call, wanted: Completion, asked: EncryptionRequest | None) -> Response:
    head = call.head
    key = None if asked is None else asked.customer_key

    def assemble(upload: UploadInfo, parts: Sequence[PartInfo]) -> Assembly:
        check_repeated(asked, upload.metadata.sealing)
        made = wanted.assemble(upload, parts)
        return evolve(made, metadata=with_lock(call, upload.metadata.lock, made.metadata))

    info = await call.front.store.complete_upload(
        call.bucket,
        call.key,
        _upload_id(head),
        wanted.digest,
        assemble,
        write_condition(head, call.bucket, call.key),
        key,
    )
    await call.announce("s3:ObjectCreated:CompleteMultipartUpload", info)
    metadata = info.metadata
    kind = f"<ChecksumType>{metadata.checksum_type}</ChecksumType>" if metadata.checksums else ""
    content = (
        f"<Location>{escape(_location(call))}</Location>"
        f"<Bucket>{call.bucket}</Bucket><Key>{escape(call.key)}</Key>"
        f"<ETag>&#34;{info.etag}&#34;</ETag>{checksum_elements(metadata.checksums)}{kind}"
    )
    headers = [
        CONTENT_TYPE,
        *sealing_headers(metadata.sealing, key=key),
        *version_headers(call.settings, info.version_id),
        *expiration_headers(call, info),
    ]
    return Response(200, headers, document("CompleteMultipartUploadResult", content))


def _location(call: Call) -> str:
    head = call.head
    scheme = "https" if head.secure else "http"
    path = f"{call.bucket}/{quote(call.key, safe='/-._~')}"
    return f"{scheme}://{head.header('host') or ''}/{path}"


def _upload_id(head: RequestHead) -> str:
    return head.parameter("uploadId") or ""


def _read_beginning(call: Call) -> _Beginning:
    head, front = call.head, call.front
    headers = read_stored_headers(head, front.storage_classes)
    lock = read_lock(call)
    encryption = read_write_encryption(head, loopback=front.allow_insecure_customer_keys)
    return _Beginning(headers, lock, encryption, *_read_checksum(head))


def _read_checksum(head: RequestHead) -> tuple[str, str]:
    """
    The algorithm and the type of the checksums of an upload; both empty for none.
    """
    stated, kind = head.header(_ALGORITHM), head.header(_TYPE)
    if not stated:
        if kind is not None:
            raise _invalid(f"The {_TYPE} header can only be used with the {_ALGORITHM} header.")
        return "", ""
    algorithm = read_algorithm(stated)
    if kind is None:
        return algorithm, "FULL_OBJECT" if algorithm == "crc64nvme" else "COMPOSITE"
    if kind not in _TYPES:
        raise _invalid(f"Value for {_TYPE} header is invalid.")
    if (kind == "FULL_OBJECT" and algorithm not in COMBINABLE) or (
        kind == "COMPOSITE" and algorithm == "crc64nvme"
    ):
        raise _invalid(
            f"The {kind} checksum type cannot be used with the {algorithm} checksum algorithm."
        )
    return algorithm, kind


def _read_query(head: RequestHead) -> UploadQuery:
    after_key = head.parameter("key-marker") or ""
    after_upload = head.parameter("upload-id-marker") or "" if after_key else ""
    if after_upload and not _UPLOAD_ID.fullmatch(after_upload):
        raise invalid_argument("upload-id-marker", after_upload, "Invalid uploadId marker")
    return UploadQuery(
        head.parameter("prefix") or "",
        head.parameter("delimiter") or "",
        after_key,
        after_upload,
        read_limit(head, "max-uploads"),
    )


def _element(upload: UploadInfo, key: str) -> str:
    return (
        f"<Upload><Key>{key}</Key><UploadId>{upload.upload_id}</UploadId>{INITIATOR}{OWNER}"
        f"<StorageClass>{escape(upload.metadata.storage_class)}</StorageClass>"
        f"<Initiated>{xml_date(upload.began)}</Initiated>{checksum_kind(upload)}</Upload>"
    )


def _invalid(message: str) -> Refused:
    return Refused("InvalidRequest", message)
