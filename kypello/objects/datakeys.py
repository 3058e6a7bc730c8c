# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Data keys for objects, with as few calls of the KMS as its user allows.
"""

from typing import Generic, TypeAlias, TypeVar

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from kypello.crypto.keys import context_bytes, object_path
from kypello.interfaces import IKMS
from kypello.model import DataKey
from kypello.objects.sharing import SharedCalls

V = TypeVar("V")

#: Key name, sealed data key and context: what decides what a call of the KMS gives.
_Opening: TypeAlias = tuple[str, bytes, bytes]


@frozen
class Reuse:
    """
    How far data keys are used again.  Zero anywhere turns that kind of reuse off.

    :ivar bucket_seconds: How long a data key of a bucket is used for new objects.
    :ivar bucket_objects: For how many objects.
    :ivar opened_seconds: How long an opened data key is kept in memory.
    :ivar opened_keys: How many are kept at most.
    """

    bucket_seconds: float = 300.0
    bucket_objects: int = 1_000_000
    opened_seconds: float = 300.0
    opened_keys: int = 10_000

    @property
    def by_bucket(self) -> bool:
        """
        Whether objects of a bucket share data keys.
        """
        return self.bucket_seconds > 0 and self.bucket_objects > 0


@frozen
class ObjectDataKey:
    """
    A data key for a new object.

    :ivar bucket_key: Whether other objects of the bucket use it too; its context tells then.
    """

    key: DataKey
    bucket_key: bool


@define(eq=False)
class _BucketKey:
    """
    A data key that new objects of a bucket use.

    :ivar left: For how many more.
    """

    key: DataKey
    left: int


def data_key_context(bucket: str, key: str, bucket_key: bool) -> bytes:
    """
    The context that the data key of an object is bound to.
    """
    return context_bytes({bucket: bucket if bucket_key else object_path(bucket, key)})


@define(eq=False)
class _Recent(Generic[V]):
    """
    Secrets that are forgotten some time after they came, or when there are too many.

    What has expired is dropped at the next use of any of them.
    """

    _clock: IReactorTime
    _seconds: float
    _limit: int
    _values: dict[object, tuple[float, V]] = field(factory=dict, repr=False)

    def get(self, key: object) -> V | None:
        """
        What came under *key*, unless it is forgotten.
        """
        self._expire()
        found = self._values.get(key)
        return None if found is None else found[1]

    def put(self, key: object, value: V) -> None:
        """
        Keep *value* in place of what was there.
        """
        self._values.pop(key, None)
        if self._seconds > 0 and self._limit > 0:
            self._values[key] = (self._clock.seconds() + self._seconds, value)
        self._expire()

    def _expire(self) -> None:
        # All are kept for the same time, so the order of arrival is that of expiry.
        now = self._clock.seconds()
        values = self._values
        while values:
            oldest = next(iter(values))
            if values[oldest][0] > now and len(values) <= self._limit:
                return
            del values[oldest]


@define(eq=False)
class DataKeys:
    """
    Makes and opens data keys, sharing calls and, as far as *reuse* says, results.

    Failures are not remembered.  All methods raise what the KMS raises.
    """

    _kms: IKMS
    _clock: IReactorTime
    _reuse: Reuse = Reuse()
    _bucket_keys: _Recent[_BucketKey] = field(init=False)
    _opened: _Recent[bytes] = field(init=False)
    _making: SharedCalls[str, _BucketKey] = field(init=False, factory=SharedCalls)
    _opening: SharedCalls[_Opening, bytes] = field(init=False, factory=SharedCalls)

    def __attrs_post_init__(self) -> None:
        """
        Start without keys.
        """
        reuse = self._reuse
        limit = max(reuse.opened_keys, 1)
        self._bucket_keys = _Recent(self._clock, reuse.bucket_seconds, limit)
        self._opened = _Recent(self._clock, reuse.opened_seconds, reuse.opened_keys)

    async def for_object(self, bucket: str, key: str) -> ObjectDataKey:
        """
        A data key under the default master key, to seal the key of a new object.
        """
        if self._reuse.by_bucket:
            return ObjectDataKey(await self._for_bucket(bucket), bucket_key=True)
        context = data_key_context(bucket, key, bucket_key=False)
        return ObjectDataKey(await self.generate(context), bucket_key=False)

    async def generate(self, context: bytes) -> DataKey:
        """
        A fresh data key under the default master key; the next to open it needs no call.
        """
        key = await self._kms.generate_key(self._kms.default_key, context)
        self._opened.put((key.key_name, key.sealed, context), key.plaintext)
        return key

    async def open(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a sealed data key.
        """
        opening = (key_name, sealed, context)
        plaintext = self._opened.get(opening)
        if plaintext is not None:
            return plaintext
        return await self._opening.run(opening, lambda: self._open(opening))

    async def _open(self, opening: _Opening) -> bytes:
        plaintext = await self._kms.decrypt_key(*opening)
        self._opened.put(opening, plaintext)
        return plaintext

    async def _for_bucket(self, bucket: str) -> DataKey:
        # Those who wait for one new key may be more than it may serve: they look again.
        current = self._bucket_keys.get(bucket)
        while current is None or not current.left:
            made = await self._making.run(bucket, lambda: self._make(bucket))
            current = made if made.left else self._bucket_keys.get(bucket)
        current.left -= 1
        return current.key

    async def _make(self, bucket: str) -> _BucketKey:
        key = await self.generate(data_key_context(bucket, "", bucket_key=True))
        made = _BucketKey(key, self._reuse.bucket_objects)
        self._bucket_keys.put(bucket, made)
        return made
