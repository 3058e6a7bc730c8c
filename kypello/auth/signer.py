# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Sign requests of our own with AWS Signature Version 4.
"""

from attrs import field, frozen

from kypello.auth import sigv4
from kypello.auth.request import RequestHead


@frozen
class Keys:
    """
    Who signs.

    :ivar token: Of temporary credentials; empty for others.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


def authorization(
    head: RequestHead, keys: Keys, scope: sigv4.Scope, timestamp: str, payload_hash: str
) -> str:
    """
    The value of the header ``Authorization`` that signs all headers of a request.

    :param head: With the headers ``host``, ``x-amz-date`` and, for who has a token,
        ``x-amz-security-token``.
    :param timestamp: ``YYYYMMDDTHHMMSSZ``, as in ``x-amz-date``.
    :param payload_hash: SHA-256 of the body, in hex.
    """
    names = tuple(sorted(head.header_names))
    canonical = sigv4.canonical_request(head, names, payload_hash, head.header("host") or "")
    signature = sigv4.sign(
        sigv4.signing_key(keys.secret_key, scope),
        sigv4.string_to_sign(timestamp, scope.text, canonical),
    )
    return (
        f"{sigv4.ALGORITHM} Credential={keys.access_key}/{scope},"
        f" SignedHeaders={';'.join(names)}, Signature={signature}"
    )
