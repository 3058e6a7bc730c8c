# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How buckets keep versions, as commits of versions expect it.

That is a setting of the bucket, which lies in another space than its versions, so that no commit
can expect it.  So a copy lies among the versions, and every commit expects the copy.  Whoever is
about to write reads the copy first and then the setting: when both are the same, and the copy
still is at the commit, the setting has not been changed and acknowledged meanwhile.
"""

from functools import lru_cache

from attrs import define

from kypello.errors import Conflict, StorageFailed
from kypello.interfaces import IIndex
from kypello.model import Write
from kypello.store.records import (
    META,
    STATE,
    SYSTEM,
    BucketRecord,
    StateRecord,
    bucket_key,
    pack,
    unpack,
)
from kypello.store.undisturbed import undisturbed
from kypello.versioning import SETTING, Versioning, versioning_of

#: How often a copy is written again when others change the setting, before the call fails.
_ATTEMPTS = 256


@define(eq=False)
class States:
    """
    The copies in the spaces of buckets.
    """

    _index: IIndex

    async def is_copied(self, bucket: str, space: str, copy: bytes | None) -> bool:
        """
        Whether a copy, as it was read, is the same as the setting; if not, it is made so, and
        whoever has read it looks again.

        :raises StorageFailed:
        """
        setting = await self._setting(bucket, space)
        if setting is None or setting == _copied(copy):
            # Of a bucket that is gone nothing is written anyway.
            return True
        await undisturbed(self._copy(bucket, space))
        return False

    async def copy(self, bucket: str, space: str) -> None:
        """
        Bring the copy up to date, behind a change of the setting.

        :raises StorageFailed: It is made up for before anything is written.
        """
        await undisturbed(self._copy(bucket, space))

    async def _copy(self, bucket: str, space: str) -> None:
        for _ in range(_ATTEMPTS):
            meta, raw = await self._index.get(space, [META, STATE])
            setting = await self._setting(bucket, space)
            if meta is None or setting is None or setting == _copied(raw):
                return
            revision = 1 if raw is None else unpack(StateRecord, raw).revision + 1
            written = Write(STATE, pack(StateRecord(setting, revision)))
            try:
                await self._index.commit(space, [written], {META: meta, STATE: raw}, ())
            except Conflict:
                continue
        raise StorageFailed(f"too many changes of the versioning of {bucket} at once")

    async def _setting(self, bucket: str, space: str) -> bytes | None:
        (raw,) = await self._index.get(SYSTEM, [bucket_key(bucket)])
        if raw is None:
            return None
        owner, setting = _set(raw)
        return setting if owner == space else None


def read_state(copy: bytes | None) -> Versioning | None:
    """
    How versions are kept, as a copy tells it; ``None`` when there never were any.
    """
    return versioning_of({SETTING: _copied(copy)})


@lru_cache(maxsize=256)
def _copied(copy: bytes | None) -> bytes:
    return b"" if copy is None else unpack(StateRecord, copy).setting


@lru_cache(maxsize=256)
def _set(raw: bytes) -> tuple[str, bytes]:
    """
    The space of a bucket, and the setting.
    """
    record = unpack(BucketRecord, raw)
    return record.space, record.settings.get(SETTING, b"")
