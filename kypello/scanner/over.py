# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tells what is over in a bucket: for those who remove it, and for those who only ask.
"""

from collections.abc import AsyncIterator, Sequence

from attrs import define, evolve, frozen

from kypello.errors import NoSuchUpload
from kypello.interfaces import IObjectStore
from kypello.lifecycle.fates import Calendar, Due, Fates, Removal, abortion_of
from kypello.lifecycle.rules import Rule, rules_of
from kypello.model import UploadInfo, UploadQuery, VersionQuery

#: How many uploads, and how many parts of one, are read at once.
_PAGE = UploadQuery(limit=100)
_PARTS = 1000

#: How many versions are read for one answer, but for those of the last key.
_MOST = 1000


@frozen
class Answer:
    """
    Some of the versions that are over.

    :ivar next: The key behind which the others are; ``None`` when there are no more.
    """

    removals: tuple[Removal, ...]
    next: str | None


@define(eq=False)
class Over:
    """
    Tells what is over.

    :ivar _store: Above the encryption.
    :ivar calendar: How days are counted.
    :ivar _stale: As in :class:`kypello.scannerconfig.ScannerSettings`.
    """

    _store: IObjectStore
    calendar: Calendar
    _stale: float | None

    async def versions(self, bucket: str, after: str, now: int) -> Answer:
        """
        The first versions that are over, by key.

        :param after: The key behind which to begin; empty for the beginning.
        :param now: In nanoseconds since the epoch.
        :raises NoSuchBucket:
        """
        rules = rules_of((await self._store.bucket(bucket)).settings)
        fates, found, seen, key = Fates(self.calendar), list[Removal](), 0, after
        following: tuple[str, str] | None = (after, "")
        while following is not None:
            query = VersionQuery(after_key=following[0], after_version=following[1])
            listing = await self._store.list_versions(bucket, query)
            for version in listing.versions:
                if seen >= _MOST and version.info.key != key:
                    return Answer((*found, *fates.end()), key)
                key, seen = version.info.key, seen + 1
                found += fates.see(rules, version, now)
            following = listing.next
        return Answer((*found, *fates.end()), None)

    async def uploads(
        self, bucket: str, rules: Sequence[Rule], now: int
    ) -> AsyncIterator[tuple[UploadInfo, Due]]:
        """
        The unfinished uploads that are over.

        :raises NoSuchBucket:
        """
        query: UploadQuery | None = _PAGE
        while query is not None:
            listing = await self._store.uploads(bucket, query)
            for upload in listing.uploads:
                due = await self._due(rules, upload, now)
                if due is not None and due.since <= now:
                    yield upload, due
            query = None
            if listing.next is not None:
                key, upload_id = listing.next
                query = evolve(_PAGE, after_key=key, after_upload=upload_id)

    async def _due(self, rules: Sequence[Rule], upload: UploadInfo, now: int) -> Due | None:
        due = abortion_of(rules, self.calendar, upload.key, upload.began)
        if due is not None or self._stale is None:
            return due
        patience = int(self._stale * 1e9)
        last = upload.began
        if last + patience <= now:
            last = await self._last_part(upload)
        return Due(last + patience, "")

    async def _last_part(self, upload: UploadInfo) -> int:
        """
        When the youngest part of an upload came, or it began.
        """
        last, after, more = upload.began, 0, True
        while more:
            try:
                parts = await self._store.parts(
                    upload.bucket, upload.key, upload.upload_id, after, _PARTS
                )
            except NoSuchUpload:
                # It was completed or aborted just now.
                return last
            last = max([last, *(part.modified for part in parts)])
            more = len(parts) == _PARTS
            after = parts[-1].number if parts else after
        return last
