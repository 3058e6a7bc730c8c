# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The object lock of a bucket: what is told of it, and how it is set.

It is set once and for all, with the bucket or later; only the retention that new versions get can
be changed.
"""

import re
from collections.abc import Mapping

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.model import COMPLIANCE, GOVERNANCE
from kypello.objectlock import MAX_DAYS, MAX_YEARS, SETTING, BucketLock
from kypello.s3.bucketsettings import BucketSetting
from kypello.s3.call import Call
from kypello.s3.errors import invalid_argument
from kypello.s3.xml import child_texts, children, document, malformed, read_document
from kypello.versioning import SETTING as VERSIONING
from kypello.versioning import Versioning, versioning_of

_ROOT = "ObjectLockConfiguration"
_CONFIGURATION = frozenset({"ObjectLockEnabled", "Rule"})
_RETENTION = frozenset({"Mode", "Days", "Years"})
_NUMBER = re.compile("-?[0-9]{1,9}")
_ENABLED = "x-amz-bucket-object-lock-enabled"


def read_lock_of_bucket(head: RequestHead) -> Mapping[str, bytes]:
    """
    The settings that make the versions of a new bucket lockable; none when they are not wanted.

    :raises Refused: ``InvalidArgument``.
    """
    stated = (head.header(_ENABLED) or "false").lower()
    if stated not in ("true", "false"):
        raise invalid_argument(_ENABLED, stated, "The value must be true or false")
    if stated == "false":
        return {}
    return {SETTING: BucketLock().to_bytes(), VERSIONING: Versioning("Enabled").to_bytes()}


def check_versioning(wanted: Versioning, settings: Mapping[str, bytes]) -> None:
    """
    See that a bucket with these settings may keep versions so.

    :raises Refused: ``InvalidBucketState``.
    """
    if SETTING in settings and not _keeps_all(wanted):
        raise Refused(
            "InvalidBucketState",
            "An Object Lock configuration is present on this bucket, so the versioning state cannot"
            " be changed.",
        )


def _check(_call: Call, _value: bytes, settings: Mapping[str, bytes]) -> None:
    versioning = versioning_of(settings)
    if versioning is None or not _keeps_all(versioning):
        raise Refused(
            "InvalidBucketState",
            "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
        )


def _keeps_all(versioning: Versioning) -> bool:
    """
    Whether no version is ever replaced by another.
    """
    return versioning == Versioning("Enabled")


def _read(_call: Call, body: bytes) -> bytes:
    lock, enabled = BucketLock(), ""
    seen = set()
    for child in children(read_document(body, _ROOT), _CONFIGURATION):
        if child.tag in seen:
            raise malformed()
        seen.add(child.tag)
        if child.tag == "Rule":
            rules = list(children(child, frozenset({"DefaultRetention"})))
            if len(rules) != 1:
                raise malformed()
            lock = _read_default(child_texts(rules[0], _RETENTION))
        elif not len(child):
            enabled = (child.text or "").strip()
    if enabled != "Enabled":
        raise malformed()
    return lock.to_bytes()


def _read_default(texts: Mapping[str, str]) -> BucketLock:
    mode = texts.get("Mode", "").strip()
    if ("Days" in texts) == ("Years" in texts):
        raise malformed()
    days, years = (_read_number(texts.get(name)) for name in ("Days", "Years"))
    for name, number, most in (("Days", days, MAX_DAYS), ("Years", years, MAX_YEARS)):
        if name in texts and number <= 0:
            message = "Default retention period must be a positive integer value."
            raise invalid_argument(name, texts[name], message)
        if number > most:
            raise invalid_argument(name, texts[name], "Default retention period too large.")
    match mode:
        case "GOVERNANCE":
            return BucketLock(GOVERNANCE, days, years)
        case "COMPLIANCE":
            return BucketLock(COMPLIANCE, days, years)
    raise malformed()


def _read_number(text: str | None) -> int:
    if text is None:
        return 0
    if _NUMBER.fullmatch(text.strip()) is None:
        raise malformed()
    return int(text)


def _show(stored: bytes) -> bytes:
    lock = BucketLock.from_bytes(stored)
    content = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
    if lock.mode:
        period = f"<Days>{lock.days}</Days>" if lock.days else f"<Years>{lock.years}</Years>"
        content += (
            f"<Rule><DefaultRetention><Mode>{lock.mode}</Mode>{period}</DefaultRetention></Rule>"
        )
    return document(_ROOT, content)


#: The object lock of a bucket, and the operations on it; it cannot be removed.
LOCK = BucketSetting(
    SETTING,
    (
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
    ),
    _read,
    _show,
    check=_check,
    covered=True,
)
