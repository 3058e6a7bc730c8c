# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
AWS Signature Version 4 in the ``Authorization`` header.

A check has two halves, for the secret key lies between them: :func:`read_authorization` makes
a :class:`Claim` of what the request says, checking all that needs no secret, and :func:`verify`
compares the signature.  Presigned URLs (:mod:`kypello.auth.presign`) share the second half.

Source: "Authenticating Requests (AWS Signature Version 4)" of the Amazon S3 API reference.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest, digest
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from attrs import define, field, frozen

from kypello.auth.dates import parse_timestamp, read_http_date, server_time, write_timestamp
from kypello.auth.mode import ChunkSeed
from kypello.auth.request import RequestHead
from kypello.errors import Refused

#: The name of the mechanism, in the header, the query and the string to sign.
ALGORITHM = "AWS4-HMAC-SHA256"

#: How far the clocks of client and server may be apart, in seconds.
MAX_SKEW = 900

_SERVICE = "s3"
_TERMINAL = "aws4_request"
_MALFORMED = "The authorization header is malformed; "
_COMPONENTS = {"Credential", "SignedHeaders", "Signature"}
_DATE = re.compile(r"[0-9]{8}")
#: A path that is the same when it is decoded and encoded again.
_SETTLED_PATH = re.compile(r"[A-Za-z0-9_.~/-]+").fullmatch
#: A value of a header without blanks.
_COMPACT = re.compile(r"[\x21-\xff]*").fullmatch
#: What a signed header counts as when the HTTP layer, or a proxy, has taken it away.
_FRAMING = {"expect": "100-continue", "content-length": "0", "transfer-encoding": "chunked"}
#: Headers of these prefixes must be signed, but for those that a proxy adds.
_MEANINGFUL = ("x-amz-", "x-minio-")
_ADDED_BY_PROXIES = frozenset({"x-amz-cf-id"})
#: A canonical request that holds one of these is not shown to anybody.
SECRET = re.compile(r"x-amz-security-token|customer-key[:=]", re.IGNORECASE)


@frozen(cache_hash=True)
class Scope:
    """
    What a signing key is good for.

    :ivar date: ``YYYYMMDD``.
    :ivar text: As it stands in a credential and in the string to sign.
    """

    date: str
    region: str
    service: str = _SERVICE
    text: str = field(init=False, eq=False, repr=False)

    @text.default
    def _write(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/{_TERMINAL}"

    def __str__(self) -> str:
        """
        The text.
        """
        return self.text


@define
class Claim:
    """
    Who a request says it is from, and the signature to prove it.

    :ivar timestamp: ``YYYYMMDDTHHMMSSZ``.
    :ivar signed_headers: Lower-case names in the order of the canonical request.
    :ivar signature: As sent.
    """

    access_key: str
    scope: Scope
    timestamp: str
    signed_headers: tuple[str, ...]
    signature: str = field(repr=False)


@lru_cache(maxsize=64)
def parse_credential(
    text: str,
    region: str | None,
    refuse: Callable[[str, dict[str, str]], Refused],
    expected: str = _SERVICE,
) -> tuple[str, Scope]:
    """
    Read ``access-key/date/region/service/aws4_request``; the access key may hold slashes.

    The last few are remembered, for all requests of a client say the same.

    :param region: The only region accepted; ``None`` accepts all.
    :param refuse: Makes the error out of the detail and further fields.
    :param expected: The service that must be named.
    :raises Refused: What *refuse* makes.
    """
    access_key, *rest = text.rsplit("/", 4)
    if len(rest) != 4 or not access_key or not (text.isascii() and text.isprintable()):
        raise refuse(
            "the Credential is mal-formed; expecting"
            ' "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
            {},
        )
    date, stated_region, service, terminal = rest
    if terminal != _TERMINAL:
        raise refuse(
            f'incorrect terminal "{terminal}". This endpoint uses "{_TERMINAL}".',
            {},
        )
    if service != expected:
        raise refuse(
            f'incorrect service "{service}". This endpoint belongs to "{expected}".',
            {},
        )
    if not _DATE.fullmatch(date):
        raise refuse(
            f'incorrect date format "{date}". This date in the credential must be in the'
            ' format "yyyyMMdd".',
            {},
        )
    if region is not None and stated_region != region:
        raise refuse(
            f'the region "{stated_region}" is wrong; expecting "{region}"',
            {"Region": region},
        )
    return access_key, Scope(date, stated_region, service)


def read_authorization(
    head: RequestHead, region: str | None, now: float, service: str = _SERVICE
) -> Claim:
    """
    Read the ``Authorization`` header and check all that needs no secret key.

    :param head: Its ``authorization`` begins with :data:`ALGORITHM` and a blank.
    :param region: The only region accepted; ``None`` accepts all.
    :param now: Seconds since the epoch.
    :param service: The one that the signature must be for.

    :raises Refused: ``AuthorizationHeaderMalformed``, ``RequestTimeTooSkewed``, ``AccessDenied``
        or ``SignatureDoesNotMatch``.
    """
    credential, names, signature = _components(head.header("authorization") or "")
    access_key, scope = parse_credential(credential, region, _header_malformed, service)
    timestamp, moment = _request_time(head)
    if timestamp[:8] != scope.date:
        raise _header_malformed(
            "Invalid credential date. Date is not the same as X-Amz-Date.",
            {},
        )
    if abs(now - moment) > MAX_SKEW:
        raise Refused(
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
            {
                "RequestTime": timestamp,
                "ServerTime": server_time(now),
                "MaxAllowedSkewMilliseconds": str(MAX_SKEW * 1000),
            },
        )
    claim = Claim(access_key, scope, timestamp, names, signature)
    check_signed_headers(claim, head)
    return claim


def check_signed_headers(claim: Claim, head: RequestHead) -> None:
    """
    See that the signature covers the host and every ``x-amz-`` and ``x-minio-`` header that was
    sent.

    Nothing may be signed twice: the canonical request would hold all values of the header as
    often as its name was repeated, and grow to thousands of times the size of the request.

    :raises Refused: ``AccessDenied`` that names the headers; ``SignatureDoesNotMatch`` when a
        signed header is not there, or named twice.
    """
    signed = set(claim.signed_headers)
    present = head.header_names
    unsigned = {name for name in present - signed if name.startswith(_MEANINGFUL)}
    unsigned -= _ADDED_BY_PROXIES
    if "host" not in signed:
        unsigned.add("host")
    if unsigned:
        raise Refused(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            {"HeadersNotSigned": ", ".join(sorted(unsigned))},
        )
    if len(signed) < len(claim.signed_headers) or signed - present - _FRAMING.keys():
        raise mismatch({"AWSAccessKeyId": claim.access_key})


def canonical_request(
    head: RequestHead,
    signed_headers: tuple[str, ...],
    payload_hash: str,
    host: str,
    query: str | None = None,
) -> bytes:
    """
    The request in the one form that both sides sign.

    :param payload_hash: The value of ``x-amz-content-sha256``.
    :param host: The value to take for the header of that name.
    :param query: The query to take, as :func:`canonical_queries` has it; the first one otherwise.
    """
    if query is None:
        query = next(canonical_queries(head))
    path = head.path if _SETTLED_PATH(head.path) else _settled(head.path)
    lines = "".join([_header_line(head, name, host) for name in signed_headers])
    start = f"{head.method}\n{path}\n{query}\n{lines}"
    end = f"\n{';'.join(signed_headers)}\n{payload_hash}"
    return start.encode("latin-1") + end.encode("latin-1", "replace")


def _settled(path: str) -> str:
    return quote_from_bytes(unquote_to_bytes(path.encode("latin-1")), safe="/") or "/"


def canonical_queries(head: RequestHead) -> Iterator[str]:
    """
    The query in the forms that clients sign.

    AWS sorts by name and value.  MinIO's clients sort by name alone, and leave the values of one
    that is repeated in the order in which they are sent, as those of ``events`` are.
    """
    if not head.query:
        yield ""
        return
    parameters = [
        (_escape(name), _escape(value)) for name, value in head.query if name != "X-Amz-Signature"
    ]
    by_value = sorted(parameters)
    yield _joined(by_value)
    by_name = sorted(parameters, key=lambda parameter: parameter[0])
    if by_name != by_value:
        yield _joined(by_name)


def _joined(parameters: list[tuple[str, str]]) -> str:
    return "&".join([f"{name}={value}" for name, value in parameters])


def string_to_sign(timestamp: str, scope: str, canonical: bytes) -> str:
    """
    What the signature of a request is made of.
    """
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{sha256(canonical).hexdigest()}"


@lru_cache(maxsize=256)
def signing_key(secret_key: str, scope: Scope) -> bytes:
    """
    Derive the key of a day, region and service; the last few hundred are remembered.
    """
    key = b"AWS4" + secret_key.encode()
    for step in (scope.date, scope.region, scope.service, _TERMINAL):
        key = digest(key, step.encode(), "sha256")
    return key


def sign(key: bytes, text: str) -> str:
    """
    The signature of a string to sign, in lower-case hex.
    """
    return digest(key, text.encode(), "sha256").hex()


def same_signature(expected: str, provided: str) -> bool:
    """
    Compare in a time that does not depend on where the signatures differ.
    """
    return compare_digest(expected.encode(), provided.encode("utf-8", "surrogateescape"))


def verify(claim: Claim, head: RequestHead, payload_hash: str, secret_key: str) -> ChunkSeed:
    """
    Check the signature of a request.

    A proxy or HTTP library may add or drop the default port in ``Host``, and clients sort queries
    in two ways; all forms are tried.

    :param head: As sent, nothing merged into it.
    :param payload_hash: The value of ``x-amz-content-sha256``.
    :return: What the signatures of chunks are chained to.

    :raises Refused: ``SignatureDoesNotMatch``.
    """
    key = signing_key(secret_key, claim.scope)
    scope = claim.scope.text
    shown: list[tuple[bytes, str]] = []
    for query, host in (
        (query, host) for query in canonical_queries(head) for host in _hosts(head)
    ):
        canonical = canonical_request(head, claim.signed_headers, payload_hash, host, query)
        text = string_to_sign(claim.timestamp, scope, canonical)
        if same_signature(sign(key, text), claim.signature):
            return ChunkSeed(key, claim.timestamp, scope, claim.signature)
        shown.append((canonical, text))
    canonical, text = shown[0]
    fields = {
        "AWSAccessKeyId": claim.access_key,
        "StringToSign": text,
        "SignatureProvided": claim.signature,
        "StringToSignBytes": text.encode().hex(" "),
    }
    request = canonical.decode("latin-1")
    if not SECRET.search(request):
        fields["CanonicalRequest"] = request
        fields["CanonicalRequestBytes"] = canonical.hex(" ")
    raise mismatch(fields)


def mismatch(fields: dict[str, str]) -> Refused:
    """
    The refusal of a signature.

    :param fields: What the client may compare with what it signed.
    """
    return Refused(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check"
        " your key and signing method.",
        fields,
    )


def _header_malformed(detail: str, fields: dict[str, str]) -> Refused:
    return Refused("AuthorizationHeaderMalformed", _MALFORMED + detail, fields)


def _components(authorization: str) -> tuple[str, tuple[str, ...], str]:
    components = authorization.removeprefix(ALGORITHM).split(",")
    found = dict([component.strip().partition("=")[::2] for component in components])
    if len(components) != len(_COMPONENTS) or found.keys() != _COMPONENTS or "" in found.values():
        raise _header_malformed(
            "the authorization header requires three components: Credential, SignedHeaders, and"
            " Signature.",
            {},
        )
    return found["Credential"], tuple(found["SignedHeaders"].split(";")), found["Signature"]


def _request_time(head: RequestHead) -> tuple[str, float]:
    stated = head.header("x-amz-date")
    if stated is None:
        stated = head.header("date") or ""
        date = read_http_date(stated)
        if date is not None:
            return write_timestamp(date), date
    # Some old signers put the timestamp itself into Date.
    moment = parse_timestamp(stated)
    if moment is None:
        raise Refused(
            "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
        )
    return stated, moment


def _escape(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def _header_line(head: RequestHead, name: str, host: str) -> str:
    value = host if name == "host" else head.header(name)
    if value is None:
        value = _FRAMING[name]
    if not _COMPACT(value):
        value = b" ".join(value.encode("latin-1").split()).decode("latin-1")
    return f"{name}:{value}\n"


def _hosts(head: RequestHead) -> Iterator[str]:
    host = head.header("host") or ""
    port = ":443" if head.secure else ":80"
    yield host
    if host.endswith(port):
        yield host.removesuffix(port)
    elif ":" not in host.rpartition("]")[2]:
        yield host + port
