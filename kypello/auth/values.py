# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What conditions of policies can ask about a request.

Each value is worked out when a policy asks for it, which few do.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from urllib.parse import parse_qsl

from attrs import define

from kypello.accessconfig import Network
from kypello.auth.dates import parse_timestamp, read_iso_date
from kypello.auth.request import RequestHead
from kypello.auth.source import source_address

_REQUEST_TAG = "s3:requestobjecttag/"
_TAGGING = "x-amz-tagging"

#: Condition keys that are headers of the same name.
_HEADERS = frozenset(
    {
        "x-amz-acl",
        "x-amz-content-sha256",
        "x-amz-copy-source",
        "x-amz-grant-full-control",
        "x-amz-grant-read",
        "x-amz-grant-read-acp",
        "x-amz-grant-write",
        "x-amz-grant-write-acp",
        "x-amz-metadata-directive",
        "x-amz-object-ownership",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-storage-class",
        "x-amz-website-redirect-location",
    }
)

#: Condition keys that are query parameters.
_PARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "s3:delimiter": "delimiter",
        "s3:max-keys": "max-keys",
        "s3:prefix": "prefix",
        "s3:versionid": "versionId",
    }
)

#: Condition keys that are headers of other names.
_RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "aws:referer": "referer",
        "aws:useragent": "user-agent",
        "s3:if-match": "if-match",
        "s3:if-none-match": "if-none-match",
    }
)

_LOCK = "s3:object-lock-"
_REMAINING = "remaining-retention-days"
_DAY = 24 * 3600 * 10**9


@define(eq=False)
class RequestValues:
    """
    The values of one request, which nobody changes.

    :ivar head: As far as it counts: what is signed, where there is a signature.
    :ivar signature: ``AWS4-HMAC-SHA256`` or ``AWS``; empty for an anonymous request.
    :ivar kind: How it came: ``REST-HEADER``, ``REST-QUERY-STRING`` or ``POST``; empty for an
        anonymous request.
    :ivar tags: The tags that a form brings; ``None`` to look at the header.
    :ivar lock: The words of a lock that a document brings, by what follows
        ``x-amz-object-lock-`` in headers; ``None`` to look at these.
    :ivar proxies: Whose word about the client's address is taken.
    :ivar told: What else a document tells, by condition key.
    """

    head: RequestHead
    now: float
    signature: str
    kind: str
    proxies: Sequence[Network] = ()
    tags: Mapping[str, str] | None = None
    lock: Mapping[str, str] | None = None
    told: Mapping[str, str] = MappingProxyType({})

    def __call__(self, name: str) -> Sequence[str] | None:
        """
        The values of a condition key; ``None`` when the request has none.

        :param name: In lower case, but for the key of a tag.
        """
        compute = _COMPUTED.get(name)
        if compute is not None:
            value = compute(self)
        elif name in self.told:
            value = self.told[name]
        elif name in _PARAMETERS:
            value = self.head.parameter(_PARAMETERS[name])
        elif name in _RENAMED:
            value = self.head.header(_RENAMED[name])
        elif name.startswith(_REQUEST_TAG):
            value = self._tags().get(name.removeprefix(_REQUEST_TAG))
        elif name.startswith(_LOCK):
            value = self._lock(name.removeprefix(_LOCK))
        elif name == "s3:requestobjecttagkeys":
            return tuple(self._tags()) or None
        else:
            service, _colon, header = name.partition(":")
            known = service == "s3" and header in _HEADERS
            value = self.head.header(header) if known else None
        return None if value is None else (value,)

    def _lock(self, name: str) -> str | None:
        if name == _REMAINING:
            stated = self._lock("retain-until-date")
            until = None if stated is None else read_iso_date(stated)
            # Days that have begun count.
            return None if until is None else str(-((int(self.now * 1e9) - until) // _DAY))
        if self.lock is not None:
            return self.lock.get(name)
        return self.head.header(f"x-amz-object-lock-{name}")

    def _tags(self) -> Mapping[str, str]:
        if self.tags is not None:
            return self.tags
        return dict(parse_qsl(self.head.header(_TAGGING) or "", keep_blank_values=True))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _signature_age(values: RequestValues) -> str | None:
    """
    How old the signature is, in milliseconds; only a presigned request has an age.
    """
    stated = values.head.parameter("X-Amz-Date")
    if values.kind != "REST-QUERY-STRING" or stated is None:
        return None
    signed = parse_timestamp(stated)
    return None if signed is None else str(int((values.now - signed) * 1000))


_COMPUTED: Mapping[str, Callable[[RequestValues], str | None]] = MappingProxyType(
    {
        "aws:sourceip": lambda values: source_address(values.head, values.proxies),
        "aws:securetransport": lambda values: "true" if values.head.secure else "false",
        "s3:tlsversion": lambda values: values.head.tls_version or None,
        "aws:currenttime": lambda values: _moment(values.now),
        "aws:epochtime": lambda values: str(int(values.now)),
        "s3:signatureversion": lambda values: values.signature or None,
        "s3:authtype": lambda values: values.kind or None,
        "s3:signatureage": _signature_age,
    }
)
