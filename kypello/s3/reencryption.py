# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Other keys for objects as they are: UpdateObjectEncryption, and the exchange of a client's key.

No content is read or written, and nothing changes but the encryption that clients are told.
"""

from collections.abc import Callable
from functools import partial
from xml.etree.ElementTree import Element

from attrs import evolve, frozen

from kypello.auth.sigv4 import ALGORITHM
from kypello.crypto.sse import master_key_name
from kypello.errors import KMSNotConfigured, Refused
from kypello.http.response import Response
from kypello.interfaces import Condition, IRewrapping
from kypello.model import SSE_C, CustomerKey, EncryptionRequest, ObjectInfo, Sealing
from kypello.objectlock import is_protected
from kypello.s3.call import Call
from kypello.s3.versions import read_version
from kypello.s3.xml import malformed, read_document

_KMS, _S3 = "SSE-KMS", "SSE-S3"

#: How often it is tried when others change the encryption of the same object.
_ATTEMPTS = 16
_KMS_PARTS = frozenset({"KMSKeyArn", "BucketKeyEnabled"})


@frozen
class _Wanted:
    """
    What an object is to be encrypted with.

    :ivar key_id: As the client named the master key; empty for SSE-S3.
    """

    algorithm: str
    key_id: str = ""
    bucket_key: bool = True

    def request(self, before: Sealing) -> EncryptionRequest:
        """
        The encryption that an object gets; what its client has bound it to stays.
        """
        context = before.context if self.algorithm == "aws:kms" else {}
        return EncryptionRequest(self.algorithm, self.key_id, context, self.bucket_key)


async def update_object_encryption(call: Call) -> Response:
    """
    Seal the key of a version under another master key.
    """
    version_id = await call.check(partial(read_version, call.head))
    keys = rewrapping(call)
    if call.authenticated.signature != ALGORITHM:
        raise _invalid(
            "Requests that modify an object encryption configuration require Signature Version 4."
        )
    wanted = _read_wanted(await call.read_document(covered=True))
    # What a bucket demands of new objects, it demands of these.
    await call.require("s3:PutObject", encryption=Sealing(wanted.algorithm, wanted.key_id))
    for _ in range(_ATTEMPTS):
        # What a change sees can be told without the key of a client.
        before = await call.front.store.change_version(
            call.bucket, call.key, version_id, lambda info: info.metadata
        )
        sealing = _changeable(before)
        await call.require_decryption(sealing)
        if wanted.algorithm == "aws:kms":
            await call.require_key("kms:GenerateDataKey", wanted.key_id)
        choose = _Choice(before, wanted.request(sealing), call.now)
        try:
            await keys.rewrap(call.bucket, call.key, before.version_id, choose)
        except _OvertakenError:
            continue
        return Response(200)
    raise _aborted()


class _OvertakenError(Exception):
    """
    Another request has changed the encryption of an object, and nothing else.
    """


@frozen
class _Choice:
    """
    Chooses the encryption of an object as long as it is the one that the client may change.

    :ivar _before: The object as rights to it were asked for.
    :ivar _now: Nanoseconds since the epoch.
    """

    _before: ObjectInfo
    _wanted: EncryptionRequest
    _now: Callable[[], int]

    def __call__(self, info: ObjectInfo) -> EncryptionRequest:
        """
        Choose.

        :raises Refused: ``AccessDenied``: it is protected; ``OperationAborted``: it is another
            object by now.
        :raises _OvertakenError: It has another encryption by now: it may take other rights.
        """
        before = self._before
        if is_protected(info.metadata.lock, self._now()):
            raise Refused(
                "AccessDenied",
                "The encryption type for the specified object can't be updated because that object"
                " is protected by S3 Object Lock.",
            )
        if (info.etag, info.modified) != (before.etag, before.modified):
            raise _aborted()
        if info.metadata.sealing != before.metadata.sealing:
            raise _OvertakenError
        return self._wanted


async def exchange_key(
    call: Call, info: ObjectInfo, old: CustomerKey, new: CustomerKey, condition: Condition | None
) -> ObjectInfo:
    """
    Seal the key of an object, which its client has the key of, under another key of the client.

    :param info: The object as it was opened with the old key.
    :param condition: Of the write that this stands for.
    :return: The object as the new key opens it.
    :raises KypelloError: Whatever *condition* raises.
    :raises Refused: ``OperationAborted``: it is another object by now.
    """
    wanted = EncryptionRequest(SSE_C, customer_key=new)

    def choose(current: ObjectInfo) -> EncryptionRequest:
        """
        See that it is the object still, and may be written.
        """
        if condition is not None:
            condition(current)
        if (current.etag, current.modified) != (info.etag, info.modified):
            raise _aborted()
        return wanted

    await rewrapping(call).rewrap(call.bucket, call.key, "", choose, old)
    return evolve(
        info, metadata=evolve(info.metadata, sealing=Sealing(SSE_C, customer_md5=new.md5))
    )


def rewrapping(call: Call) -> IRewrapping:
    """
    What seals keys anew.

    :raises KMSNotConfigured:
    """
    keys = call.front.rewrapping
    if keys is None:
        raise KMSNotConfigured()
    return keys


def _changeable(info: ObjectInfo) -> Sealing:
    """
    How an object is encrypted whose encryption can be changed.

    :raises Refused: ``InvalidRequest``.
    """
    sealing = info.metadata.sealing
    if sealing is None:
        raise _unsupported("unencrypted source objects")
    if sealing.algorithm == SSE_C:
        raise _unsupported("source objects with the encryption type SSE-C")
    return sealing


def _read_wanted(body: bytes) -> _Wanted:
    root = read_document(body, "ObjectEncryption")
    if len(root) != 1 or (root.text or "").strip() or (root[0].tail or "").strip():
        raise _no_type()
    (element,) = root
    match element.tag:
        case "SSE-KMS":
            return _read_kms(element)
        case "SSE-S3":
            if len(element) or (element.text or "").strip():
                raise malformed()
            return _Wanted("AES256")
    raise _no_type()


def _read_kms(element: Element) -> _Wanted:
    texts: dict[str, str] = {}
    for child in element:
        if child.tag not in _KMS_PARTS or child.tag in texts or len(child):
            raise malformed()
        texts[child.tag] = child.text or ""
    key_id, shared = texts.get("KMSKeyArn", ""), texts.get("BucketKeyEnabled", "false")
    if not key_id:
        raise _invalid(
            "Requests that modify an object's encryption type to SSE-KMS require a KMS key Amazon"
            " Resource Name (ARN). Modify the request to specify a KMS key ARN, and then try again."
        )
    try:
        master_key_name(key_id)
        key_id.encode("ascii")
    except (Refused, UnicodeEncodeError):
        raise _invalid(
            "Requests that modify an object's encryption type to SSE-KMS require a valid KMS key"
            " Amazon Resource Name (ARN). Confirm that you have a correctly formatted KMS key ARN"
            " in your request, and then try again."
        ) from None
    if shared not in ("true", "false"):
        raise _invalid(
            "The BucketKeyEnabled value isn't valid. Valid values are true or false. Modify the"
            " request to specify a valid value, and then try again."
        )
    return _Wanted("aws:kms", key_id, shared == "true")


def _aborted() -> Refused:
    return Refused(
        "OperationAborted",
        "A conflicting conditional operation is currently in progress against this resource."
        " Please try again.",
    )


def _no_type() -> Refused:
    return _invalid(
        "Requests that modify an object encryption configuration require a valid new encryption"
        f" type. Valid values are {_KMS} and {_S3}."
    )


def _unsupported(what: str) -> Refused:
    return _invalid(
        f"The UpdateObjectEncryption operation doesn't support {what}. Only source objects"
        " encrypted with SSE-S3 or SSE-KMS are supported."
    )


def _invalid(message: str) -> Refused:
    return Refused("InvalidRequest", message)
