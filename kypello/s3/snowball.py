# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Archives whose entries become objects: many small ones with one request.

Entries are stored as they come, so that nothing holds the archive.  What was stored before
something goes wrong stays so: a client repeats the whole.
"""

from collections.abc import Coroutine
from functools import partial
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from kypello.auth.request import RequestHead
from kypello.errors import KypelloError, Refused
from kypello.http.response import Response
from kypello.interfaces import IBodySource
from kypello.model import Buffer, EncryptionRequest, Lock, ObjectMetadata
from kypello.objects.workers import AT_ONCE
from kypello.s3.bucketconfig import check_encryption
from kypello.s3.call import Call
from kypello.s3.digests import digested
from kypello.s3.encryption import is_opaque, read_write_encryption
from kypello.s3.errors import not_implemented
from kypello.s3.expanding import ExpandedSource
from kypello.s3.headers import StoredHeaders, read_stored_headers
from kypello.s3.locking import read_lock, require_lock, with_lock
from kypello.s3.names import check_key
from kypello.s3.payload import Payload
from kypello.s3.tar import Entry, Kind
from kypello.s3.unpacking import Archive

_EXTRACT = "x-amz-meta-snowball-auto-extract"
_OPTIONS = ("x-amz-meta-minio-snowball-", "x-amz-meta-snowball-")
_PREFIX, _IGNORE_DIRS, _IGNORE_ERRORS = (
    f"x-amz-meta-minio-snowball-{name}" for name in ("prefix", "ignore-dirs", "ignore-errors")
)

#: Entries that have something to store.
_STORED = frozenset((Kind.FILE, Kind.FOLDER))

#: Entries up to this size, in bytes, are stored several at once.
_SMALL = 64 * 1024

#: Headers that are about the archive, or about one object that there was.
_ALONE = ("if-match", "if-none-match")


def wants_unpacking(head: RequestHead) -> bool:
    """
    Whether what is stored is an archive whose entries shall become objects.
    """
    return (head.header(_EXTRACT) or "").lower() == "true"


@frozen
class _Put:
    """
    What a request asks for.

    :ivar prefix: Of all keys.
    :ivar folders: Whether folders become objects, too.
    :ivar careless: Entries that cannot be stored are passed over.
    """

    headers: StoredHeaders
    lock: Lock
    encryption: EncryptionRequest | None
    prefix: str
    folders: bool
    careless: bool
    payload: Payload


@implementer(IBodySource)
@define(eq=False)
class _Small:
    """
    Content that has come.
    """

    _content: bytes = field(repr=False)
    size: int | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Its size is known.
        """
        self.size = len(self._content)

    async def read(self) -> Buffer:
        """
        Give all of it, once.
        """
        content, self._content = self._content, b""
        return content

    def close(self) -> None:
        """
        There is nothing to give up.
        """


@define(eq=False)
class _Storing:
    """
    Entries that are being stored, several at once, but each key once.

    :ivar _running: By key.
    :ivar _failure: Of the first one that failed.
    """

    _running: dict[str, Deferred[None]] = field(factory=dict)
    _failure: Failure | None = None

    async def wait_for(self, key: str) -> None:
        """
        Wait until there is room for one more, and nothing is being stored under its key.

        :raises KypelloError: That of one which failed.
        """
        while key in self._running or len(self._running) >= AT_ONCE:
            await self._ended(self._running.get(key) or next(iter(self._running.values())))
        self._check()

    def begin(self, key: str, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """
        Store one more.
        """
        running = self._running[key] = Deferred.fromCoroutine(work)
        running.addErrback(self._failed)
        running.addCallback(lambda _: self._forget(key))

    async def end(self) -> None:
        """
        Wait for all.

        :raises KypelloError: That of one which failed.
        """
        while self._running:
            await self._ended(next(iter(self._running.values())))
        self._check()

    def cancel(self) -> None:
        """
        Give up what is under way.
        """
        for running in list(self._running.values()):
            running.cancel()

    def _forget(self, key: str) -> None:
        del self._running[key]

    async def _ended(self, running: Deferred[None]) -> None:
        waiting: Deferred[None] = Deferred()

        def wake(_result: object) -> None:
            """
            Go on, unless nobody waits any more.
            """
            if not waiting.called:
                waiting.callback(None)

        running.addBoth(wake)
        await waiting

    def _failed(self, failure: Failure) -> None:
        if self._failure is None:
            self._failure = failure

    def _check(self) -> None:
        if self._failure is not None:
            self._failure.raiseException()


async def put_archive(call: Call) -> Response:
    """
    Store the entries of an archive.
    """
    put = await call.check(partial(_read_put, call))
    await check_encryption(call, put.encryption)
    await call.front.store.bucket(call.bucket)
    lane, storing = call.front.lanes.lane(), _Storing()
    source = ExpandedSource(put.payload, lane)
    archive = Archive.of(source)
    try:
        while (entry := await archive.next()) is not None:
            if entry.kind not in _STORED or (entry.kind is Kind.FOLDER and not put.folders):
                continue
            try:
                key = _key(put.prefix, entry)
            except Refused:
                if put.careless:
                    continue
                raise
            content: IBodySource = archive.content
            if entry.size <= _SMALL:
                content = _Small(await _all(content))
            await storing.wait_for(key)
            storing.begin(key, _try_store(evolve(call, key=key), put, content))
            if entry.size > _SMALL:
                await storing.end()
        # What follows the archive belongs to what is verified.
        while len(await source.read()):
            pass
        await storing.end()
    finally:
        storing.cancel()
        put.payload.close()
    return Response(200, [("ETag", f'"{put.payload.md5}"')])


async def _all(source: IBodySource) -> bytes:
    pieces = []
    while len(piece := await source.read()):
        pieces.append(bytes(piece))
    return b"".join(pieces)


async def _try_store(one: Call, put: _Put, source: IBodySource) -> None:
    try:
        await _store(one, put, source)
    except KypelloError:
        if not put.careless:
            raise


async def _store(one: Call, put: _Put, source: IBodySource) -> None:
    """
    Store one entry, as a PUT of its own would.
    """
    limit, size = one.front.max_object, source.size or 0
    if size > limit:
        raise _too_large(size, limit)
    tags = put.headers.tags
    await one.require("s3:PutObject")
    if tags:
        await one.require("s3:PutObjectTagging")
    await require_lock(one, put.lock)
    body = digested(source, one.front.lanes, (), want_md5=not is_opaque(put.encryption))

    def describe(_size: int) -> ObjectMetadata:
        """
        The metadata, once all of it has passed.
        """
        return with_lock(one, put.lock, put.headers.describe(body.md5, {}))

    info = await one.front.store.put(one.bucket, one.key, body, describe, put.encryption)
    await one.announce("s3:ObjectCreated:Put", info)


def _key(prefix: str, entry: Entry) -> str:
    """
    The key of an entry.

    :raises Refused: ``InvalidRequest`` for a name that leads elsewhere, or no key can be.
    """
    name = entry.name
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    try:
        key = prefix + name
        key.encode()
    except UnicodeEncodeError:
        raise _misnamed("is no UTF-8") from None
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise _misnamed("leads out of it")
    if entry.kind is Kind.FOLDER and not key.endswith("/"):
        key += "/"
    check_key(key)
    return key


def _too_large(size: int, limit: int) -> Refused:
    return Refused(
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed object size.",
        {"ProposedSize": str(size), "MaxSizeAllowed": str(limit)},
    )


def _misnamed(reason: str) -> Refused:
    return Refused("InvalidRequest", f"The name of an entry of the archive {reason}.")


def _read_put(call: Call) -> _Put:
    head, front = call.head, call.front
    for name in _ALONE:
        if head.header(name) is not None:
            raise not_implemented(name)
    if head.header("content-length") is None and head.header("transfer-encoding") is None:
        raise Refused("MissingContentLength", "You must provide the Content-Length HTTP header.")
    headers = read_stored_headers(_about_entries(head), front.storage_classes)
    encryption = read_write_encryption(head, loopback=front.allow_insecure_customer_keys)
    prefix = (head.header(_PREFIX) or "").strip("/")
    payload = call.payload(want_md5=True)
    limit = front.max_object
    if payload.size is not None and payload.size > limit:
        raise _too_large(payload.size, limit)
    return _Put(
        headers,
        read_lock(call),
        encryption,
        prefix + "/" if prefix else "",
        not _is_set(head, _IGNORE_DIRS),
        _is_set(head, _IGNORE_ERRORS),
        payload,
    )


def _about_entries(head: RequestHead) -> RequestHead:
    """
    The request without what is about the archive.
    """
    kept = tuple(
        pair
        for pair in head.headers
        if pair[0] not in ("content-type", "content-encoding") and not pair[0].startswith(_OPTIONS)
    )
    return evolve(head, headers=kept)


def _is_set(head: RequestHead, name: str) -> bool:
    return (head.header(name) or "").lower() == "true"
