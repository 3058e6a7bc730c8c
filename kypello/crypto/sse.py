# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Server-side encryption as a value, and which one applies to a write.
"""

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from kypello.crypto.required import SETTING as REQUIRED
from kypello.crypto.required import check_required
from kypello.errors import Refused
from kypello.model import DSSE, SSE_C, EncryptionRequest
from kypello.setting import Setting

#: The values of ``x-amz-server-side-encryption`` that are served.
SSEAlgorithm: TypeAlias = Literal["AES256", "aws:kms", "aws:kms:dsse"]

#: The bucket setting that holds a default encryption.
SETTING = "encryption"

#: The bucket setting that is there when new content must not have keys of clients.
BLOCKED = "blocked-encryption"

# "arn:aws:kms:NAME", the form of MinIO; "arn:aws:kms:region:account:key/NAME"; "alias/NAME",
# or the plain name.  What no KMS takes for a name is not guessed at.
_KEY_ID = re.compile(
    r"(?:arn:aws[a-z-]*:kms:(?:[a-z0-9-]*:[0-9]*:(?:key|alias)/)?|alias/)?"
    r"(?P<name>(?!\.{1,2}\Z)[^\s/:\x00-\x20\x7f]+)"
)


class ServerSideEncryption(Setting, frozen=True, omit_defaults=True):
    """
    The default encryption of a bucket, with a key of the KMS.

    :ivar algorithm: ``AES256``: a key under the default master key.
    :ivar key_id: For the others: the master key, as the bucket's owner wrote it; empty for the
        default one.
    :ivar bucket_key: For ``aws:kms``: whether objects share data keys unless the client wants
        otherwise.  With ``AES256`` the server decides, and in two layers they never do.
    """

    subject = "default encryption"

    algorithm: SSEAlgorithm
    key_id: str = ""
    bucket_key: bool = False


def encryption_for(
    request: EncryptionRequest | None,
    settings: Mapping[str, bytes],
    auto: bool,
    default_key: str = "",
) -> EncryptionRequest | None:
    """
    Tell which encryption applies: what the client wants, else the bucket, else the server; and see
    that the bucket accepts it.

    In the answer ``bucket_key`` is decided: objects with ``AES256`` share data keys as far as
    the server lets them, and those in two layers never do, whatever is asked for.

    :param settings: Of the bucket: :data:`SETTING`, :data:`BLOCKED` and :data:`REQUIRED` count, if
        they are there.
    :param auto: Whether the server encrypts everything by itself.
    :param default_key: As in :func:`check_accepted`.
    :raises Refused: The client wants an encryption that is not served, or gave no key to it; or the
        bucket blocks it, or requires another one (``AccessDenied``).
    :raises Damaged: A bucket setting is needed and unreadable; nothing is written in clear
        then.
    """
    wanted = _chosen(request, settings, auto)
    check_accepted(wanted, settings, default_key)
    return wanted


def check_accepted(
    wanted: EncryptionRequest | None, settings: Mapping[str, bytes], default_key: str
) -> None:
    """
    See that a bucket accepts an encryption that is chosen.

    :param default_key: The master key that is used when none is named; empty when there is none.
    :raises Refused: The bucket requires another one (``AccessDenied``).
    :raises Damaged: What it requires is unreadable.
    """
    if REQUIRED not in settings:
        return
    algorithm, key_name = "", ""
    if wanted is not None:
        algorithm = wanted.algorithm
        key_name = master_key_name(wanted.key_id) if wanted.key_id else default_key
    check_required(settings, algorithm, key_name)


def _chosen(
    request: EncryptionRequest | None, settings: Mapping[str, bytes], auto: bool
) -> EncryptionRequest | None:
    bucket = settings.get(SETTING)
    if request is not None:
        if request.algorithm == SSE_C:
            check_blocked(settings)
        return _requested(request, bucket)
    if bucket is not None:
        default = ServerSideEncryption.from_bytes(bucket)
        if default.algorithm == "aws:kms":
            return EncryptionRequest("aws:kms", default.key_id, {}, default.bucket_key)
        if default.algorithm == DSSE:
            return EncryptionRequest(DSSE, default.key_id, {}, bucket_key=False)
        return EncryptionRequest("AES256", bucket_key=True)
    return EncryptionRequest("AES256", bucket_key=True) if auto else None


def check_blocked(settings: Mapping[str, bytes]) -> None:
    """
    See that a bucket takes content with keys of clients.

    :raises Refused: ``AccessDenied``.
    """
    if BLOCKED in settings:
        raise Refused("AccessDenied", "Access Denied.")


def _requested(request: EncryptionRequest, bucket: bytes | None) -> EncryptionRequest:
    match request.algorithm:
        case "AES256":
            return EncryptionRequest("AES256", bucket_key=True)
        case "aws:kms":
            shared = request.bucket_key
            if shared is None:
                shared = bucket is not None and ServerSideEncryption.from_bytes(bucket).bucket_key
            return EncryptionRequest("aws:kms", request.key_id, request.context, shared)
        case algorithm if algorithm == DSSE:
            return EncryptionRequest(DSSE, request.key_id, request.context, bucket_key=False)
        case algorithm if algorithm == SSE_C:
            if request.customer_key is None:
                raise no_customer_key()
            return EncryptionRequest(SSE_C, customer_key=request.customer_key)
    raise Refused("InvalidArgument", "The encryption method specified is not supported")


def master_key_name(key_id: str) -> str:
    """
    The name by which the KMS knows a master key that a client named in any of its forms.

    These are the name itself, ``alias/NAME``, ``arn:aws:kms:NAME``, and the full form
    ``arn:aws:kms:REGION:ACCOUNT:key/NAME`` (or ``alias/NAME`` at its end).

    :raises Refused: It is none of these.
    """
    found = _KEY_ID.fullmatch(key_id)
    if found is None:
        raise Refused("InvalidRequest", "The specified KMS KeyID contains unsupported characters")
    return found["name"]


def key_spellings(key_id: str) -> tuple[str, ...]:
    """
    A master key as a client has named it, and in the other forms in which a policy may name it:
    who denies a key denies it in each.
    """
    try:
        name = master_key_name(key_id)
    except Refused:
        return (key_id,)
    return tuple(dict.fromkeys((key_id, name, f"arn:aws:kms:{name}")))


def no_customer_key() -> Refused:
    """
    The refusal of what needs the key of a client and came without.
    """
    return Refused(
        "InvalidArgument",
        "Requests specifying Server Side Encryption with Customer provided keys must provide an"
        " appropriate secret key.",
    )
