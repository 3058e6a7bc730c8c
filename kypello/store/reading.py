# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How objects, and versions of them, are told and opened.
"""

from attrs import define, field

from kypello.errors import Damaged
from kypello.interfaces import IBlobs, IOpenObject
from kypello.model import CustomerKey, ObjectInfo
from kypello.store.opened import (
    BlobObject,
    PartsObject,
    SharedPin,
    SmallObject,
    SmallObjects,
)
from kypello.store.stacks import Version
from kypello.store.versions import Versions, refuse_key


@define(eq=False)
class Reading:
    """
    Tells and opens versions.
    """

    _blobs: IBlobs
    _versions: Versions
    _small: SmallObjects = field(init=False, factory=SmallObjects)

    async def head(
        self, bucket: str, key: str, customer_key: CustomerKey | None, version_id: str
    ) -> ObjectInfo:
        """
        Tell a version of an object.

        :raises KypelloError: As :meth:`IObjectStore.head`.
        """
        if not version_id and self._small.knows(bucket, key):
            (record,) = (await self._versions.peek(bucket, key)).values
            known = self._small.info(bucket, key, record)
            if known is not None:
                refuse_key(customer_key)
                return known
        version = await self._versions.find(bucket, key, version_id)
        refuse_key(customer_key)
        return version.info(bucket)

    async def open(
        self, bucket: str, key: str, customer_key: CustomerKey | None, version_id: str
    ) -> IOpenObject:
        """
        Pin a version of an object: its only blob is open, or its content at hand, or its first
        blob is pinned.

        :raises KypelloError: As :meth:`IObjectStore.open`.
        """
        small_id = "" if version_id else self._small.knows(bucket, key)
        if small_id:
            seen = await self._versions.peek(bucket, key, small_id)
            small = self._small.open(bucket, key, *seen.values)
            if small is not None:
                refuse_key(customer_key)
                return small
        version = await self._versions.find(bucket, key, version_id, content=True)
        refuse_key(customer_key)
        while True:
            try:
                return await self._open(bucket, version, current=not version_id)
            except Damaged:
                # It may just have been replaced, and its blob removed.
                before = version
                version = await self._versions.find(bucket, key, version_id, content=True)
                if version.raw == before.raw:
                    raise

    async def _open(self, bucket: str, version: Version, *, current: bool) -> IOpenObject:
        info, blobs = version.info(bucket), version.record.parts
        if version.record.apart or len(blobs) > 1:
            # The sweeper removes the first blob of a version before the others.
            pin = SharedPin(await self._blobs.pin(blobs[0].blob))
            return PartsObject(info, self._blobs, version.parts, pin)
        if blobs:
            return BlobObject(info, await self._blobs.open(blobs[0].blob))
        content = version.small if info.size else b""
        if content is None or not version.record.holds(content):
            raise Damaged(f"content of {bucket}/{info.key}")
        if content and current:
            self._small.put(version.raw, info, version.record.checksum)
        return SmallObject(info, content)
