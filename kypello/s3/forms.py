# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Uploads by HTML forms.

Fields stand for the headers of a PUT, and a signed policy says what they may be; see
:mod:`kypello.auth.formpolicy`.  Everything but the size of the file and its digests is checked
before the file is read.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit, urlunsplit

from attrs import evolve, frozen
from zope.interface import implementer

from kypello.auth.formpolicy import FormPolicy, read_policy
from kypello.auth.request import RequestHead, as_header
from kypello.errors import Refused
from kypello.http.response import Response
from kypello.interfaces import IBodySource
from kypello.model import Buffer, EncryptionRequest, Lock, ObjectInfo, ObjectMetadata
from kypello.s3.acl import check_public_list
from kypello.s3.bucketconfig import check_encryption
from kypello.s3.call import Call
from kypello.s3.encryption import is_opaque, read_write_encryption, sealing_headers
from kypello.s3.errors import invalid_argument
from kypello.s3.formdata import read_boundary
from kypello.s3.formfile import FormFile, open_form
from kypello.s3.headers import StoredHeaders, checksum_headers, read_stored_headers
from kypello.s3.lifecycle import expiration_headers
from kypello.s3.locking import read_lock, require_lock, with_lock
from kypello.s3.names import check_key
from kypello.s3.payload import Payload, open_payload
from kypello.s3.tagging import read_tagging_document
from kypello.s3.versions import version_headers
from kypello.s3.xml import CONTENT_TYPE, DECLARATION, escape

#: Fields that stand for headers.
_HEADERS = frozenset(
    (
        "cache-control", "content-disposition", "content-encoding", "content-language",
        "content-md5", "content-type", "expires", "x-amz-sdk-checksum-algorithm",
        "x-amz-storage-class", "x-amz-website-redirect-location",
    )
)  # fmt: skip
_HEADER_PREFIXES = (
    "x-amz-checksum-", "x-amz-meta-", "x-amz-object-lock-", "x-amz-server-side-encryption",
)  # fmt: skip

#: Further fields of the prefixes of headers: those of the signature, and some without effect.
_WITHOUT_EFFECT = frozenset(
    (
        "x-amz-acl", "x-amz-algorithm", "x-amz-credential", "x-amz-date",
        "x-amz-security-token", "x-amz-signature", "x-amz-user-agent",
    )
)  # fmt: skip
_RESERVED = ("x-amz-", "x-minio-")
_GRANTS = "x-amz-grant-"

_FILENAME = "${filename}"
_SEPARATORS = re.compile(r"[/\\]")
_STATUSES = {"200": 200, "201": 201}


@frozen
class _Form:
    """
    What a form asks for.
    """

    headers: StoredHeaders
    lock: Lock
    encryption: EncryptionRequest | None
    payload: Payload

    def describe(self, _size: int) -> ObjectMetadata:
        """
        The metadata, once the file is read and verified.
        """
        return self.headers.describe(self.payload.md5 or "", self.payload.checksums)


@implementer(IBodySource)
@frozen(eq=False)
class _Content:
    """
    The payload of a form.

    :ivar size: Only the end tells.
    """

    _payload: Payload
    size: int | None = None

    async def read(self) -> Buffer:
        """
        Give the next block; see :meth:`IBodySource.read`.
        """
        return await self._payload.read()

    def close(self) -> None:
        """
        Give up what is left.
        """
        self._payload.close()


async def post_object(call: Call) -> Response:
    """
    Store the file of a form.
    """
    if call.authenticated.identity is not None:
        raise invalid_argument(
            "Authorization", "", "Only one auth mechanism allowed; a form is signed by its policy"
        )
    boundary = read_boundary(call.head.header("content-type") or "")
    file = await open_form(call.payload(), boundary)
    put = await _identify(call, file)
    try:
        put = await _limit(put, file)
        form = await call.check(lambda: _read_form(put, file))
    except Refused:
        # Who may not put anything there learns nothing else.
        await put.require("s3:PutObject")
        raise
    tags = form.headers.tags
    await put.require("s3:PutObject", tags=tags)
    if tags:
        await put.require("s3:PutObjectTagging", tags=tags)
    await require_lock(put, form.lock)
    canned = file.fields.get("acl", file.fields.get("x-amz-acl"))
    check_public_list(put.settings, canned, put.head)
    await check_encryption(put, form.encryption)

    def describe(size: int) -> ObjectMetadata:
        """
        The metadata with the lock that counts from now on.
        """
        return with_lock(put, form.lock, form.describe(size))

    info = await put.front.store.put(
        put.bucket, put.key, _Content(form.payload), describe, form.encryption
    )
    await put.announce("s3:ObjectCreated:Post", info)
    return _answer(call, file.fields, info)


async def _identify(call: Call, file: FormFile) -> Call:
    """
    See who sent a form.

    :return: The PUT that would do the same, with nothing of the form but its key.
    """
    key = _read_key(file)
    authenticated = await call.front.authenticator.authenticate_form(call.head, file.fields)
    return evolve(call, key=key, authenticated=authenticated)


async def _limit(put: Call, file: FormFile) -> Call:
    """
    See that the policy of a form, if it has one, allows its fields; tell the file what size it
    may have.

    :return: The PUT that would do the same.
    """
    fields = file.fields
    file.largest = put.front.max_object
    if put.authenticated.identity is not None:
        policy = await put.check(lambda: _read_policy(put, fields))
        file.smallest = policy.smallest
        if policy.largest is not None:
            file.largest = min(file.largest, policy.largest)
    head = await put.check(lambda: _as_put(put.head, fields))
    return evolve(put, authenticated=evolve(put.authenticated, head=head))


def _read_key(file: FormFile) -> str:
    key = file.fields.get("key")
    if key is None:
        raise Refused(
            "InvalidArgument",
            "Bucket POST must contain a field named 'key'.  If it is specified, please check the"
            " order of the fields.",
            {"ArgumentName": "key"},
        )
    # Some browsers tell the whole path.
    key = key.replace(_FILENAME, _SEPARATORS.split(file.filename)[-1])
    if not key:
        raise invalid_argument("key", "", "User key must have a length greater than 0.")
    check_key(key)
    return key


def _read_policy(call: Call, fields: Mapping[str, str]) -> FormPolicy:
    policy = read_policy(fields["policy"])
    meant = {**fields, "key": call.key, "bucket": call.bucket}
    policy.check(meant, call.front.clock.seconds())
    return policy


def _as_put(head: RequestHead, fields: Mapping[str, str]) -> RequestHead:
    """
    The request that would do the same without a form.

    :raises Refused: ``InvalidArgument``: a field that would be lost, or can be no header.
    """
    headers = []
    for name, value in fields.items():
        if name in _HEADERS or name.startswith(_HEADER_PREFIXES):
            headers.append(as_header(name, value))
        elif name.startswith(_RESERVED) and not (
            name in _WITHOUT_EFFECT or name.startswith(_GRANTS)
        ):
            raise invalid_argument(name, value, f"Bucket POST has no field named '{name}'.")
    return evolve(head, method="PUT", query=(), headers=tuple(headers))


def _read_form(call: Call, file: FormFile) -> _Form:
    front, head = call.front, call.head
    headers = read_stored_headers(head, front.storage_classes)
    tagging = file.fields.get("tagging")
    tags = read_tagging_document(tagging.encode()) if tagging else {}
    lock = read_lock(call)
    encryption = read_write_encryption(head, loopback=front.allow_insecure_customer_keys)
    opaque = is_opaque(encryption)
    payload = open_payload(call.authenticated, file, front.lanes, want_md5=not opaque)
    return _Form(evolve(headers, tags=tags), lock, encryption, payload)


def _answer(call: Call, fields: Mapping[str, str], info: ObjectInfo) -> Response:
    location = _location(call.head, call.bucket, info.key)
    headers = [
        ("ETag", f'"{info.etag}"'),
        *sealing_headers(info.metadata.sealing, context=True),
        *checksum_headers(info.metadata),
        *version_headers(call.settings, info.version_id),
        *expiration_headers(call, info),
    ]
    page = _redirection(fields.get("success_action_redirect", fields.get("redirect", "")), info)
    if page:
        return Response(303, [*headers, ("Location", page)])
    headers.append(("Location", location))
    status = _STATUSES.get(fields.get("success_action_status", ""), 204)
    if status != 201:
        return Response(status, headers)
    body = (
        f"<PostResponse><Location>{escape(location)}</Location>"
        f"<Bucket>{escape(info.bucket)}</Bucket><Key>{escape(info.key)}</Key>"
        f"<ETag>&#34;{info.etag}&#34;</ETag></PostResponse>"
    )
    return Response(status, [*headers, CONTENT_TYPE], DECLARATION + body.encode())


def _location(head: RequestHead, bucket: str, key: str) -> str:
    host = head.header("host")
    origin = f"{'https' if head.secure else 'http'}://{host}" if host else ""
    place = "" if head.host_bucket else f"/{bucket}"
    return f"{origin}{place}/{quote(key, safe='/-._~')}"


def _redirection(page: str, info: ObjectInfo) -> str:
    """
    Where the browser goes after the upload; empty for nowhere.
    """
    try:
        parts = urlsplit(page)
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.netloc or not _is_plain(page):
        return ""
    told = f"bucket={quote(info.bucket)}&key={quote(info.key, safe='')}&etag=%22{info.etag}%22"
    query = f"{parts.query}&{told}" if parts.query else told
    return urlunsplit(parts._replace(query=query))


def _is_plain(page: str) -> bool:
    return page.isascii() and page.isprintable() and " " not in page
