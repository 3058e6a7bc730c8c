# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Configurations of buckets: default encryption, and what is told of all that cannot be set.
"""

from collections.abc import Awaitable, Callable, Mapping
from xml.etree.ElementTree import Element

from kypello.crypto.sse import SETTING, ServerSideEncryption, master_key_name
from kypello.errors import KMSNotConfigured, Refused
from kypello.http.response import Response
from kypello.s3.call import Call
from kypello.s3.errors import not_implemented
from kypello.s3.owner import FULL_CONTROL
from kypello.s3.xml import (
    CONTENT_TYPE,
    child_texts,
    children,
    document,
    escape,
    malformed,
    read_document,
)

_ROOT = "ServerSideEncryptionConfiguration"
_RULE = frozenset(
    {"ApplyServerSideEncryptionByDefault", "BucketKeyEnabled", "BlockedEncryptionTypes"}
)
_DEFAULT = frozenset({"SSEAlgorithm", "KMSMasterKeyID"})


async def put_encryption(call: Call) -> Response:
    """
    Set the encryption of new objects.
    """
    front = call.front
    await front.store.bucket(call.bucket)
    wanted = _read_encryption(await call.read_document())
    if not front.encrypts:
        raise KMSNotConfigured()
    if wanted.key_id and front.test_key is not None:
        await front.test_key(master_key_name(wanted.key_id))
    setting = wanted.to_bytes()
    await _change(call, lambda settings: {**settings, SETTING: setting})
    return Response(200)


async def get_encryption(call: Call) -> Response:
    """
    Tell the encryption of new objects.
    """
    info = await call.front.store.bucket(call.bucket)
    stored = info.settings.get(SETTING)
    if stored is None:
        raise Refused(
            "ServerSideEncryptionConfigurationNotFoundError",
            "The server side encryption configuration was not found",
        )
    default = ServerSideEncryption.from_bytes(stored)
    key_id = default.key_id and f"<KMSMasterKeyID>{escape(default.key_id)}</KMSMasterKeyID>"
    content = (
        "<Rule><ApplyServerSideEncryptionByDefault>"
        f"<SSEAlgorithm>{default.algorithm}</SSEAlgorithm>{key_id}"
        "</ApplyServerSideEncryptionByDefault>"
        f"<BucketKeyEnabled>{'true' if default.bucket_key else 'false'}</BucketKeyEnabled></Rule>"
    )
    return Response(200, (CONTENT_TYPE,), document(_ROOT, content))


async def delete_encryption(call: Call) -> Response:
    """
    Leave the encryption of new objects to the server.
    """
    await _change(
        call,
        lambda settings: {name: value for name, value in settings.items() if name != SETTING},
    )
    return Response(204)


def fixed(root: str, content: str = "") -> Callable[[Call], Awaitable[Response]]:
    """
    An operation that shows a configuration which is always the same.

    :param root: The name of the outermost element.
    """
    body = document(root, content)

    async def show(call: Call) -> Response:
        """
        Show it, if there is what it is about.
        """
        await _check_exists(call)
        return Response(200, (CONTENT_TYPE,), body)

    return show


def absent(code: str, message: str) -> Callable[[Call], Awaitable[Response]]:
    """
    An operation that tells that something is not configured.
    """

    async def refuse(call: Call) -> Response:
        """
        Tell so, if there is what it is about.
        """
        await _check_exists(call)
        raise Refused(code, message)

    return refuse


async def delete_absent(call: Call) -> Response:
    """
    Remove a configuration that cannot be there.
    """
    await _check_exists(call)
    return Response(204)


#: Shows who may use a bucket or an object.
get_acl = fixed("AccessControlPolicy", FULL_CONTROL)


async def _check_exists(call: Call) -> None:
    if call.key:
        await call.front.store.head(call.bucket, call.key)
    else:
        await call.front.store.bucket(call.bucket)


async def _change(call: Call, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]) -> None:
    await call.front.store.change_bucket(call.bucket, change)


def _read_encryption(body: bytes) -> ServerSideEncryption:
    rules = list(children(read_document(body, _ROOT), frozenset({"Rule"})))
    if len(rules) != 1:
        raise malformed("only one server-side encryption rule is allowed at a time")
    parts: dict[str, Element] = {}
    for part in children(rules[0], _RULE):
        if part.tag in parts:
            raise malformed(f"{part.tag} twice")
        parts[part.tag] = part
    bucket_key = _read_bucket_key(parts.get("BucketKeyEnabled"))
    _check_blocked(parts.get("BlockedEncryptionTypes"))
    default = parts.get("ApplyServerSideEncryptionByDefault")
    if default is None:
        raise malformed("ApplyServerSideEncryptionByDefault is missing")
    texts = child_texts(default, _DEFAULT)
    algorithm, key_id = texts.get("SSEAlgorithm", ""), texts.get("KMSMasterKeyID")
    match algorithm:
        case "AES256":
            if key_id is not None:
                raise malformed("MasterKeyID is allowed with aws:kms only")
            return ServerSideEncryption("AES256", bucket_key=bucket_key)
        case "aws:kms":
            return ServerSideEncryption("aws:kms", _checked_key_id(key_id or ""), bucket_key)
        case "aws:kms:dsse":
            raise not_implemented("SSEAlgorithm aws:kms:dsse")
    raise malformed("Unknown SSE algorithm")


def _checked_key_id(key_id: str) -> str:
    try:
        if key_id:
            master_key_name(key_id)
    except Refused:
        raise malformed("MasterKeyID contains unsupported characters") from None
    if not key_id.isascii():
        # It is told in a header of every object.
        raise malformed("MasterKeyID contains unsupported characters")
    return key_id


def _read_bucket_key(element: Element | None) -> bool:
    """
    Whether objects share data keys; with AES256 it changes nothing and is told again.
    """
    if element is None:
        return False
    if len(element) or element.text not in ("true", "false"):
        raise malformed("BucketKeyEnabled")
    return element.text == "true"


def _check_blocked(element: Element | None) -> None:
    if element is None:
        return
    for kind in children(element, frozenset({"EncryptionType"})):
        if kind.text == "SSE-C":
            raise not_implemented("BlockedEncryptionTypes")
        if kind.text != "NONE":
            raise malformed("EncryptionType")
