# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The headers of server-side encryption.

A write may ask for AES256, aws:kms and aws:kms:dsse, which name keys of the KMS, or bring a key of
its own (SSE-C).  A read, a part and the completion of an upload bring a key or nothing; a copy
brings one for its source beside what it asks for its target.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import md5
from hmac import compare_digest
from ipaddress import ip_address

import msgspec

from kypello.auth.request import RequestHead
from kypello.crypto.checksums import decode
from kypello.crypto.keys import context_bytes
from kypello.crypto.sse import master_key_name
from kypello.errors import Refused
from kypello.model import KMS_ALGORITHMS, SSE_C, CustomerKey, EncryptionRequest, Sealing
from kypello.s3.errors import invalid_argument

SSE = "x-amz-server-side-encryption"
_KEY_ID, _CONTEXT, _BUCKET_KEY = (
    f"{SSE}-{name}" for name in ("aws-kms-key-id", "context", "bucket-key-enabled")
)
_KMS = frozenset({_KEY_ID, _CONTEXT})
_CUSTOMER = f"{SSE}-customer-"
_SOURCE = "x-amz-copy-source-server-side-encryption-customer-"
_KEY_PARTS = ("algorithm", "key", "key-md5")
_KEY_SIZE = 32
_COMMON = "server-side-encryption"


def read_write_encryption(
    head: RequestHead, *, loopback: bool = False, copying: bool = False
) -> EncryptionRequest | None:
    """
    The encryption that a write asks for; ``None`` when it leaves that to the defaults.

    :param loopback: Take keys over plain HTTP from clients on this machine.
    :param copying: There may be a key for a source too; it is not read here.
    :raises Refused: ``InvalidRequest``, ``InvalidArgument`` or
        ``InvalidEncryptionAlgorithmError``.
    """
    present = _present(head, loopback)
    if not present:
        return None
    algorithm = head.header(SSE)
    if algorithm not in (None, "AES256") and algorithm not in KMS_ALGORITHMS:
        raise _unsupported(algorithm)
    customer = any(name.startswith(_CUSTOMER) for name in present)
    kms = present & _KMS
    if customer and (algorithm is not None or kms):
        raise invalid_argument(
            SSE,
            algorithm or "",
            "Server Side Encryption with Customer provided key is incompatible with the"
            " encryption method specified",
        )
    if kms and algorithm in (None, "AES256"):
        raise invalid_argument(
            min(kms), "", f"The header {min(kms)} requires HTTP header {SSE} : aws:kms"
        )
    if not copying and any(name.startswith(_SOURCE) for name in present):
        raise _not_applicable()
    if customer:
        return EncryptionRequest(SSE_C, customer_key=_read_key(head, _CUSTOMER))
    match algorithm:
        case None:
            return None
        case "AES256":
            return EncryptionRequest("AES256")
    return _read_kms(head, algorithm)


def read_customer_key(head: RequestHead, *, loopback: bool = False) -> CustomerKey | None:
    """
    The key that a read brings along; how it is used is stored.

    :param loopback: As in :func:`read_write_encryption`.
    :raises Refused: As there; also when the request asks for an encryption.
    """
    present = _present(head, loopback)
    if not present:
        return None
    asking = present & {SSE, *_KMS, _BUCKET_KEY}
    if asking:
        name = min(asking)
        raise invalid_argument(
            name, head.header(name) or "", f"{name} header is not supported for this operation."
        )
    if any(name.startswith(_SOURCE) for name in present):
        raise _not_applicable()
    return _read_key(head, _CUSTOMER)


def read_part_key(
    head: RequestHead,
    sealing: Sealing | None,
    *,
    loopback: bool = False,
    copying: bool = False,
) -> CustomerKey | None:
    """
    The key that a part brings along.  Its upload has decided about encryption: to repeat that
    is legal, to ask for something else is not.

    :param sealing: Of the upload.
    :param loopback: As in :func:`read_write_encryption`.
    :param copying: Likewise.
    :raises Refused: As there.
    """
    asked = read_write_encryption(head, loopback=loopback, copying=copying)
    check_repeated(asked, sealing)
    return None if asked is None else asked.customer_key


def check_repeated(asked: EncryptionRequest | None, sealing: Sealing | None) -> None:
    """
    See that a part, or the end of an upload, asks for no other encryption than its upload did;
    some clients repeat that.  Keys of clients are compared where they are used.

    :param sealing: Of the upload.
    :raises Refused: It asks for another one.
    """
    if asked is None or asked.algorithm == SSE_C:
        return
    if sealing is None or asked.algorithm != sealing.algorithm:
        raise invalid_argument(
            SSE, asked.algorithm, f"{SSE} header is not supported for this operation."
        )
    # Policies believe the headers, so they must be true.
    if asked.key_id and master_key_name(asked.key_id) != master_key_name(sealing.key_id):
        raise invalid_argument(
            _KEY_ID, asked.key_id, "The multipart upload began with another master key."
        )


def read_source_key(head: RequestHead) -> CustomerKey | None:
    """
    The key for the source of a copy, after :func:`read_write_encryption`.

    :raises Refused: As there.
    """
    return _read_key(head, _SOURCE)


def sealing_headers(
    sealing: Sealing | None, *, context: bool = False, key: CustomerKey | None = None
) -> Sequence[tuple[str, str]]:
    """
    How an object is encrypted, for the answers to writes and reads.

    :param context: Also what the client has bound the key to.
    :param key: The one that the request brought, where the sealing does not tell it.
    """
    if sealing is None:
        return ()
    if sealing.algorithm == SSE_C:
        digest = sealing.customer_md5 or (key.md5 if key is not None else "")
        headers = [(f"{_CUSTOMER}algorithm", "AES256")]
        return [*headers, (f"{_CUSTOMER}key-MD5", digest)] if digest else headers
    headers = [(SSE, sealing.algorithm)]
    if sealing.algorithm in KMS_ALGORITHMS:
        headers.append((_KEY_ID, sealing.key_id))
        if context and sealing.context:
            encoded = b64encode(context_bytes(sealing.context)).decode("ascii")
            headers.append((_CONTEXT, encoded))
        if sealing.bucket_key:
            headers.append((_BUCKET_KEY, "true"))
    return headers


def is_opaque(encryption: EncryptionRequest | Sealing | None) -> bool:
    """
    Whether what is encrypted so has an entity tag that is no digest of its content.
    """
    return encryption is not None and encryption.algorithm != "AES256"


def _present(head: RequestHead, loopback: bool) -> set[str]:
    present = {name for name in head.header_names if _COMMON in name}
    if any(name.startswith((_CUSTOMER, _SOURCE)) for name in present) and not (
        head.secure or (loopback and _is_loopback(head.peer))
    ):
        raise Refused(
            "InvalidRequest",
            "Requests specifying Server Side Encryption with Customer provided keys must be made"
            " over a secure connection.",
        )
    return present


def _is_loopback(peer: str) -> bool:
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return False


def _read_key(head: RequestHead, prefix: str) -> CustomerKey | None:
    """
    Read the three headers of a key; no refusal shows what they hold.
    """
    algorithm, key, digest = (head.header(prefix + name) for name in _KEY_PARTS)
    if algorithm is None and key is None and digest is None:
        return None
    if algorithm is None:
        raise _bad_key("must provide a valid encryption algorithm.")
    if algorithm != "AES256":
        raise Refused(
            "InvalidEncryptionAlgorithmError",
            "The encryption request you specified is not valid. The valid value is AES256.",
            {"ArgumentName": f"{prefix}algorithm", "ArgumentValue": algorithm},
        )
    if not key:
        raise _bad_key("must provide an appropriate secret key.")
    if not digest:
        raise _bad_key("must provide the client calculated MD5 of the secret key.")
    secret = decode(key, _KEY_SIZE)
    if secret is None:
        raise Refused("InvalidArgument", "The secret key was invalid for the specified algorithm.")
    expected = b64encode(md5(secret, usedforsecurity=False).digest())
    if not compare_digest(expected, digest.encode("latin-1")):
        raise Refused(
            "InvalidArgument",
            "The calculated MD5 hash of the key did not match the hash that was provided.",
        )
    return CustomerKey(secret, digest)


def _read_kms(head: RequestHead, algorithm: str) -> EncryptionRequest:
    """
    Read what belongs to a master key.  That two layers shall share data keys is legal and changes
    nothing, as in AWS.
    """
    key_id = head.header(_KEY_ID) or ""
    if key_id:
        master_key_name(key_id)
    stated = head.header(_CONTEXT)
    context = {} if stated is None else _read_context(stated)
    shared = head.header(_BUCKET_KEY)
    if shared not in (None, "true", "false"):
        raise invalid_argument(_BUCKET_KEY, shared, "The value must be true or false")
    return EncryptionRequest(
        algorithm, key_id, context, None if shared is None else shared == "true"
    )


def _read_context(stated: str) -> Mapping[str, str]:
    try:
        return msgspec.json.decode(b64decode(stated, validate=True), type=dict[str, str])
    except ValueError:
        raise invalid_argument(
            _CONTEXT, stated, f"{_CONTEXT} must be a JSON object of texts, in base64"
        ) from None


def _unsupported(algorithm: str) -> Refused:
    return invalid_argument(SSE, algorithm, "The encryption method specified is not supported")


def _bad_key(message: str) -> Refused:
    return Refused(
        "InvalidArgument",
        f"Requests specifying Server Side Encryption with Customer provided keys {message}",
    )


def _not_applicable() -> Refused:
    return Refused("InvalidRequest", "The encryption parameters are not applicable to this object.")
