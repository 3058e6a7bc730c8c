# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which events of a bucket are sent where: the document of a bucket, and the rules in it.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Never
from xml.etree.ElementTree import Element

from kypello.errors import Refused
from kypello.events.names import matching
from kypello.events.rules import SETTING, Rule, overlapping, read_rules, write_rules
from kypello.http.response import Response
from kypello.s3.bucketsettings import replace_settings
from kypello.s3.call import Call
from kypello.s3.xml import (
    CONTENT_TYPE,
    child_texts,
    children,
    document,
    escape,
    malformed,
    read_document,
)

_ROOT = "NotificationConfiguration"

#: Kinds of rules, and what names their targets.  There are queues only: others are refused, as
#: no target is of their kind.
_KINDS = {
    "CloudFunctionConfiguration": "CloudFunction",
    "QueueConfiguration": "Queue",
    "TopicConfiguration": "Topic",
}
_EVENT_BRIDGE = "EventBridgeConfiguration"
_NAMES = frozenset({"prefix", "suffix"})

#: How long the beginning or the end of a key may be that a rule names.
_LONGEST = 1024


async def put_notification(call: Call) -> Response:
    """
    Set which events of a bucket are sent where; an empty document has none sent.
    """
    await call.front.store.bucket(call.bucket)
    rules = list(_read(call, await call.read_document()))
    if overlapping(rules):
        raise Refused(
            "InvalidArgument",
            "An object key name filtering rule defined with overlapping prefixes, overlapping"
            " suffixes, or overlapping combinations of prefixes and suffixes for the same event"
            " types.",
        )
    await replace_settings(call, {SETTING: write_rules(rules) if rules else None})
    return Response(200)


async def get_notification(call: Call) -> Response:
    """
    Show which events of a bucket are sent where.
    """
    kept = (await call.front.store.bucket(call.bucket)).settings.get(SETTING)
    rules = () if kept is None else read_rules(kept)
    return Response(200, (CONTENT_TYPE,), document(_ROOT, "".join(map(_element, rules))))


def _read(call: Call, body: bytes) -> Iterator[Rule]:
    known = frozenset({*_KINDS, _EVENT_BRIDGE})
    for element in children(read_document(body, _ROOT), known):
        if element.tag == _EVENT_BRIDGE:
            _refuse_target()
        yield _read_rule(call, element, _KINDS[element.tag])


def _read_rule(call: Call, element: Element, kind: str) -> Rule:
    events: list[str] = []
    parts: dict[str, Element] = {}
    for part in children(element, frozenset({"Id", kind, "Event", "Filter"})):
        if part.tag == "Event":
            events.append(_read_event(part))
        elif part.tag in parts or (len(part) and part.tag != "Filter"):
            raise malformed()
        else:
            parts[part.tag] = part
    if not events or kind not in parts:
        raise malformed()
    arn = (parts[kind].text or "").strip()
    target = call.front.target(arn) if kind == "Queue" else None
    if target is None:
        _refuse_target()
    prefix, suffix = _read_filter(parts["Filter"]) if "Filter" in parts else (None, None)
    given = (parts["Id"].text or "").strip() if "Id" in parts else ""
    if len(given) > 255:
        raise Refused("InvalidArgument", "The Id of a rule has at most 255 characters.")
    rule = Rule(given, arn, target, tuple(events), prefix, suffix)
    # The same rule gets the same name, whoever sets it again without one.
    name = given or sha256(write_rules([rule])).hexdigest()[:32]
    return Rule(name, arn, target, rule.events, prefix, suffix)


def _read_event(element: Element) -> str:
    name = (element.text or "").strip()
    if len(element) or not matching(name):
        raise unknown_event()
    return name


def _read_filter(element: Element) -> tuple[str | None, str | None]:
    """
    How keys must begin and end.
    """
    found: dict[str, str] = {}
    for key in children(element, frozenset({"S3Key"})):
        for rule in children(key, frozenset({"FilterRule"})):
            texts = child_texts(rule, frozenset({"Name", "Value"}))
            name, value = texts.get("Name", "").strip().lower(), texts.get("Value", "")
            if name not in _NAMES:
                raise Refused("InvalidArgument", "filter rule name must be either prefix or suffix")
            if name in found:
                raise Refused(
                    "InvalidArgument", f"Cannot specify more than one {name} rule in a filter."
                )
            if len(value.encode()) > _LONGEST:
                raise Refused(
                    "InvalidArgument",
                    f"Size of filter rule value cannot exceed {_LONGEST} bytes in UTF-8"
                    " representation",
                )
            found[name] = value
    return found.get("prefix"), found.get("suffix")


def _element(rule: Rule) -> str:
    named = ((name, getattr(rule, name)) for name in ("prefix", "suffix"))
    filters = "".join(
        f"<FilterRule><Name>{name}</Name><Value>{escape(value)}</Value></FilterRule>"
        for name, value in named
        if value is not None
    )
    return (
        f"<QueueConfiguration><Id>{escape(rule.name)}</Id><Queue>{escape(rule.arn)}</Queue>"
        + "".join(f"<Event>{escape(event)}</Event>" for event in rule.events)
        + (filters and f"<Filter><S3Key>{filters}</S3Key></Filter>")
        + "</QueueConfiguration>"
    )


def unknown_event() -> Refused:
    """
    The refusal of an event that nobody knows.
    """
    return Refused("InvalidArgument", "A specified event is not supported for notifications.")


def _refuse_target() -> Never:
    raise Refused(
        "InvalidArgument",
        "A specified destination ARN does not exist or is not well-formed. Verify the destination"
        " ARN.",
    )
