# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Removes what is over: versions, by the rules of their bucket, and unfinished uploads.

It comes along with who walks over everything.  What it saw may have changed when it acts, so each
removal is made on condition that its version is as it was seen: still the current one, or still
not, with the same tags, and not locked.  What is not goes on living until the next round.
"""

from collections.abc import Mapping, Sequence

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kypello.errors import KypelloError, NoSuchBucket, NoSuchUpload
from kypello.interfaces import IEventSink, IObjectStore
from kypello.lifecycle.fates import Action, Fates, Removal
from kypello.lifecycle.rules import Rule, rules_of
from kypello.model import BucketInfo, Deletion, Event, ListedVersion, ObjectInfo
from kypello.objectlock import is_protected
from kypello.scanner.over import Over

_log = Logger()


class _Changed(KypelloError):
    """
    Something is not as it was seen.
    """


@frozen(eq=False)
class _Check:
    """
    What must hold in the instant in which a version is removed.
    """

    _removal: Removal
    _clock: IReactorTime

    def current(self, found: ObjectInfo | None) -> None:
        """
        Called with what is current.

        :raises _Changed:
        """
        removal, version = self._removal, self._removal.version
        is_current = found is not None and _same(found, version.info)
        goes = removal.last or removal.action is Action.EXPIRE
        if is_current != (goes and not version.marker):
            raise _Changed()
        # A delete marker that hides what is below hides it no more if there is something above.
        if removal.last and version.marker and found is not None:
            raise _Changed()

    def removed(self, found: ObjectInfo | None) -> None:
        """
        Called with what is removed for good.

        :raises _Changed:
        """
        if found is None:
            return
        if is_protected(found.metadata.lock, _now(self._clock)):
            raise _Changed()
        if self._removal.action is Action.REMOVE and not _same(found, self._removal.version.info):
            raise _Changed()


def _same(found: ObjectInfo, seen: ObjectInfo) -> bool:
    return (found.version_id, found.modified, found.metadata.tags) == (
        seen.version_id,
        seen.modified,
        seen.metadata.tags,
    )


def _now(clock: IReactorTime) -> int:
    return int(clock.seconds() * 1e9)


@define(eq=False)
class ExpiryVisitor:
    """
    Removes what is over in all buckets.

    :ivar _store: Above the encryption.
    :ivar _events: Told what was removed; ``None`` when nobody is.
    """

    _store: IObjectStore
    _clock: IReactorTime
    _over: Over
    _events: IEventSink | None = None

    async def enter(self, bucket: BucketInfo) -> "ExpiryVisit":
        """
        Begin with a bucket.
        """
        return ExpiryVisit(bucket.name, self._store, self._clock, self._over, self._events)

    async def finish(self, buckets: Sequence[BucketInfo]) -> None:
        """
        Nothing is left to do.
        """


@define(eq=False)
class ExpiryVisit:
    """
    Removes what is over in one bucket.

    :ivar _settings: Of the bucket, as they were just now.
    :ivar _fates: What becomes of the versions.
    :ivar _failed: The last key of which something that was over could not be removed.
    :ivar _done: How many versions have expired, were removed, and how many uploads were aborted.
    """

    _bucket: str
    _store: IObjectStore
    _clock: IReactorTime
    _over: Over
    _events: IEventSink | None
    _settings: Mapping[str, bytes] = field(init=False, factory=dict)
    _fates: Fates = field(init=False)
    _failed: str = field(init=False, default="")
    _errors: int = field(init=False, default=0)
    _done: dict[str, int] = field(init=False, factory=dict)

    @_fates.default
    def _make_fates(self) -> Fates:
        return Fates(self._over.calendar)

    async def page(self, versions: Sequence[ListedVersion]) -> None:
        """
        Remove what is over of some versions.
        """
        rules = await self._rules()
        for version in versions:
            for removal in self._fates.see(rules, version, _now(self._clock)):
                await self._remove(removal)

    async def end(self) -> None:
        """
        Remove the rest, and abort uploads.
        """
        for removal in self._fates.end():
            await self._remove(removal)
        await self._uploads()
        if self._done or self._errors:
            _log.info(
                "the lifecycle of {bucket}: {done}; {errors} could not be done",
                bucket=self._bucket,
                done=", ".join(f"{count} {what}" for what, count in self._done.items())
                or "nothing",
                errors=self._errors,
            )

    async def _rules(self) -> Sequence[Rule]:
        # As they are now: whoever takes one back wants nothing more to go.
        self._settings = (await self._store.bucket(self._bucket)).settings
        return rules_of(self._settings)

    async def _remove(self, removal: Removal) -> None:
        info = removal.version.info
        if removal.last and self._failed == info.key:
            return
        check = _Check(removal, self._clock)
        version_id = info.version_id if removal.action is Action.REMOVE else ""
        try:
            deletion = await self._store.delete(
                self._bucket, info.key, check.current, version_id, check.removed
            )
        except _Changed:
            self._failed = info.key
        except NoSuchBucket:
            raise
        except KypelloError as error:
            self._failed = info.key
            self._tell(f"{info.key!r} does not expire", error)
        else:
            self._count("expired" if removal.action is Action.EXPIRE else "removed")
            await self._announce(removal, deletion)

    async def _announce(self, removal: Removal, deletion: Deletion) -> None:
        """
        Tell those who want to hear of it.
        """
        if self._events is None or not self._events.wanted(self._settings):
            return
        made = removal.action is Action.EXPIRE and deletion.marker
        event = Event(
            f"s3:LifecycleExpiration:{'DeleteMarkerCreated' if made else 'Delete'}",
            self._bucket,
            _now(self._clock),
            removal.version.info.key,
            deletion.version_id,
        )
        await self._events.tell(event, self._settings)

    async def _uploads(self) -> None:
        rules, now = await self._rules(), _now(self._clock)
        async for upload, _due in self._over.uploads(self._bucket, rules, now):
            try:
                await self._store.abort_upload(self._bucket, upload.key, upload.upload_id)
            except NoSuchUpload:
                # It was completed or aborted just now.
                continue
            except NoSuchBucket:
                raise
            except KypelloError as error:
                self._tell(f"the upload {upload.upload_id} is not aborted", error)
            else:
                self._count("uploads aborted")

    def _count(self, what: str) -> None:
        self._done[what] = self._done.get(what, 0) + 1

    def _tell(self, what: str, error: KypelloError) -> None:
        """
        Log the first failure; there may be as many as there are objects.
        """
        if not self._errors:
            _log.warn("{bucket}: {what}: {error}", bucket=self._bucket, what=what, error=error)
        self._errors += 1
