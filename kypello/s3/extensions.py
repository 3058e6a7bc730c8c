# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What MinIO's clients ask for beyond S3: listings with metadata, and removal of all there is.
"""

import re
from collections.abc import Sequence
from functools import partial
from urllib.parse import urlencode

from kypello.auth.request import RequestHead
from kypello.errors import BucketNotEmpty, Refused
from kypello.http.response import Response
from kypello.model import SSE_C, ListedVersion, ObjectInfo, VersionQuery
from kypello.objectlock import SETTING
from kypello.objects.workers import for_each
from kypello.s3.call import Call
from kypello.s3.locking import removal_guard
from kypello.s3.objects import announce_removal
from kypello.s3.xml import escape_message

_FORCE = "x-minio-force-delete"
_EXTRACT = "x-minio-extract"

#: How headers begin that keep an object from being removed.
_CONDITIONS = ("if-", "x-amz-if-")

#: What can be the name of an element.
_ELEMENT = re.compile("[A-Za-z_][A-Za-z0-9_.-]*").fullmatch

#: How often a bucket is emptied that others go on filling.
_ROUNDS = 3


def is_forced(head: RequestHead) -> bool:
    """
    Whether a removal means everything below, too.
    """
    return _says_true(head, _FORCE)


def wants_extraction(head: RequestHead) -> bool:
    """
    Whether the key leads into an archive.
    """
    return _says_true(head, _EXTRACT)


async def force_delete_object(call: Call) -> Response:
    """
    Remove an object, and all those whose keys go on after it with a slash, with all versions.

    :raises Refused: ``MethodNotAllowed`` where versions can be locked, or ``InvalidRequest``.
    """
    await call.check(partial(_check_whole, call.head))
    _check_lock(call)
    await _remove_all(call, call.key, only=True)
    await _remove_all(call, call.key if call.key.endswith("/") else f"{call.key}/")
    return Response(204)


async def force_delete_bucket(call: Call) -> Response:
    """
    Remove a bucket with all that is in it.

    :raises BucketNotEmpty: Others have filled it again and again.
    :raises Refused: ``MethodNotAllowed`` where versions can be locked.
    """
    _check_lock(call)
    store = call.front.store
    for _ in range(_ROUNDS):
        await _remove_all(call, "")
        try:
            await store.delete_bucket(call.bucket)
        except BucketNotEmpty:
            continue
        await call.announce("s3:BucketRemoved:*")
        return Response(204)
    raise BucketNotEmpty(call.bucket)


async def metadata_elements(call: Call, objects: Sequence[ObjectInfo]) -> Sequence[str]:
    """
    The metadata of listed objects, if the request wants that: as much of it as whoever sent it
    may read.
    """
    if not wants_metadata(call.head):
        return [""] * len(objects)
    return [await _shown(call, info) for info in objects]


def wants_metadata(head: RequestHead) -> bool:
    """
    Whether a listing is to tell metadata, too.
    """
    return (head.parameter("metadata") or "").lower() == "true"


async def _shown(call: Call, info: ObjectInfo) -> str:
    sealing, bucket = info.metadata.sealing, call.bucket
    if sealing is not None and sealing.algorithm == SSE_C:
        # Whoever may see them has the key.
        return ""
    shown = _metadata(info) if await call.may("s3:GetObject", bucket, info.key) else ""
    if info.metadata.tags and await call.may("s3:GetObjectTagging", bucket, info.key):
        shown += f"<UserTags>{escape_message(urlencode(info.metadata.tags))}</UserTags>"
    return shown


def _metadata(info: ObjectInfo) -> str:
    metadata = info.metadata
    found = dict(metadata.headers)
    for name, value in metadata.user.items():
        # Go's clients look for names in the spelling of their libraries.
        spelling = "-".join(word.capitalize() for word in name.split("-"))
        found[f"X-Amz-Meta-{spelling}"] = value
    content = "".join(
        f"<{name}>{escape_message(value)}</{name}>"
        for name, value in found.items()
        if _ELEMENT(name)
    )
    return f"<UserMetadata>{content}</UserMetadata>"


async def _remove_all(call: Call, prefix: str, *, only: bool = False) -> None:
    """
    Remove page by page all versions of what begins with a prefix.

    :param only: Remove nothing but the key that is the prefix.
    :raises Refused: ``AccessDenied``.
    """
    store, bucket = call.front.store, call.bucket

    async def remove(version: ListedVersion) -> None:
        """
        Remove one version.
        """
        info = version.info
        # Nothing is left of it, so whoever may not remove versions may not do this, either.
        for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
            await call.require(action, bucket, info.key)
        # The bucket may have got a lock meanwhile.
        guard = await removal_guard(call, info.key, info.version_id)
        deletion = await store.delete(bucket, info.key, None, info.version_id, guard)
        await announce_removal(call, info.key, info.version_id, deletion)

    following: tuple[str, str] | None = ("", "")
    while following is not None:
        query = VersionQuery(prefix, after_key=following[0], after_version=following[1])
        listing = await store.list_versions(bucket, query)
        wanted = [one for one in listing.versions if not only or one.info.key == prefix]
        await for_each(wanted, remove)
        # The key that is the prefix comes first of all that begin with it.
        following = listing.next if len(wanted) == len(listing.versions) else None


def _check_whole(head: RequestHead) -> None:
    """
    See that a request wants no less removed than all: what is not meant would be lost.

    :raises Refused: ``InvalidRequest``.
    """
    conditions = {name for name in head.header_names if name.startswith(_CONDITIONS)}
    if conditions or head.parameter("versionId"):
        raise Refused("InvalidRequest", f"{_FORCE} removes all versions, under whatever condition.")


def _check_lock(call: Call) -> None:
    """
    See that nothing can be in the way, so that nothing is removed by halves.

    :raises Refused: ``MethodNotAllowed``.
    """
    if SETTING in call.settings:
        raise Refused(
            "MethodNotAllowed",
            "Nothing is removed by force from a bucket with object lock.",
            {"Method": call.head.method, "AllowedMethods": "GET, HEAD, PUT"},
        )


def _says_true(head: RequestHead, name: str) -> bool:
    return (head.header(name) or "").lower() == "true"
