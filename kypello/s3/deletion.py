# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The removal of many objects with one request.
"""

from collections.abc import Mapping

from attrs import frozen

from kypello.errors import KypelloError, NoSuchVersion
from kypello.http.response import Response
from kypello.model import Deletion
from kypello.objects.workers import for_each
from kypello.s3.call import Call
from kypello.s3.conditions import delete_condition
from kypello.s3.errors import not_implemented, translate
from kypello.s3.locking import removal_guard
from kypello.s3.names import check_key
from kypello.s3.objects import announce_removal
from kypello.s3.xml import (
    CONTENT_TYPE,
    child_texts,
    children,
    document,
    escape,
    escape_message,
    malformed,
    read_document,
)
from kypello.versioning import is_version_id

#: How many objects a request may name, and how long it may be in bytes.
MAX_OBJECTS = 1000
_MAX_DOCUMENT = 2 * 1024 * 1024

_DELETE = frozenset({"Object", "Quiet"})
_OBJECT = frozenset({"Key", "VersionId", "ETag", "LastModifiedTime", "Size"})

#: Conditions that would be lost, and with them perhaps the object.
_UNSUPPORTED = _OBJECT - {"Key", "VersionId", "ETag"}


@frozen
class _Entry:
    """
    One object to remove.

    :ivar version_id: Empty when none is named.
    :ivar etag: What the object must have; ``None`` for anything.
    :ivar unsupported: What else it asks for; empty for nothing.
    """

    key: str
    version_id: str
    etag: str | None
    unsupported: str

    def identified(self) -> str:
        """
        The elements that name the entry in the answer.
        """
        version = self.version_id and f"<VersionId>{escape(self.version_id)}</VersionId>"
        return f"<Key>{escape(self.key)}</Key>{version}"


async def delete_objects(call: Call) -> Response:
    """
    Remove up to 1000 objects; each succeeds or fails by itself.
    """
    await call.front.store.bucket(call.bucket)
    # No damaged list removes anything.
    entries, quiet = _read_entries(await call.read_document(_MAX_DOCUMENT, covered=True))
    results = [""] * len(entries)

    async def remove(numbered: tuple[int, _Entry]) -> None:
        """
        Remove one of them.
        """
        position, entry = numbered
        results[position] = await _result(call, entry, quiet)

    await for_each(enumerate(entries), remove)
    return Response(200, (CONTENT_TYPE,), document("DeleteResult", "".join(results)))


async def _result(call: Call, entry: _Entry, quiet: bool) -> str:
    try:
        deletion = await _remove(call, entry)
    except KypelloError as error:
        refused = translate(error, call.request_id, f"/{call.bucket}/{entry.key}")
        return (
            f"<Error>{entry.identified()}<Code>{escape_message(refused.code)}</Code>"
            f"<Message>{escape_message(refused.message)}</Message></Error>"
        )
    return "" if quiet else f"<Deleted>{entry.identified()}{_told(deletion)}</Deleted>"


def _told(deletion: Deletion) -> str:
    if not deletion.marker:
        return ""
    return (
        "<DeleteMarker>true</DeleteMarker>"
        f"<DeleteMarkerVersionId>{deletion.version_id}</DeleteMarkerVersionId>"
    )


async def _remove(call: Call, entry: _Entry) -> Deletion:
    if entry.unsupported:
        raise not_implemented(entry.unsupported)
    check_key(entry.key)
    if entry.version_id and not is_version_id(entry.version_id):
        raise NoSuchVersion(call.bucket, entry.key, entry.version_id)
    action = "s3:DeleteObjectVersion" if entry.version_id else "s3:DeleteObject"
    await call.require(action, call.bucket, entry.key)
    condition = delete_condition(entry.etag)
    guard = await removal_guard(call, entry.key, entry.version_id)
    deletion = await call.front.store.delete(
        call.bucket, entry.key, condition, entry.version_id, guard
    )
    await announce_removal(call, entry.key, entry.version_id, deletion)
    return deletion


def _read_entries(body: bytes) -> tuple[list[_Entry], bool]:
    quiet: bool | None = None
    entries = []
    for child in children(read_document(body, "Delete"), _DELETE):
        if child.tag == "Quiet":
            text = (child.text or "").strip().lower()
            if quiet is not None or len(child) or text not in ("true", "false", ""):
                raise malformed()
            quiet = text == "true"
        else:
            entries.append(_read_entry(child_texts(child, _OBJECT)))
    if not 1 <= len(entries) <= MAX_OBJECTS:
        raise malformed()
    return entries, bool(quiet)


def _read_entry(texts: Mapping[str, str]) -> _Entry:
    key, version_id = texts.get("Key", ""), texts.get("VersionId", "").strip()
    if not key:
        raise malformed()
    unsupported = ""
    for name in _UNSUPPORTED.intersection(texts):
        unsupported = name
    return _Entry(key, version_id, texts.get("ETag"), unsupported)
