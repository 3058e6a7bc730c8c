# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Lifecycles of buckets: how their rules are set and shown, and what reads tell of them.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from kypello.auth.dates import write_timestamp
from kypello.http.response import Response
from kypello.lifecycle.fates import expiry_of
from kypello.lifecycle.rules import SETTING, Filter, Lifecycle, Rule, rules_of
from kypello.model import ListedVersion, ObjectInfo
from kypello.s3.bucketsettings import BucketSetting
from kypello.s3.call import Call
from kypello.s3.dates import http_date
from kypello.s3.errors import invalid_argument
from kypello.s3.lifecyclerules import ROOT, read_rules
from kypello.s3.xml import CONTENT_TYPE, document, escape

#: Which objects are too small to be moved to other classes.  Nothing is moved here, and it is told
#: as it was set.
_MINIMUM = "x-amz-transition-default-minimum-object-size"
_MINIMA = ("all_storage_classes_128K", "varies_by_storage_class")

_UPDATED = "X-Minio-LifecycleConfig-UpdatedAt"


def _read(call: Call, body: bytes) -> bytes:
    minimum = call.head.header(_MINIMUM) or _MINIMA[0]
    if minimum not in _MINIMA:
        raise invalid_argument(_MINIMUM, minimum, f"Invalid {_MINIMUM}")
    now = int(call.front.clock.seconds())
    return Lifecycle(read_rules(body, call.request_id.lower()), now, minimum).to_bytes()


def _show(stored: bytes) -> bytes:
    rules = Lifecycle.from_bytes(stored).rules
    return document(ROOT, "".join(f"<Rule>{_content(rule)}</Rule>" for rule in rules))


#: The rules of a bucket.
LIFECYCLE = BucketSetting(
    SETTING,
    ("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
    _read,
    _show,
)


async def put_lifecycle(call: Call) -> Response:
    """
    Replace all rules.
    """
    answer = await LIFECYCLE.put(call)
    minimum = call.head.header(_MINIMUM) or _MINIMA[0]
    return Response(answer.status, ((_MINIMUM, minimum),))


async def get_lifecycle(call: Call) -> Response:
    """
    Show the rules.
    """
    stored = await LIFECYCLE.value(call)
    found = Lifecycle.from_bytes(stored)
    headers = [CONTENT_TYPE, (_MINIMUM, found.minimum)]
    if (call.head.parameter("withUpdatedAt") or "").lower() == "true":
        headers.append((_UPDATED, write_timestamp(found.updated)))
    return Response(200, headers, _show(stored))


def expiration_headers(call: Call, info: ObjectInfo) -> Iterator[tuple[str, str]]:
    """
    The header that tells when a current version expires, if a rule says so.

    :param info: A version that was current just now.  If the request names one, nobody knows
        whether it is.
    """
    if SETTING not in call.settings or call.head.parameter("versionId"):
        return
    current = ListedVersion(info, True, False)
    due = expiry_of(rules_of(call.settings), call.front.calendar, current)
    if due is not None:
        yield (
            "x-amz-expiration",
            f'expiry-date="{http_date(due.since)}", rule-id="{quote(due.rule, safe="")}"',
        )


def _content(rule: Rule) -> str:
    """
    A rule as it was set, in the order of the schema.
    """
    parts = [_text("ID", rule.id)]
    if rule.filter is not None:
        parts.append(f"<Filter>{_filter(rule.filter)}</Filter>")
    elif rule.prefix is not None:
        parts.append(_text("Prefix", rule.prefix))
    parts.append(_text("Status", "Enabled" if rule.enabled else "Disabled"))
    actions: Mapping[str, Mapping[str, str | int | bool | None]] = {
        "Expiration": {
            "Days": rule.days,
            "Date": None if rule.date is None else _date(rule.date),
            "ExpiredObjectDeleteMarker": rule.marker,
            "ExpiredObjectAllVersions": rule.all_versions,
        },
        "DelMarkerExpiration": {"Days": rule.marker_days},
        "NoncurrentVersionExpiration": {
            "NoncurrentDays": rule.noncurrent_days,
            "NewerNoncurrentVersions": rule.newer_noncurrent,
        },
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": rule.abort_days},
    }
    for name, values in actions.items():
        content = "".join(_value(each, value) for each, value in values.items())
        if content:
            parts.append(f"<{name}>{content}</{name}>")
    return "".join(parts)


def _filter(wanted: Filter) -> str:
    content = "" if wanted.prefix is None else _text("Prefix", wanted.prefix)
    for key, value in wanted.tags:
        content += f"<Tag>{_text('Key', key)}{_text('Value', value)}</Tag>"
    content += _value("ObjectSizeGreaterThan", wanted.greater)
    content += _value("ObjectSizeLessThan", wanted.less)
    return f"<And>{content}</And>" if wanted.combined else content


def _value(name: str, value: str | int | bool | None) -> str:
    if value is None:
        return ""
    return _text(name, str(value).lower() if isinstance(value, bool) else str(value))


def _text(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>"


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
