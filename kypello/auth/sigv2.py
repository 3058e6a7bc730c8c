# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
AWS Signature Version 2 in the query: the URLs that the AWS tools presign by default for servers
other than AWS.

It covers neither the body nor most of the query.  What of the query it does not cover counts
only where that changes which part of a listing is shown, never what is done.

Source: "Authenticating Requests (AWS Signature Version 2)" of the Amazon S3 developer guide.
"""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from hmac import digest

from attrs import evolve, field, frozen

from kypello.auth.dates import server_time
from kypello.auth.request import RequestHead, as_header
from kypello.auth.sigv4 import SECRET, mismatch, same_signature
from kypello.errors import Refused

_REQUIRED = ("AWSAccessKeyId", "Signature", "Expires")

#: Parameters that are signed.
_SUBRESOURCES = frozenset(
    (
        "accelerate", "acl", "analytics", "cors", "delete", "inventory", "lifecycle", "location",
        "logging", "metrics", "notification", "object-lock", "partNumber", "policy",
        "replication", "requestPayment", "response-cache-control",
        "response-content-disposition", "response-content-encoding",
        "response-content-language", "response-content-type", "response-expires", "restore",
        "select", "select-type", "tagging", "torrent", "uploadId", "uploads", "versionId",
        "versioning", "versions", "website",
    )
)  # fmt: skip

#: Parameters that count although they are not.
_OF_LISTINGS = frozenset(
    (
        "bucket-region", "continuation-token", "delimiter", "encoding-type", "fetch-owner",
        "key-marker", "list-type", "marker", "max-buckets", "max-keys", "max-parts",
        "max-uploads", "part-number-marker", "prefix", "start-after", "upload-id-marker",
        "version-id-marker",
    )
)  # fmt: skip

#: Headers without the AWS prefix that may stand in the query.
_HEADERS = ("content-md5", "content-type")
_AMZ = "x-amz-"
#: Headers of this prefix mean something, and this version does not sign them.
_UNSIGNED = "x-minio-"
_ADDED_BY_PROXIES = "x-amz-cf-id"
_SECONDS = re.compile("[0-9]{1,18}")


@frozen
class Claim:
    """
    Who a URL says it is from, and the signature to prove it.

    :ivar expires: As sent, in seconds since the epoch.
    """

    access_key: str
    expires: str
    signature: str = field(repr=False)


def read_query(head: RequestHead, now: float) -> Claim:
    """
    Read the signature out of the query and check all that needs no secret key.

    :param now: Seconds since the epoch.
    :raises Refused: ``AccessDenied``.
    """
    counts = Counter(name.lower() for name, _value in head.query)
    values = [head.parameter(name) or "" for name in _REQUIRED]
    if not all(values) or any(counts[name.lower()] > 1 for name in _REQUIRED):
        raise Refused(
            "AccessDenied",
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId"
            " parameters",
        )
    access_key, signature, expires = values
    if not _SECONDS.fullmatch(expires):
        raise Refused("AccessDenied", f"Invalid date (should be seconds since epoch): {expires}")
    if now > int(expires):
        raise Refused(
            "AccessDenied",
            "Request has expired",
            {"Expires": server_time(int(expires)), "ServerTime": server_time(now)},
        )
    return Claim(access_key, expires, signature)


def signed_part(head: RequestHead) -> RequestHead:
    """
    What of a request counts: headers in the query have their places as headers, one of the same
    name winning, and parameters and headers without a signature are gone.

    :raises Refused: ``InvalidArgument`` for what cannot be a header.
    """
    kept, merged = [], []
    for name, value in head.query:
        lower = name.lower()
        if lower.startswith(_AMZ) or lower in _HEADERS:
            if lower not in head.header_names:
                merged.append(as_header(name, value))
        elif name in _SUBRESOURCES or name in _OF_LISTINGS:
            kept.append((name, value))
    headers = (pair for pair in head.headers if not pair[0].startswith(_UNSIGNED))
    return evolve(head, query=tuple(kept), headers=(*headers, *merged))


def verify(claim: Claim, part: RequestHead, secret_key: str) -> None:
    """
    Check the signature of a request.

    :param part: What :func:`signed_part` gave.
    :raises Refused: ``SignatureDoesNotMatch``.
    """
    texts = [_string_to_sign(claim, part, path) for path in _paths(part)]
    for text in texts:
        signature = digest(secret_key.encode(), text, "sha1")
        if same_signature(b64encode(signature).decode("ascii"), claim.signature):
            return
    fields = {"AWSAccessKeyId": claim.access_key, "SignatureProvided": claim.signature}
    shown = texts[0].decode("latin-1")
    if not SECRET.search(shown):
        fields["StringToSign"] = shown
        fields["StringToSignBytes"] = texts[0].hex(" ")
    raise mismatch(fields)


def _paths(part: RequestHead) -> Iterator[str]:
    path = part.path
    if part.host_bucket:
        # The signature is over the path that would name the bucket.
        path = f"/{part.host_bucket}{path}"
    yield path
    if "/" not in path[1:]:
        # Clients write the path of a bucket with or without the slash, and sign it with one.
        yield f"{path}/"


def _string_to_sign(claim: Claim, part: RequestHead, path: str) -> bytes:
    amz = sorted(
        name for name in part.header_names if name.startswith(_AMZ) and name != _ADDED_BY_PROXIES
    )
    parameters = "&".join(
        f"{name}={value}" if value else name
        for name, value in sorted(part.query)
        if name in _SUBRESOURCES
    )
    lines = (
        part.method,
        *(part.header(name) or "" for name in _HEADERS),
        claim.expires,
        *(f"{name}:{part.header(name)}" for name in amz),
    )
    resource = f"{path}?".encode("latin-1") + parameters.encode("utf-8", "surrogateescape")
    return "\n".join([*lines, ""]).encode("latin-1") + resource.removesuffix(b"?")
