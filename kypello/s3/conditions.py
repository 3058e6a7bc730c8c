# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Conditional reads and writes (RFC 9110, section 13, as S3 understands it).
"""

from kypello.auth.dates import read_http_date
from kypello.auth.request import RequestHead
from kypello.errors import NoSuchKey, PreconditionFailed
from kypello.interfaces import Condition
from kypello.model import ObjectInfo

_SECOND = 1_000_000_000
_SOURCE = "x-amz-copy-source-"


def matches(stated: str, etag: str) -> bool:
    """
    Whether a header names the entity tag: ``*``, one tag or a list, quoted or not.

    Weak tags never match.
    """
    names = [name.strip() for name in stated.split(",")]
    return "*" in names or any(_unquoted(name) == etag for name in names)


def is_not_modified(head: RequestHead, info: ObjectInfo, now: float, prefix: str = "") -> bool:
    """
    Check the conditions of a read.

    :param now: Seconds since the epoch.
    :param prefix: What the names of the headers begin with.
    :return: Whether the client has the object already.
    :raises PreconditionFailed:
    """
    modified = info.modified // _SECOND
    if_match = head.header(f"{prefix}if-match")
    if if_match is not None:
        if not matches(if_match, info.etag):
            raise PreconditionFailed(f"{prefix}If-Match")
    else:
        unmodified_since = _date(head, f"{prefix}if-unmodified-since")
        if unmodified_since is not None and modified > unmodified_since:
            raise PreconditionFailed(f"{prefix}If-Unmodified-Since")
    if_none_match = head.header(f"{prefix}if-none-match")
    if if_none_match is not None:
        return matches(if_none_match, info.etag)
    modified_since = _date(head, f"{prefix}if-modified-since")
    return modified_since is not None and modified <= modified_since <= now


def check_source(head: RequestHead, info: ObjectInfo, now: float) -> None:
    """
    Check the conditions on the source of a copy.

    :param now: Seconds since the epoch.
    :raises PreconditionFailed: Also where a read would tell that nothing has changed.
    """
    if is_not_modified(head, info, now, _SOURCE):
        named = head.header(f"{_SOURCE}if-none-match") is not None
        raise PreconditionFailed(_SOURCE + ("If-None-Match" if named else "If-Modified-Since"))


def write_condition(head: RequestHead, bucket: str, key: str) -> Condition | None:
    """
    The condition of a PUT, checked in the instant of its commit.
    """
    if_match, if_none_match = head.header("if-match"), head.header("if-none-match")
    if if_match is None and if_none_match is None:
        return None

    def check(current: ObjectInfo | None) -> None:
        """
        Let the write happen, or not.
        """
        if if_match is not None:
            if current is None:
                raise NoSuchKey(bucket, key)
            if not matches(if_match, current.etag):
                raise PreconditionFailed("If-Match")
        if if_none_match is None or current is None:
            return
        if matches(if_none_match, current.etag):
            raise PreconditionFailed("If-None-Match")

    return check


def delete_condition(if_match: str | None) -> Condition | None:
    """
    The condition of a deletion; an object that is gone fulfils it.
    """
    if if_match is None:
        return None

    def check(current: ObjectInfo | None) -> None:
        """
        Let the deletion happen, or not.
        """
        if current is not None and not matches(if_match, current.etag):
            raise PreconditionFailed("If-Match")

    return check


def _unquoted(name: str) -> str:
    return name[1:-1] if len(name) >= 2 and name[0] == name[-1] == '"' else name


def _date(head: RequestHead, name: str) -> int | None:
    stated = head.header(name)
    return None if stated is None else read_http_date(stated)
