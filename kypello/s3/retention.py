# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The retention and the legal hold of a version: what is told of them, and how they are set.
"""

from collections.abc import Callable
from functools import partial

from attrs import evolve

from kypello.auth.dates import read_iso_date
from kypello.errors import Refused
from kypello.http.response import Response
from kypello.model import NO_LOCK, Lock, ObjectInfo, ObjectMetadata
from kypello.objectlock import MODES, SETTING, check_retention
from kypello.s3.call import Call
from kypello.s3.dates import xml_date
from kypello.s3.locking import (
    HOLDS,
    bypasses,
    check_future,
    hold_word,
    lock_words,
    missing_lock,
)
from kypello.s3.versions import read_version, version_headers
from kypello.s3.xml import CONTENT_TYPE, child_texts, document, malformed, read_document

_RETENTION = frozenset({"Mode", "RetainUntilDate"})
_STATUS = frozenset({"Status"})

#: The largest document, in bytes.
_LIMIT = 16 * 1024


async def get_object_retention(call: Call) -> Response:
    """
    Tell the retention of a version, also one that is over.
    """
    info = await _told(call)
    lock = info.metadata.lock
    if not lock.mode:
        raise _not_set()
    content = f"<Mode>{lock.mode}</Mode><RetainUntilDate>{xml_date(lock.until)}</RetainUntilDate>"
    headers = [CONTENT_TYPE, *version_headers(call.settings, info.version_id)]
    await call.announce("s3:ObjectAccessed:GetRetention", info)
    return Response(200, headers, document("Retention", content))


async def get_object_legal_hold(call: Call) -> Response:
    """
    Tell whether there is a legal hold on a version.
    """
    info = await _told(call)
    hold = info.metadata.lock.hold
    if hold is None:
        raise _not_set()
    headers = [CONTENT_TYPE, *version_headers(call.settings, info.version_id)]
    content = f"<Status>{hold_word(hold)}</Status>"
    await call.announce("s3:ObjectAccessed:GetLegalHold", info)
    return Response(200, headers, document("LegalHold", content))


async def put_object_retention(call: Call) -> Response:
    """
    Set or change the retention of a version, or end it.
    """
    wanted = await _read(call, "s3:PutObjectRetention", _read_retention)
    bypass = await bypasses(call, call.key, lock_words(wanted))

    def change(info: ObjectInfo) -> ObjectMetadata:
        """
        Leave all else as it is.
        """
        lock = info.metadata.lock
        check_retention(lock, wanted, call.now(), bypass=bypass)
        return evolve(info.metadata, lock=evolve(wanted, hold=lock.hold))

    return await _change(call, change, "PutRetention")


async def put_object_legal_hold(call: Call) -> Response:
    """
    Put a legal hold on a version, or lift it.
    """
    wanted = await _read(call, "s3:PutObjectLegalHold", _read_hold)

    def change(info: ObjectInfo) -> ObjectMetadata:
        """
        Leave all else as it is.
        """
        return evolve(info.metadata, lock=evolve(info.metadata.lock, hold=wanted.hold))

    return await _change(call, change, "PutLegalHold")


async def _read(call: Call, action: str, read: Callable[[Call, bytes], Lock]) -> Lock:
    """
    What a request wants, after whoever sent it was seen to be permitted that: policies may ask
    for what the document says.

    :raises Refused: They may not, or the document is none.
    """
    try:
        wanted = read(call, await call.read_document(_LIMIT, covered=True))
    except Refused:
        # Who may not do it learns nothing else.
        await call.require(action)
        await call.front.store.bucket(call.bucket)
        raise
    await call.require(action, lock=lock_words(wanted))
    return wanted


async def _change(
    call: Call, change: Callable[[ObjectInfo], ObjectMetadata], kind: str
) -> Response:
    """
    Change a version, and tell of it.

    :param kind: Of the event.
    """
    version_id = await call.check(partial(read_version, call.head))
    await _check_bucket(call, version_id)
    info = await call.front.store.change_version(call.bucket, call.key, version_id, change)
    await call.announce(f"s3:ObjectCreated:{kind}", info)
    return Response(200, list(version_headers(call.settings, info.version_id)))


async def _told(call: Call) -> ObjectInfo:
    """
    A version, as far as it is told without the key that its client may have.
    """
    version_id = await call.check(partial(read_version, call.head))
    await _check_bucket(call, version_id)
    return await _look(call, version_id)


async def _check_bucket(call: Call, version_id: str) -> None:
    """
    See that versions can be locked.

    :raises Refused: ``InvalidRequest``.
    :raises KypelloError: There is no such version.
    """
    if SETTING not in call.settings:
        await _look(call, version_id)
        raise missing_lock()


async def _look(call: Call, version_id: str) -> ObjectInfo:
    # A change sees a version without the key of its client, and this one changes nothing.
    store = call.front.store
    return await store.change_version(call.bucket, call.key, version_id, lambda info: info.metadata)


def _read_retention(call: Call, body: bytes) -> Lock:
    texts = child_texts(read_document(body, "Retention"), _RETENTION)
    if not texts:
        return NO_LOCK
    mode, until = texts.get("Mode", "").strip(), read_iso_date(_date(texts))
    if mode not in MODES or until is None:
        raise malformed()
    check_future(until, call.now())
    return Lock(mode, until)


def _date(texts: dict[str, str]) -> str:
    return texts.get("RetainUntilDate", "").strip()


def _read_hold(_call: Call, body: bytes) -> Lock:
    status = child_texts(read_document(body, "LegalHold"), _STATUS).get("Status", "").strip()
    if status not in HOLDS:
        raise malformed()
    return Lock(hold=HOLDS[status])


def _not_set() -> Refused:
    return Refused(
        "NoSuchObjectLockConfiguration",
        "The specified object does not have a ObjectLock configuration",
    )
