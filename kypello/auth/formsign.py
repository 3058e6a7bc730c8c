# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Signatures of forms, of version 4 and 2: they cover the policy, and that says what may be in the
form.

Source: "Authenticating Requests: Browser-Based Uploads Using POST (AWS Signature Version 4)" of
the Amazon S3 API reference, and "Browser-Based Uploads Using POST (AWS Signature Version 2)" of
its developer guide.
"""

from base64 import b64encode
from collections.abc import Mapping
from hmac import digest

from attrs import field, frozen

from kypello.auth.dates import parse_timestamp
from kypello.auth.sigv4 import (
    ALGORITHM,
    Scope,
    mismatch,
    parse_credential,
    same_signature,
    sign,
    signing_key,
)
from kypello.errors import Refused

_VERSION_4 = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
_VERSION_2 = ("AWSAccessKeyId", "signature")


@frozen
class Claim:
    """
    Who a form says its policy is from, and the signature to prove it.

    :ivar scope: ``None`` for version 2.
    :ivar policy: As sent.
    """

    access_key: str
    scope: Scope | None
    policy: str
    signature: str = field(repr=False)


def read_fields(fields: Mapping[str, str], region: str | None) -> Claim | None:
    """
    Read the signature out of the fields of a form and check all that needs no secret key.

    :param fields: By lower-case name.
    :param region: The only region accepted; ``None`` accepts all.
    :return: ``None`` for a form without policy and signature.
    :raises Refused: ``InvalidArgument``.
    """
    version_4 = any(name in fields for name in _VERSION_4)
    version_2 = any(name.lower() in fields for name in _VERSION_2)
    if not (version_4 or version_2 or "policy" in fields):
        return None
    if version_4 and version_2:
        raise _wrong("Only one auth mechanism allowed; a form is signed with one version")
    for name in ("policy", *(_VERSION_2 if version_2 else _VERSION_4)):
        if not fields.get(name.lower()):
            raise _wrong(
                f"Bucket POST must contain a field named '{name}'.  If it is specified, please"
                " check the order of the fields.",
            )
    policy = fields["policy"]
    if version_2:
        return Claim(fields["awsaccesskeyid"], None, policy, fields["signature"])
    if fields["x-amz-algorithm"] != ALGORITHM:
        raise _wrong(f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    access_key, scope = parse_credential(fields["x-amz-credential"], region, _wrong_credential)
    timestamp = fields["x-amz-date"]
    if parse_timestamp(timestamp) is None:
        raise _wrong("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    if timestamp[:8] != scope.date:
        raise _wrong("Invalid credential date. Date is not the same as X-Amz-Date.")
    return Claim(access_key, scope, policy, fields["x-amz-signature"])


def verify(claim: Claim, secret_key: str) -> None:
    """
    Check the signature of a policy.

    :raises Refused: ``SignatureDoesNotMatch``.
    """
    if claim.scope is None:
        made = digest(secret_key.encode(), claim.policy.encode(), "sha1")
        signature = b64encode(made).decode("ascii")
    else:
        signature = sign(signing_key(secret_key, claim.scope), claim.policy)
    if not same_signature(signature, claim.signature):
        raise mismatch(
            {
                "AWSAccessKeyId": claim.access_key,
                "StringToSign": claim.policy,
                "SignatureProvided": claim.signature,
                "StringToSignBytes": claim.policy.encode().hex(" "),
            }
        )


def _wrong(message: str) -> Refused:
    return Refused("InvalidArgument", message)


def _wrong_credential(detail: str, fields: dict[str, str]) -> Refused:
    return Refused(
        "InvalidArgument", f"Error parsing the X-Amz-Credential parameter; {detail}", fields
    )
