# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A store whose buckets hold no more than their quotas.

Reading goes through nothing of this.  Who writes holds room before the body is read, and what
takes the place of something else needs room beside it, until that is gone.
"""

from collections.abc import Sequence

from attrs import define, field

from kypello.interfaces import Assemble, Condition, Describe, Guard, IBodySource
from kypello.model import (
    NULL_VERSION,
    Assembly,
    CustomerKey,
    Deletion,
    EncryptionRequest,
    ObjectInfo,
    PartInfo,
    UploadInfo,
)
from kypello.store.layout import LayoutStore
from kypello.store.quotaledger import Ledger
from kypello.store.quotas import LimitedBody, Quotas, Room


@define(eq=False)
class _Watch:
    """
    A condition, or a guard, that takes note of what it is given in the instant of a commit.

    :ivar seen: That.
    """

    _check: Condition | Guard | None
    seen: ObjectInfo | None = None

    def __call__(self, seen: ObjectInfo | None) -> None:
        """
        Take note, and check.
        """
        self.seen = seen
        if self._check is not None:
            self._check(seen)

    def settle(self, room: Room, made: ObjectInfo) -> None:
        """
        Tell what a version has taken, and what it has taken the place of, as a condition saw it.
        """
        current, removed = self.seen, 0
        if made.version_id == NULL_VERSION and current is not None:
            if current.version_id == NULL_VERSION:
                removed = current.size
            else:
                # There may have been an older version of this id.
                room.doubt()
        room.settle(made.size, removed)


@define(eq=False)
class LimitedStore(LayoutStore):
    """
    The object store over any index and blobs, with quotas.

    :ivar _ledger: What the processes of a server tell each other about the room in buckets.
    :ivar quotas: That room.
    """

    _ledger: Ledger = field(factory=Ledger)
    quotas: Quotas = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing is counted yet.
        """
        super().__attrs_post_init__()
        self.quotas = Quotas(self._clock, self.list_versions, self._ledger)

    async def put(
        self,
        bucket: str,
        key: str,
        body: IBodySource,
        describe: Describe,
        encryption: EncryptionRequest | None = None,
        condition: Condition | None = None,
    ) -> ObjectInfo:
        """
        Store an object, if there is room.

        :raises QuotaExceeded: Before the body is read, if its size is known.
        """
        try:
            room = await self.quotas.room(await self.bucket(bucket), body.size)
            if room is None:
                return await super().put(bucket, key, body, describe, encryption, condition)
            watch = _Watch(condition)
            limited = body if body.size is not None else LimitedBody(body, room)
            try:
                made = await super().put(bucket, key, limited, describe, encryption, watch)
            except BaseException:
                room.settle()
                raise
            watch.settle(room, made)
            return made
        finally:
            body.close()

    async def delete(
        self,
        bucket: str,
        key: str,
        condition: Condition | None = None,
        version_id: str = "",
        guard: Guard | None = None,
    ) -> Deletion:
        """
        Remove an object, or a version, and tell how much room there is more.
        """
        room = self.quotas.watch(await self.bucket(bucket))
        if room is None:
            return await super().delete(bucket, key, condition, version_id, guard)
        watch = _Watch(guard)
        deletion = await super().delete(bucket, key, condition, version_id, watch)
        if watch.seen is not None:
            room.settle(removed=watch.seen.size)
        return deletion

    async def put_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        body: IBodySource,
        describe: Describe,
        customer_key: CustomerKey | None = None,
    ) -> PartInfo:
        """
        Store one part, if there is room for it; it takes that when the upload is completed.

        :raises QuotaExceeded: Before the body is read, if its size is known.
        """
        try:
            room = await self.quotas.room(await self.bucket(bucket), body.size)
            limited = body if room is None or body.size is not None else LimitedBody(body, room)
            try:
                return await super().put_part(
                    bucket,
                    key,
                    upload_id,
                    number,
                    limited,
                    describe,
                    customer_key,
                )
            finally:
                if room is not None:
                    room.settle()
        finally:
            body.close()

    async def complete_upload(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        request: bytes,
        assemble: Assemble,
        condition: Condition | None = None,
        customer_key: CustomerKey | None = None,
    ) -> ObjectInfo:
        """
        Make the object of an upload current, if there is room.

        :raises QuotaExceeded: The upload is as it was.
        """
        room = await self.quotas.room(await self.bucket(bucket))
        if room is None:
            return await super().complete_upload(
                bucket, key, upload_id, request, assemble, condition, customer_key
            )
        watch = _Watch(condition)
        limited = _Limited(assemble, room)
        try:
            made = await super().complete_upload(
                bucket, key, upload_id, request, limited, watch, customer_key
            )
        except BaseException:
            room.settle()
            raise
        if limited.made:
            watch.settle(room, made)
        return made


@define(eq=False)
class _Limited:
    """
    Tells what an object is made of, if there is room for it.

    :ivar made: Whether it was asked: an upload that had been completed before is not made again.
    """

    _assemble: Assemble
    _room: Room
    made: bool = False

    def __call__(self, upload: UploadInfo, parts: Sequence[PartInfo]) -> Assembly:
        """
        Ask, and hold room.

        :raises QuotaExceeded:
        """
        assembly = self._assemble(upload, parts)
        numbers = set(assembly.numbers)
        self._room.grow(sum(part.size for part in parts if part.number in numbers))
        self.made = True
        return assembly
