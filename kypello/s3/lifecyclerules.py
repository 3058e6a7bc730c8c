# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The rules of a lifecycle from the document that a client sends.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element

from attrs import define, field

from kypello.errors import Refused
from kypello.lifecycle.rules import Filter, Rule
from kypello.s3.tagging import check_tags
from kypello.s3.xml import child_texts, children, malformed, read_document

#: The name of the document.
ROOT = "LifecycleConfiguration"

#: How many rules a bucket may have, and how long an id may be, in characters.
_MAX_RULES = 1000
_MAX_ID = 255

#: More than any clock of this server will show.
_MAX_NUMBER = 2**31 - 1
_MAX_SIZE = 2**63 - 1
_MAX_NEWER = 100

_DAY = 24 * 60 * 60
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d))?")

_FILTERED = frozenset({"Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan"})
_TAG = frozenset({"Key", "Value"})


def read_rules(body: bytes, made: str) -> tuple[Rule, ...]:
    """
    The rules of a document, in their order.

    :param made: What the ids begin with that are made for rules without one.
    :raises Refused: ``MalformedXML``, ``InvalidArgument``, ``InvalidRequest``, ``InvalidTag`` or
        ``InvalidStorageClass``.
    """
    # MinIO adds when it changed them last.
    found = children(read_document(body, ROOT), frozenset({"Rule", "ExpiryUpdatedAt"}))
    elements = [element for element in found if element.tag == "Rule"]
    if not 1 <= len(elements) <= _MAX_RULES:
        raise malformed(f"a lifecycle has 1 to {_MAX_RULES} rules")
    rules = tuple(_Reader(f"{made}-{number}").read(e) for number, e in enumerate(elements, 1))
    if len({rule.id for rule in rules}) < len(rules):
        raise _argument("Rule ID must be unique. Found same ID for more than one rule")
    return rules


def _argument(message: str) -> Refused:
    return Refused("InvalidArgument", message)


@define(eq=False)
class _Reader:
    """
    Reads one rule.

    :ivar _made: Its id, if it has none.
    :ivar _said: What was read, by field of :class:`Rule`.
    """

    _made: str
    _said: dict[str, Any] = field(init=False, factory=dict)

    def read(self, element: Element) -> Rule:
        """
        Read and check it.

        :raises Refused:
        """
        seen: set[str] = set()
        for child in children(element, frozenset(_PARTS)):
            if child.tag in seen:
                raise malformed(f"{child.tag} twice")
            seen.add(child.tag)
            _PARTS[child.tag](self, child)
        if "enabled" not in self._said:
            raise malformed("a rule needs a Status")
        if {"Filter", "Prefix"} <= seen:
            raise malformed("a rule has a Filter or a Prefix")
        rule = Rule(id=self._said.pop("id", "") or self._made, **self._said)
        _check(rule, seen)
        return rule

    def id(self, element: Element) -> None:
        """
        Called for ``ID``.
        """
        told = _leaf(element)
        if len(told) > _MAX_ID:
            raise _argument(f"ID length should not exceed allowed limit of {_MAX_ID}")
        self._said["id"] = told

    def status(self, element: Element) -> None:
        """
        Called for ``Status``.
        """
        told = _leaf(element)
        if told not in ("Enabled", "Disabled"):
            raise malformed("Status")
        self._said["enabled"] = told == "Enabled"

    def prefix(self, element: Element) -> None:
        """
        Called for ``Prefix``.
        """
        self._said["prefix"] = _leaf(element)

    def filter(self, element: Element) -> None:
        """
        Called for ``Filter``.
        """
        parts = list(children(element, _FILTERED | {"And"}))
        if len(parts) > 1:
            raise malformed("a Filter with several conditions needs And")
        combined = bool(parts) and parts[0].tag == "And"
        if combined:
            parts = list(children(parts[0], _FILTERED))
            if len(parts) < 2:
                raise malformed("And needs two conditions at least")
        self._said["filter"] = _read_filter(parts, combined)

    def expiration(self, element: Element) -> None:
        """
        Called for ``Expiration``.
        """
        texts = child_texts(
            element,
            frozenset({"Days", "Date", "ExpiredObjectDeleteMarker", "ExpiredObjectAllVersions"}),
        )
        kinds = texts.keys() - {"ExpiredObjectAllVersions"}
        if len(kinds) != 1:
            raise malformed("an Expiration has Days, Date or ExpiredObjectDeleteMarker")
        if "Days" in texts:
            self._said["days"] = _positive(texts["Days"], "'Days' for Expiration action")
        if "Date" in texts:
            self._said["date"] = _read_date(texts["Date"])
        for name, known in (
            ("ExpiredObjectDeleteMarker", "marker"),
            ("ExpiredObjectAllVersions", "all_versions"),
        ):
            if name in texts:
                self._said[known] = _flag(texts[name], name)
        if self._said.get("all_versions") and "marker" in self._said:
            raise malformed("ExpiredObjectAllVersions needs Days or Date")

    def marker_expiration(self, element: Element) -> None:
        """
        Called for ``DelMarkerExpiration``.
        """
        texts = child_texts(element, frozenset({"Days"}))
        if not texts:
            raise malformed("DelMarkerExpiration needs Days")
        self._said["marker_days"] = _positive(texts["Days"], "'Days' for DelMarkerExpiration")

    def noncurrent(self, element: Element) -> None:
        """
        Called for ``NoncurrentVersionExpiration``.
        """
        texts = child_texts(element, frozenset({"NoncurrentDays", "NewerNoncurrentVersions"}))
        if not texts:
            raise malformed("NoncurrentVersionExpiration needs NoncurrentDays")
        if "NoncurrentDays" in texts:
            what = "'NoncurrentDays' for NoncurrentVersionExpiration action"
            self._said["noncurrent_days"] = _positive(texts["NoncurrentDays"], what)
        if "NewerNoncurrentVersions" in texts:
            newer = _number(texts["NewerNoncurrentVersions"], _MAX_NUMBER)
            if not 1 <= newer <= _MAX_NEWER:
                raise _argument(
                    "'NewerNoncurrentVersions' for NoncurrentVersionExpiration action must be"
                    f" between 1 and {_MAX_NEWER}"
                )
            self._said["newer_noncurrent"] = newer

    def abortion(self, element: Element) -> None:
        """
        Called for ``AbortIncompleteMultipartUpload``.
        """
        texts = child_texts(element, frozenset({"DaysAfterInitiation"}))
        if not texts:
            raise malformed("AbortIncompleteMultipartUpload needs DaysAfterInitiation")
        what = "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action"
        self._said["abort_days"] = _positive(texts["DaysAfterInitiation"], what)

    def transition(self, _element: Element) -> None:
        """
        Called for what moves objects to another class.
        """
        raise Refused(
            "InvalidStorageClass",
            "There is no other storage that objects could move to: leave out transitions.",
        )


_PARTS: Mapping[str, Callable[[_Reader, Element], None]] = {
    "ID": _Reader.id,
    "Status": _Reader.status,
    "Prefix": _Reader.prefix,
    "Filter": _Reader.filter,
    "Expiration": _Reader.expiration,
    "DelMarkerExpiration": _Reader.marker_expiration,
    "NoncurrentVersionExpiration": _Reader.noncurrent,
    "AbortIncompleteMultipartUpload": _Reader.abortion,
    "Transition": _Reader.transition,
    "NoncurrentVersionTransition": _Reader.transition,
}
_ACTIONS = frozenset(
    {
        "Expiration",
        "DelMarkerExpiration",
        "NoncurrentVersionExpiration",
        "AbortIncompleteMultipartUpload",
    }
)


def _check(rule: Rule, seen: set[str]) -> None:
    """
    See that the parts of a rule go together.
    """
    if not seen & _ACTIONS:
        raise Refused("InvalidRequest", "At least one action needs to be specified in a rule.")
    if rule.filter is None:
        return
    for name, said in (
        ("AbortIncompleteMultipartUpload", rule.abort_days is not None),
        ("ExpiredObjectDeleteMarker", bool(rule.marker)),
        ("DelMarkerExpiration", rule.marker_days is not None),
    ):
        # They have neither.
        if said and rule.filter.tags:
            raise Refused("InvalidRequest", f"{name} cannot be specified with Tags.")
        if said and rule.filter.narrows:
            raise Refused("InvalidRequest", f"{name} cannot be specified with Object Size.")


def _read_filter(parts: list[Element], combined: bool) -> Filter:
    texts: dict[str, str] = {}
    tags: list[tuple[str, str]] = []
    for part in parts:
        if part.tag == "Tag":
            found = child_texts(part, _TAG)
            if found.keys() != _TAG:
                raise malformed("Tag")
            tags.append((found["Key"], found["Value"]))
        elif part.tag in texts:
            raise malformed(f"{part.tag} twice")
        else:
            texts[part.tag] = _leaf(part)
    if len({key for key, _ in tags}) < len(tags):
        raise Refused("InvalidRequest", "Duplicate Tag Keys are not allowed.")
    check_tags(tags)
    greater, less = (
        _number(texts[name], _MAX_SIZE) if name in texts else None
        for name in ("ObjectSizeGreaterThan", "ObjectSizeLessThan")
    )
    if greater is not None and less is not None and greater + 1 >= less:
        raise Refused(
            "InvalidRequest", "'ObjectSizeLessThan' has to be greater than 'ObjectSizeGreaterThan'."
        )
    return Filter(texts.get("Prefix"), tuple(tags), greater, less, combined)


def _leaf(element: Element) -> str:
    if len(element):
        raise malformed(element.tag)
    return element.text or ""


def _number(text: str, most: int) -> int:
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdecimal() and len(stripped) <= len(str(most))):
        raise malformed(f"{text!r} is no number")
    if int(stripped) > most:
        raise malformed(f"{text!r} is too large")
    return int(stripped)


def _positive(text: str, what: str) -> int:
    sign = text.strip().removeprefix("-")
    number = _number(sign, _MAX_NUMBER)
    if number == 0 or sign != text.strip():
        raise _argument(f"{what} must be a positive integer")
    return number


def _flag(text: str, name: str) -> bool:
    if text.strip() not in ("true", "false"):
        raise malformed(name)
    return text.strip() == "true"


def _read_date(text: str) -> int:
    if not _DATE.fullmatch(text.strip()):
        raise malformed("Date")
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp()
    except (ValueError, OverflowError):
        raise malformed("Date") from None
    if seconds % _DAY:
        raise _argument("'Date' must be at midnight GMT")
    return int(seconds)
