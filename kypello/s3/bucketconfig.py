# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Configurations of buckets: default encryption, and what is told of all that cannot be set.
"""

from collections.abc import Awaitable, Callable, Mapping
from xml.etree.ElementTree import Element

from kypello.crypto.sse import SETTING, ServerSideEncryption
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
    await call.front.store.bucket(call.bucket)
    setting = _read_encryption(await call.read_document()).to_bytes()
    if not call.front.encrypts:
        raise KMSNotConfigured()
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
    algorithm = ServerSideEncryption.from_bytes(stored).algorithm
    content = (
        "<Rule><ApplyServerSideEncryptionByDefault>"
        f"<SSEAlgorithm>{algorithm}</SSEAlgorithm>"
        "</ApplyServerSideEncryptionByDefault></Rule>"
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
    _check_bucket_key(parts.get("BucketKeyEnabled"))
    _check_blocked(parts.get("BlockedEncryptionTypes"))
    default = parts.get("ApplyServerSideEncryptionByDefault")
    if default is None:
        raise malformed("ApplyServerSideEncryptionByDefault is missing")
    texts = child_texts(default, _DEFAULT)
    algorithm = texts.get("SSEAlgorithm", "")
    if algorithm == "aws:kms":
        raise not_implemented("SSEAlgorithm aws:kms")
    if algorithm != "AES256":
        raise malformed("Unknown SSE algorithm")
    if "KMSMasterKeyID" in texts:
        raise malformed("MasterKeyID is allowed with aws:kms only")
    return ServerSideEncryption("AES256")


def _check_bucket_key(element: Element | None) -> None:
    """
    See that it is a truth value; with AES256 it changes nothing.
    """
    if element is not None and (len(element) or element.text not in ("true", "false")):
        raise malformed("BucketKeyEnabled")


def _check_blocked(element: Element | None) -> None:
    if element is None:
        return
    for kind in children(element, frozenset({"EncryptionType"})):
        if kind.text == "SSE-C":
            raise not_implemented("BlockedEncryptionTypes")
        if kind.text != "NONE":
            raise malformed("EncryptionType")
