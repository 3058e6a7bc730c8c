# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which pages browsers let use a bucket: rules as a document, and what they allow.

Nothing here protects the server: browsers ask before they send, and show answers to pages.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from xml.etree.ElementTree import Element

from attrs import frozen

from kypello.errors import Refused
from kypello.s3.bucketsettings import BucketSetting
from kypello.s3.xml import children, document, escape, malformed, read_document

#: The methods that a rule can allow.
METHODS = frozenset({"DELETE", "GET", "HEAD", "POST", "PUT"})

_ROOT = "CORSConfiguration"
_MAX_DOCUMENT = 64 * 1024
_MAX_RULES = 100
_MAX_ID = 255
_MAX_AGE = 2**31 - 1
_RULE = frozenset(
    {"ID", "AllowedHeader", "AllowedMethod", "AllowedOrigin", "ExposeHeader", "MaxAgeSeconds"}
)
_ONCE = ("ID", "MaxAgeSeconds")

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
#: An origin is a scheme, a host and perhaps a port; pages without one send ``null``.
_ORIGIN = re.compile(r"[!-~]+").fullmatch


@frozen(eq=False)
class CORSRule:
    """
    What pages of some origins may do.

    :ivar id: For the client that made the rule; ``None`` for none.
    :ivar origins: Each with one ``*`` at most.
    :ivar methods: Some of :data:`METHODS`.
    :ivar headers: Those that requests may have beside the ones that all may; each with one ``*``
        at most.
    :ivar exposed: Headers of answers that pages may read.
    :ivar max_age: How long a browser need not ask again, in seconds; ``None`` leaves it to it.
    :ivar credentials: Whether browsers may send what they know of the server by themselves.
    """

    origins: Sequence[str]
    methods: Sequence[str]
    headers: Sequence[str] = ()
    exposed: Sequence[str] = ()
    max_age: int | None = None
    id: str | None = None
    credentials: bool = True

    @cached_property
    def _lower_headers(self) -> Sequence[str]:
        return [name.lower() for name in self.headers]

    def allows(self, origin: str, method: str, headers: Iterable[str] = ()) -> bool:
        """
        Whether a page may send such a request.

        :param headers: Their names, in any case.
        """
        return (
            method in self.methods
            and _fits(origin, self.origins)
            and all(_fits(name.lower(), self._lower_headers) for name in headers)
        )

    def words(self, origin: str, headers: Sequence[str] = ()) -> list[tuple[str, str]]:
        """
        The headers that tell a browser so.

        :param headers: The names that it asked for.
        """
        anybody = "*" in self.origins
        words = [
            ("Access-Control-Allow-Origin", "*" if anybody else origin),
            ("Access-Control-Allow-Methods", ", ".join(self.methods)),
        ]
        if headers:
            words.append(("Access-Control-Allow-Headers", ", ".join(headers)))
        if self.exposed:
            words.append(("Access-Control-Expose-Headers", ", ".join(self.exposed)))
        if self.max_age is not None:
            words.append(("Access-Control-Max-Age", str(self.max_age)))
        if self.credentials and not anybody:
            words.append(("Access-Control-Allow-Credentials", "true"))
        return words

    def element(self) -> str:
        """
        The rule as a part of the document.
        """
        parts = [
            *(("ID", text) for text in (self.id,) if text is not None),
            *(("AllowedHeader", name) for name in self.headers),
            *(("AllowedMethod", name) for name in self.methods),
            *(("AllowedOrigin", name) for name in self.origins),
            *(("ExposeHeader", name) for name in self.exposed),
            *(("MaxAgeSeconds", str(age)) for age in (self.max_age,) if age is not None),
        ]
        content = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in parts)
        return f"<CORSRule>{content}</CORSRule>"


@lru_cache(maxsize=128)
def read_rules(body: bytes) -> tuple[CORSRule, ...]:
    """
    The rules of a document, in their order.

    :raises Refused: ``MalformedXML``, ``InvalidRequest`` or ``InvalidArgument``.
    """
    rules = [
        _read_rule(element)
        for element in children(read_document(body, _ROOT), frozenset({"CORSRule"}))
    ]
    if not rules:
        raise malformed("there is no CORSRule")
    if len(rules) > _MAX_RULES:
        raise _invalid(f"The number of CORS rules should not exceed allowed limit of {_MAX_RULES}.")
    ids = [rule.id for rule in rules if rule.id]
    if len(set(ids)) < len(ids):
        raise _invalid("Rule ID must be unique. Found same ID for more than one rule.")
    return tuple(rules)


@lru_cache(maxsize=8)
def default_rules(origins: tuple[str, ...]) -> tuple[CORSRule, ...]:
    """
    The rules of buckets that have none of their own.

    Requests are signed, so that no browser needs to know anything by itself.

    :param origins: Whose pages may do everything; none turns it off.
    """
    if not origins:
        return ()
    # The names are for browsers that know no wildcard here.
    exposed = (
        "ETag", "Date", "Server", "Accept-Ranges", "Content-Disposition", "Content-Encoding",
        "Content-Range", "Retry-After", "x-amz-request-id", "x-amz-version-id", "*",
    )  # fmt: skip
    return (CORSRule(origins, sorted(METHODS), ("*",), exposed, credentials=False),)


#: The rules of a bucket.
CORS = BucketSetting(
    "cors",
    ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
    lambda call, body: _canonical(read_rules(body)),
    limit=_MAX_DOCUMENT,
)


def _fits(name: str, patterns: Iterable[str]) -> bool:
    """
    Whether a name is one of several, in which one ``*`` stands for any text.

    Strangers choose the name, and others the patterns: all of them together cost little.
    """
    for pattern in patterns:
        before, star, behind = pattern.partition("*")
        if name == pattern or (
            star
            and len(name) >= len(before) + len(behind)
            and name.startswith(before)
            and name.endswith(behind)
        ):
            return True
    return False


def _canonical(rules: Sequence[CORSRule]) -> bytes:
    return document(_ROOT, "".join(rule.element() for rule in rules))


def _read_rule(element: Element) -> CORSRule:
    found: dict[str, list[str]] = {name: [] for name in _RULE}
    for child in children(element, _RULE):
        if len(child):
            raise malformed()
        found[child.tag].append((child.text or "").strip())
    if any(len(found[name]) > 1 for name in _ONCE):
        raise malformed()
    origins, methods = found["AllowedOrigin"], found["AllowedMethod"]
    if not origins or not methods:
        raise malformed("a CORSRule needs AllowedOrigin and AllowedMethod")
    for method in methods:
        if method not in METHODS:
            raise _invalid(
                "Found unsupported HTTP method in CORS config. Unsupported method is"
                f" {method or 'null'}"
            )
    for origin in origins:
        _check_wildcard("AllowedOrigin", origin)
        if not _ORIGIN(origin):
            raise _invalid(f'AllowedOrigin "{origin}" is no origin.')
    for name in found["AllowedHeader"]:
        _check_wildcard("AllowedHeader", name)
        _check_header_name("AllowedHeader", name)
    for name in found["ExposeHeader"]:
        if "*" in name:
            raise _invalid(
                f'ExposeHeader "{name}" contains wildcard. We currently do not support wildcard'
                " for ExposeHeader."
            )
        _check_header_name("ExposeHeader", name)
    return CORSRule(
        tuple(origins),
        tuple(methods),
        tuple(found["AllowedHeader"]),
        tuple(found["ExposeHeader"]),
        _read_age(found["MaxAgeSeconds"]),
        _read_id(found["ID"]),
    )


def _read_age(stated: list[str]) -> int | None:
    if not stated:
        return None
    (text,) = stated
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_AGE))):
        raise malformed("MaxAgeSeconds")
    if int(text) > _MAX_AGE:
        raise malformed("MaxAgeSeconds")
    return int(text)


def _read_id(stated: list[str]) -> str | None:
    if not stated:
        return None
    if len(stated[0]) > _MAX_ID:
        raise _invalid(f"ID length should not exceed allowed limit of {_MAX_ID}.")
    return stated[0]


def _check_wildcard(element: str, text: str) -> None:
    if text.count("*") > 1:
        raise _invalid(f'{element} "{text}" can not have more than one wildcard.')


def _check_header_name(element: str, name: str) -> None:
    # It becomes part of a header.
    if not _HEADER_NAME(name):
        raise _invalid(f'{element} "{name}" is no name of a header.')


def _invalid(message: str) -> Refused:
    return Refused("InvalidRequest", message)
