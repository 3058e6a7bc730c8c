# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The keys that buckets have: metadata keys, made at the first encrypted write and opened once per
process, and the renewal of the data keys that their new objects share.

Each process makes such data keys for itself.  They are renewed by a setting of the bucket, which
every write reads, so none of before serves any writer that begins afterwards, in any process.
"""

from collections.abc import Mapping
from functools import partial

import msgspec
from attrs import define, field, frozen

from kypello.crypto.keys import context_bytes, unwrap_key, wrap_key
from kypello.crypto.randomness import Random
from kypello.errors import Damaged, NotAuthentic
from kypello.interfaces import IObjectStore
from kypello.model import BucketInfo
from kypello.objects.datakeys import DataKeys
from kypello.objects.metadata import MetadataKey
from kypello.objects.sharing import SharedCalls

#: The bucket setting that holds the sealed metadata key.
SETTING = "metadata-key"

#: The bucket setting that data keys for new objects go by: those of another value are used no more.
RENEWAL = "data-keys"

#: Bytes of a renewal.
_RENEWAL_SIZE = 8


class _Sealed(msgspec.Struct, array_like=True):
    """
    A metadata key as it is stored.

    :ivar key_name: The master key.
    :ivar sealed: A data key, as the KMS sealed it: the metadata key itself, as it was made.
    :ivar wrapped: When another master key came since: the metadata key under that data key.
    """

    key_name: str
    sealed: bytes
    wrapped: bytes = b""


@frozen
class _Opened:
    """
    A metadata key that is open.

    :ivar stored: The setting it was opened from; a bucket that was made anew has another.
    """

    stored: bytes
    key: MetadataKey


@define(eq=False)
class BucketKeys:
    """
    The metadata keys of the buckets of one store.

    All methods raise :class:`NoSuchBucket`, and what the KMS raises unless the key is open.
    """

    _store: IObjectStore
    _keys: DataKeys
    _random: Random
    _opened: dict[str, _Opened] = field(init=False, factory=dict)
    _opening: SharedCalls[tuple[str, bytes], MetadataKey] = field(init=False, factory=SharedCalls)
    _making: SharedCalls[tuple[str, int], MetadataKey] = field(init=False, factory=SharedCalls)

    def at_hand(self, bucket: str) -> MetadataKey | None:
        """
        The key that was opened last for a bucket of this name, without a look at the bucket.
        """
        opened = self._opened.get(bucket)
        return None if opened is None else opened.key

    async def key(self, info: BucketInfo) -> MetadataKey | None:
        """
        The key of a bucket; ``None`` when nothing in it was ever encrypted.

        :raises Damaged: What is stored is no key.
        :raises NotAuthentic: What is stored belongs to another bucket or master key.
        """
        stored = info.settings.get(SETTING)
        if stored is None:
            return None
        opened = self._opened.get(info.name)
        if opened is not None and opened.stored == stored:
            return opened.key
        return await self._opening.run((info.name, stored), lambda: self._open(info.name, stored))

    async def make(self, info: BucketInfo) -> MetadataKey:
        """
        The key of a bucket, made now if there is none.
        """
        key = await self.key(info)
        if key is not None:
            return key
        # A new bucket often gets many writes at once.
        return await self._making.run((info.name, info.created), lambda: self._make(info.name))

    def master_key(self, info: BucketInfo) -> str:
        """
        The name of the master key that seals the key of a bucket; empty when there is none.

        :raises Damaged: What is stored is no key.
        """
        stored = info.settings.get(SETTING)
        return "" if stored is None else _decoded(info.name, stored).key_name

    async def rewrap(self, info: BucketInfo, key_name: str) -> None:
        """
        Seal the key of a bucket, if it has one, under another master key, or the same anew.  What
        it seals stays as it is.

        :raises KypelloError: As :meth:`key`.
        """
        name, before = info.name, info.settings.get(SETTING)
        if before is None:
            return
        key = await self._plaintext(name, before)
        made = await self._keys.generate(_context(name), key_name)
        wrapped = wrap_key(made.plaintext, key, self._random)
        after = msgspec.msgpack.encode(_Sealed(made.key_name, made.sealed, wrapped))
        await self._store.change_bucket(name, partial(_with_other_key, before, after))

    async def renew(self, bucket: str) -> None:
        """
        Have data keys made anew for new objects, by all processes that share the store.
        """
        renewal = self._random(_RENEWAL_SIZE)
        await self._store.change_bucket(bucket, lambda settings: {**settings, RENEWAL: renewal})

    def forget(self, bucket: str) -> None:
        """
        Drop the key of a bucket that is no more.
        """
        self._opened.pop(bucket, None)

    async def _make(self, bucket: str) -> MetadataKey:
        # It may have got one since it was looked at.
        info = await self._store.bucket(bucket)
        while (key := await self.key(info)) is None:
            made = await self._keys.generate(_context(bucket))
            stored = msgspec.msgpack.encode(_Sealed(made.key_name, made.sealed))
            # Another process may be first: its key counts then.
            info = await self._store.change_bucket(bucket, partial(_with_key, stored))
        return key

    async def _open(self, bucket: str, stored: bytes) -> MetadataKey:
        key = MetadataKey(bucket, await self._plaintext(bucket, stored))
        self._opened[bucket] = _Opened(stored, key)
        return key

    async def _plaintext(self, bucket: str, stored: bytes) -> bytes:
        sealed = _decoded(bucket, stored)
        try:
            opened = await self._keys.open(sealed.key_name, sealed.sealed, _context(bucket))
            return unwrap_key(opened, sealed.wrapped) if sealed.wrapped else opened
        except NotAuthentic:
            raise NotAuthentic(f"the metadata key of the bucket {bucket}") from None


def sealing_key(info: BucketInfo) -> str | None:
    """
    The master key that seals the metadata key of a bucket; ``None`` when there is none, and empty
    when what is stored does not tell.
    """
    stored = info.settings.get(SETTING)
    if stored is None:
        return None
    try:
        return msgspec.msgpack.decode(stored, type=_Sealed).key_name
    except ValueError:
        return ""


def renewal_of(info: BucketInfo) -> bytes:
    """
    What the data keys of new objects of a bucket go by; empty when they were never renewed.
    """
    return info.settings.get(RENEWAL, b"")


def guarded(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """
    The settings *after* a change, with the metadata key of *before* and the renewal of data keys:
    nobody else changes them.
    """
    ours = {SETTING, RENEWAL}
    others = {name: value for name, value in after.items() if name not in ours}
    return {**others, **{name: before[name] for name in ours if name in before}}


def _with_key(stored: bytes, settings: Mapping[str, bytes]) -> Mapping[str, bytes]:
    return {SETTING: stored, **settings}


def _with_other_key(
    before: bytes, after: bytes, settings: Mapping[str, bytes]
) -> Mapping[str, bytes]:
    # A bucket that was made anew has another key, and one that was changed meanwhile is left.
    return {**settings, SETTING: after} if settings.get(SETTING) == before else settings


def _decoded(bucket: str, stored: bytes) -> _Sealed:
    try:
        return msgspec.msgpack.decode(stored, type=_Sealed)
    except ValueError:
        raise Damaged(f"the metadata key of the bucket {bucket}") from None


def _context(bucket: str) -> bytes:
    # Bucket names have no blanks, so no data key of a bucket has this context.
    return context_bytes({"Kypello metadata key": bucket})
