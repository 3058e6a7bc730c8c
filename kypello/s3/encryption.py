# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The headers of server-side encryption.
"""

from collections.abc import Sequence

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.model import EncryptionRequest, Sealing
from kypello.s3.errors import invalid_argument, not_implemented

SSE = "x-amz-server-side-encryption"
_KMS = (f"{SSE}-aws-kms-key-id", f"{SSE}-context")
_CUSTOMER = tuple(f"{SSE}-customer-{name}" for name in ("algorithm", "key", "key-md5"))
_COPY_CUSTOMER = tuple(
    f"x-amz-copy-source-server-side-encryption-customer-{name}"
    for name in ("algorithm", "key", "key-md5")
)
_ALGORITHMS = ("AES256", "aws:kms", "aws:kms:dsse")
_COMMON = "server-side-encryption"


def read_write_encryption(head: RequestHead) -> EncryptionRequest | None:
    """
    The encryption that a write asks for; ``None`` when it leaves that to the defaults.

    :raises Refused: ``InvalidRequest``, ``InvalidArgument``, or ``NotImplemented`` for what is
        not offered.
    """
    present = {name for name, _value in head.headers if _COMMON in name}
    if not present:
        return None
    _check_secure(head, present)
    algorithm = head.header(SSE)
    if algorithm is not None and algorithm not in _ALGORITHMS:
        raise invalid_argument(SSE, algorithm, "The encryption method specified is not supported")
    customer, kms = present.intersection(_CUSTOMER), present.intersection(_KMS)
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
    if present.intersection(_COPY_CUSTOMER):
        raise _not_applicable()
    if customer:
        raise not_implemented(min(customer))
    if algorithm in (None, "AES256"):
        return None if algorithm is None else EncryptionRequest("AES256")
    raise not_implemented(f"{SSE}: {algorithm}")


def check_read_encryption(head: RequestHead) -> None:
    """
    See that a read asks for no encryption: what is stored decides.

    :raises Refused: ``InvalidArgument`` or ``InvalidRequest``.
    """
    present = {name for name, _value in head.headers if _COMMON in name}
    if not present:
        return
    _check_secure(head, present)
    if not present.isdisjoint((SSE, *_KMS)):
        name = min(present.intersection((SSE, *_KMS)))
        raise invalid_argument(
            name, head.header(name) or "", f"{name} header is not supported for this operation."
        )
    if not present.isdisjoint((*_CUSTOMER, *_COPY_CUSTOMER)):
        raise _not_applicable()


def sealing_headers(sealing: Sealing | None) -> Sequence[tuple[str, str]]:
    """
    How an object is encrypted, for the answers to writes and reads.
    """
    return () if sealing is None else ((SSE, sealing.algorithm),)


def _check_secure(head: RequestHead, present: set[str]) -> None:
    if not head.secure and not present.isdisjoint((*_CUSTOMER, *_COPY_CUSTOMER)):
        raise Refused(
            "InvalidRequest",
            "Requests specifying Server Side Encryption with Customer provided keys must be made"
            " over a secure connection.",
        )


def _not_applicable() -> Refused:
    return Refused("InvalidRequest", "The encryption parameters are not applicable to this object.")
