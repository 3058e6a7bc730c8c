# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Names of buckets and keys, and how a path holds them.
"""

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from kypello.errors import Refused

#: The longest key, in bytes of UTF-8.
MAX_KEY = 1024

_BUCKET = re.compile("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile("[0-9]{1,3}(?:[.][0-9]{1,3}){3}")
_BAD_ESCAPE = re.compile(b"%(?![0-9A-Fa-f]{2})")


def split_target(target: bytes, host_bucket: bytes = b"") -> tuple[bytes, bytes]:
    """
    The name of a bucket and the key in a request target, decoded once, and nothing else done to
    them.

    :param target: Path and query as sent.
    :param host_bucket: The bucket that the host names: the path then is the key.
    :return: Both empty for the path ``/``.
    :raises Refused: ``InvalidURI``; also for a query that cannot be decoded.
    """
    if _BAD_ESCAPE.search(target) or not target.startswith(b"/"):
        raise invalid_uri()
    path = target.partition(b"?")[0]
    if host_bucket:
        return host_bucket, unquote_to_bytes(path[1:])
    bucket, _slash, key = unquote_to_bytes(path[1:]).partition(b"/")
    if not bucket and path != b"/":
        raise invalid_uri()
    return bucket, key


def check_bucket_name(name: str) -> None:
    """
    See that a bucket may have this name.

    :raises Refused: ``InvalidBucketName``.
    """
    if not _is_bucket_name(name):
        raise Refused("InvalidBucketName", "The specified bucket is not valid.")


@lru_cache(maxsize=256)
def _is_bucket_name(name: str) -> bool:
    doubtful = ".." in name or ".-" in name or "-." in name
    return not (doubtful or not _BUCKET.fullmatch(name) or _ADDRESS.fullmatch(name))


def check_key(key: str) -> None:
    """
    See that an object may have this key.

    :raises Refused: ``KeyTooLongError``, or ``InvalidURI`` for what would climb out of the
        bucket if it were the name of a file, as it may become at the client.
    """
    size = len(key) if key.isascii() else len(key.encode())
    if size > MAX_KEY:
        raise Refused(
            "KeyTooLongError",
            "Your key is too long",
            {"Size": str(size), "MaxSizeAllowed": str(MAX_KEY)},
        )
    if "\0" in key or (".." in key and _climbs(key)):
        raise invalid_uri()


def invalid_uri() -> Refused:
    """
    The refusal of a path or query that cannot be read.
    """
    return Refused("InvalidURI", "Couldn't parse the specified URI.")


def _climbs(key: str) -> bool:
    depth = 0
    for segment in key.split("/"):
        if segment == "..":
            depth -= 1
        elif segment not in ("", "."):
            depth += 1
        if depth < 0:
            return True
    return False
