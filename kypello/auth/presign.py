# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
AWS Signature Version 4 in the query: presigned URLs.

Source: "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" of the
Amazon S3 API reference.
"""

import re
from collections import Counter

from attrs import evolve

from kypello.auth.dates import parse_timestamp, server_time
from kypello.auth.mode import UNSIGNED_PAYLOAD
from kypello.auth.request import RequestHead, as_header
from kypello.auth.sigv4 import (
    ALGORITHM,
    MAX_SKEW,
    Claim,
    check_signed_headers,
    parse_credential,
)
from kypello.errors import Refused

#: The longest life of a presigned URL, in seconds: a week.
MAX_EXPIRES = 604800

_REQUIRED = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)
#: Parameters that belong to the signature and are no settings, in lower case.
_OF_SIGNATURE = frozenset(
    {name.lower() for name in _REQUIRED} | {"x-amz-security-token", "x-amz-content-sha256"}
)
_NUMBER = re.compile(r"-?[0-9]{1,18}")


def read_query(head: RequestHead, region: str | None, now: float) -> Claim:
    """
    Read the signature out of the query and check all that needs no secret key.

    :param region: The only region accepted; ``None`` accepts all.
    :param now: Seconds since the epoch.

    :raises Refused: ``AuthorizationQueryParametersError``, ``AccessDenied`` or
        ``SignatureDoesNotMatch``.
    """
    _refuse_repeated(head)
    given = {name: value for name, value in head.query if name in _REQUIRED}
    if len(given) != len(_REQUIRED) or not all(given.values()):
        raise _wrong(
            "Query-string authentication version 4 requires the X-Amz-Algorithm,"
            " X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and"
            " X-Amz-Expires parameters."
        )
    if given["X-Amz-Algorithm"] != ALGORITHM:
        raise _wrong(f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    access_key, scope = parse_credential(given["X-Amz-Credential"], region, _wrong_credential)
    timestamp = given["X-Amz-Date"]
    moment = parse_timestamp(timestamp)
    if moment is None:
        raise _wrong(
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
        )
    if timestamp[:8] != scope.date:
        raise _wrong("Invalid credential date. Date is not the same as X-Amz-Date.")
    _check_life(moment, given["X-Amz-Expires"], now)
    claim = Claim(
        access_key,
        scope,
        timestamp,
        tuple(given["X-Amz-SignedHeaders"].split(";")),
        given["X-Amz-Signature"],
    )
    check_signed_headers(claim, head)
    return claim


def payload_hash(head: RequestHead) -> str:
    """
    What a presigned request says about its body: a signed header, a parameter, or nothing.
    """
    return (
        head.header("x-amz-content-sha256")
        or head.parameter("X-Amz-Content-Sha256")
        or UNSIGNED_PAYLOAD
    )


def merge_settings(head: RequestHead) -> RequestHead:
    """
    Give settings that stand in the signed query their places as headers.

    SDKs put ``x-amz-acl``, ``x-amz-tagging``, ``x-amz-meta-...`` there.  A header of the same
    name wins.  Checksums of a PUT are left out: SDKs that sign before they know the body put
    the checksum of nothing there.

    :raises Refused: ``InvalidArgument`` for what cannot be a header.
    """
    merged = []
    for parameter, value in head.query:
        name = parameter.lower()
        if (
            not name.startswith("x-amz-")
            or name in _OF_SIGNATURE
            or name in head.header_names
            or (head.method == "PUT" and _is_checksum(name))
        ):
            continue
        merged.append(as_header(parameter, value))
    return evolve(head, headers=(*head.headers, *merged)) if merged else head


def _is_checksum(name: str) -> bool:
    return name == "x-amz-sdk-checksum-algorithm" or (
        name.startswith("x-amz-checksum-") and name != "x-amz-checksum-mode"
    )


def _refuse_repeated(head: RequestHead) -> None:
    counts = Counter(name.lower() for name, _value in head.query)
    for name, count in counts.items():
        if count > 1 and name.startswith("x-amz-"):
            raise _wrong(f"The query parameter {name} may be given only once.")


def _check_life(moment: float, expires: str, now: float) -> None:
    if not _NUMBER.fullmatch(expires):
        raise _wrong("X-Amz-Expires should be a number")
    life = int(expires)
    if life < 0:
        raise _wrong("X-Amz-Expires must be non-negative")
    if life > MAX_EXPIRES:
        raise _wrong(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given"
            f" X-Amz-Expires must be less than {MAX_EXPIRES} seconds"
        )
    if now < moment - MAX_SKEW:
        raise Refused("AccessDenied", "Request is not valid yet")
    if now >= moment + life:
        raise Refused(
            "AccessDenied",
            "Request has expired",
            {
                "X-Amz-Expires": expires,
                "Expires": server_time(moment + life),
                "ServerTime": server_time(now),
            },
        )


def _wrong(message: str) -> Refused:
    return Refused("AuthorizationQueryParametersError", message)


def _wrong_credential(detail: str, fields: dict[str, str]) -> Refused:
    return Refused(
        "AuthorizationQueryParametersError",
        f"Error parsing the X-Amz-Credential parameter; {detail}",
        fields,
    )
