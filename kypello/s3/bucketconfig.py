# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Configurations of buckets: default encryption, and what is told of all that cannot be set.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from xml.etree.ElementTree import Element

from attrs import frozen

from kypello.crypto.sse import (
    BLOCKED,
    SETTING,
    ServerSideEncryption,
    encryption_for,
    master_key_name,
)
from kypello.errors import KMSNotConfigured, Refused
from kypello.http.response import Response
from kypello.model import KMS_ALGORITHMS, SSE_C, EncryptionRequest
from kypello.s3.bucketsettings import replace_settings
from kypello.s3.call import Call
from kypello.s3.versions import read_version
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


@frozen
class _Encryption:
    """
    What is configured.

    :ivar default: The encryption of new objects, if they say nothing themselves.
    :ivar blocks: New objects have no keys of their clients.
    """

    default: ServerSideEncryption | None
    blocks: bool

    def settings(self) -> Mapping[str, bytes | None]:
        """
        The settings of a bucket that this takes.
        """
        return {
            SETTING: None if self.default is None else self.default.to_bytes(),
            BLOCKED: SSE_C.encode() if self.blocks else None,
        }


async def put_encryption(call: Call) -> Response:
    """
    Set the encryption of new objects.
    """
    front = call.front
    await front.store.bucket(call.bucket)
    wanted = _read_encryption(await call.read_document())
    if wanted.default is not None:
        if not front.encrypts:
            raise KMSNotConfigured()
        if wanted.default.key_id and front.test_key is not None:
            await front.test_key(master_key_name(wanted.default.key_id))
    await replace_settings(call, wanted.settings())
    return Response(200)


async def get_encryption(call: Call) -> Response:
    """
    Tell the encryption of new objects.
    """
    settings = (await call.front.store.bucket(call.bucket)).settings
    content = ""
    if SETTING in settings:
        default = ServerSideEncryption.from_bytes(settings[SETTING])
        key_id = default.key_id and f"<KMSMasterKeyID>{escape(default.key_id)}</KMSMasterKeyID>"
        shared = "true" if default.bucket_key else "false"
        content = (
            "<ApplyServerSideEncryptionByDefault>"
            f"<SSEAlgorithm>{default.algorithm}</SSEAlgorithm>{key_id}"
            "</ApplyServerSideEncryptionByDefault>"
            f"<BucketKeyEnabled>{shared}</BucketKeyEnabled>"
        )
    if BLOCKED in settings:
        content += (
            f"<BlockedEncryptionTypes><EncryptionType>{SSE_C}</EncryptionType>"
            "</BlockedEncryptionTypes>"
        )
    if not content:
        raise Refused(
            "ServerSideEncryptionConfigurationNotFoundError",
            "The server side encryption configuration was not found",
        )
    return Response(200, (CONTENT_TYPE,), document(_ROOT, f"<Rule>{content}</Rule>"))


async def delete_encryption(call: Call) -> Response:
    """
    Leave the encryption of new objects to the server.
    """
    await replace_settings(call, _Encryption(None, False).settings())
    return Response(204)


async def check_encryption(call: Call, wanted: EncryptionRequest | None) -> None:
    """
    See that a new object may be encrypted as it is to be: that the bucket accepts it, and the
    client may use the master key.

    The store asks the bucket again, whoever writes; here it spares the upload.

    :raises Refused: ``AccessDenied``, and what else :func:`encryption_for` raises.
    """
    front = call.front
    chosen = encryption_for(wanted, call.settings, front.auto_encryption, front.default_key)
    if chosen is not None and chosen.algorithm in KMS_ALGORITHMS:
        await call.require_key("kms:GenerateDataKey", chosen.key_id)


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
        await check_exists(call)
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
        await check_exists(call)
        raise Refused(code, message)

    return refuse


async def delete_absent(call: Call) -> Response:
    """
    Remove a configuration that cannot be there.
    """
    await check_exists(call)
    return Response(204)


async def check_exists(call: Call) -> None:
    """
    See that there is what a request is about.

    :raises KypelloError: There is not.
    """
    if not call.key:
        await call.front.store.bucket(call.bucket)
        return
    version_id = await call.check(partial(read_version, call.head))
    # It may be stored with a key that this request need not bring.
    with suppress(Refused):
        await call.front.store.head(call.bucket, call.key, None, version_id)


def _read_encryption(body: bytes) -> _Encryption:
    rules = list(children(read_document(body, _ROOT), frozenset({"Rule"})))
    if len(rules) != 1:
        raise malformed("only one server-side encryption rule is allowed at a time")
    parts: dict[str, Element] = {}
    for part in children(rules[0], _RULE):
        if part.tag in parts:
            raise malformed(f"{part.tag} twice")
        parts[part.tag] = part
    shared = _read_bucket_key(parts.get("BucketKeyEnabled"))
    blocked, default = (
        parts.get(name) for name in ("BlockedEncryptionTypes", "ApplyServerSideEncryptionByDefault")
    )
    if default is None and (blocked is None or len(parts) > 1):
        raise malformed("ApplyServerSideEncryptionByDefault is missing")
    blocks = blocked is not None and _read_blocked(blocked)
    return _Encryption(None if default is None else _read_default(default, shared), blocks)


def _read_default(element: Element, shared: bool) -> ServerSideEncryption:
    texts = child_texts(element, _DEFAULT)
    algorithm, key_id = texts.get("SSEAlgorithm", ""), texts.get("KMSMasterKeyID")
    match algorithm:
        case "AES256":
            if key_id is not None:
                raise malformed("MasterKeyID is allowed with aws:kms and aws:kms:dsse only")
            return ServerSideEncryption("AES256", bucket_key=shared)
        case "aws:kms" | "aws:kms:dsse":
            return ServerSideEncryption(algorithm, _checked_key_id(key_id or ""), shared)
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
    Whether objects share data keys; with AES256, and in two layers, it changes nothing and is told
    again.
    """
    if element is None:
        return False
    if len(element) or element.text not in ("true", "false"):
        raise malformed("BucketKeyEnabled")
    return element.text == "true"


def _read_blocked(element: Element) -> bool:
    """
    Whether keys of clients are blocked.
    """
    kinds = [kind.text for kind in children(element, frozenset({"EncryptionType"}))]
    if not kinds or not {SSE_C, "NONE"}.issuperset(kinds) or len(set(kinds)) < len(kinds):
        raise malformed("EncryptionType")
    if len(kinds) > 1:
        raise malformed("NONE excludes other encryption types")
    return SSE_C in kinds
