# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Data keys for objects, with as few calls of the KMS as its user allows.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeAlias, TypeVar

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from kypello.crypto.dare import StreamKey
from kypello.crypto.keys import context_bytes, object_path
from kypello.errors import KMSUnavailable
from kypello.interfaces import IKMS
from kypello.kmsconfig import Reuse
from kypello.model import DataKey
from kypello.objects.sharing import SharedCalls

V = TypeVar("V")

#: Key name, sealed data key and context: what decides what a call of the KMS gives.
_Opening: TypeAlias = tuple[str, bytes, bytes]

#: Key name, bucket and its renewal: whose objects share a data key.
_Sharing: TypeAlias = tuple[str, str, bytes]

#: How long a key that is kept for an outage is used before the KMS is asked again, in seconds: not
#: every request shall wait for what does not answer.
_AGAIN = 10.0

#: How many object keys are kept at most: no more objects are remembered.
_OBJECT_KEYS = 4096

_NOTHING: Mapping[str, str] = {}


@define
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


def bucket_context(bucket: str) -> bytes:
    """
    The context that a data key for many objects of a bucket is bound to.
    """
    return context_bytes({bucket: bucket})


def object_context(bucket: str, key: str, context: Mapping[str, str] = _NOTHING) -> bytes:
    """
    The context that a data key for one object is bound to.

    :param context: What the client gave.  It takes the place of the path when it has an entry
        of the bucket's name; key-encryption keys are bound to the path in any case.
    """
    return context_bytes({bucket: object_path(bucket, key), **context})


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
        now = self._expire()
        found = self._values.get(key)
        return None if found is None or found[0] <= now else found[1]

    def until(self, key: object) -> float:
        """
        When what came under *key* is forgotten; the beginning of time if it is already.
        """
        found = self._values.get(key)
        return 0.0 if found is None else found[0]

    def put(self, key: object, value: V, until: float | None = None) -> None:
        """
        Keep *value* in place of what was there.

        :param until: Not longer than this.
        """
        self._values.pop(key, None)
        if self._seconds > 0 and self._limit > 0:
            latest = self._clock.seconds() + self._seconds
            self._values[key] = (latest if until is None else min(until, latest), value)
        self._expire()

    def drop(self, key: object) -> None:
        """
        Forget what came under *key*.
        """
        self._values.pop(key, None)

    def _expire(self) -> float:
        """
        Drop what has expired; give the time.
        """
        # All are kept for about the same time, so the order of arrival is nearly that of expiry,
        # and nothing stays for longer than that time.
        now = self._clock.seconds()
        values = self._values
        while values:
            oldest = next(iter(values))
            if values[oldest][0] > now and len(values) <= self._limit:
                break
            del values[oldest]
        return now


@define(eq=False)
class DataKeys:
    """
    Makes and opens data keys, sharing calls and, as far as *reuse* says, results.

    Failures are not remembered.  All methods raise what the KMS raises.

    While the KMS does not answer, what was opened lately serves for longer, as far as *reuse*
    says; what the KMS refuses is refused.

    :ivar _hit: Called when a key that is needed has been opened already.
    """

    _kms: IKMS
    _clock: IReactorTime
    _reuse: Reuse = field(factory=Reuse)
    _hit: Callable[[], object] | None = None
    _bucket_keys: _Recent[_BucketKey] = field(init=False)
    _opened: _Recent[bytes] = field(init=False)
    _spare: _Recent[bytes] = field(init=False)
    _object_keys: _Recent[StreamKey] = field(init=False)
    _making: SharedCalls[_Sharing, _BucketKey] = field(init=False, factory=SharedCalls)
    _opening: SharedCalls[_Opening, bytes] = field(init=False, factory=SharedCalls)

    def __attrs_post_init__(self) -> None:
        """
        Start without keys.
        """
        reuse = self._reuse
        self._bucket_keys = _Recent(self._clock, reuse.bucket_seconds, max(reuse.opened_keys, 1))
        self._opened = _Recent(self._clock, reuse.opened_seconds, reuse.opened_keys)
        # Who wants no opened key kept has none in an outage, either.
        longer = reuse.opened_seconds + reuse.outage_seconds
        kept = bool(reuse.opened_seconds and reuse.outage_seconds)
        self._spare = _Recent(self._clock, longer * kept, reuse.opened_keys)
        object_keys = min(reuse.opened_keys, _OBJECT_KEYS)
        self._object_keys = _Recent(self._clock, reuse.opened_seconds, object_keys)

    @property
    def default_key(self) -> str:
        """
        The master key that is used when none is named.
        """
        return self._kms.default_key

    async def for_object(
        self,
        bucket: str,
        key: str,
        key_name: str = "",
        context: Mapping[str, str] = _NOTHING,
        *,
        share: bool = True,
        renewal: bytes = b"",
    ) -> ObjectDataKey:
        """
        A data key to seal the key of a new object.

        :param key_name: The master key; empty for the default one.
        :param context: What the client binds it to.  Such a data key is for one object: what
            is bound to its context cannot serve those that have another.
        :param share: Whether other objects of the bucket may use it too.
        :param renewal: Of the bucket: a key that was made with another one is shared no more.
        """
        key_name = key_name or self._kms.default_key
        if share and not context and self._reuse.by_bucket:
            shared = await self._for_bucket((key_name, bucket, renewal))
            return ObjectDataKey(shared, bucket_key=True)
        made = await self.generate(object_context(bucket, key, context), key_name)
        return ObjectDataKey(made, bucket_key=False)

    async def generate(self, context: bytes, key_name: str = "") -> DataKey:
        """
        A fresh data key; the next to open it needs no call.

        :param key_name: The master key; empty for the default one.
        """
        key = await self._kms.generate_key(key_name or self._kms.default_key, context)
        self._keep((key.key_name, key.sealed, context), key.plaintext)
        return key

    async def open(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a sealed data key.
        """
        opening = (key_name, sealed, context)
        plaintext = self._opened.get(opening)
        if plaintext is not None:
            if self._hit is not None:
                self._hit()
            return plaintext
        return await self._opening.run(opening, lambda: self._open(opening))

    def object_key(self, owner: Hashable) -> StreamKey | None:
        """
        The object key that was opened for *owner*, as long as its data key would be kept.
        """
        key = self._object_keys.get(owner)
        if key is not None and self._hit is not None:
            self._hit()
        return key

    async def open_object_key(
        self,
        owner: Hashable,
        key_name: str,
        sealed: bytes,
        context: bytes,
        unseal: Callable[[bytes], bytes],
    ) -> StreamKey:
        """
        Open an object key, and keep it for *owner*.

        :param sealed: The data key that *unseal* needs, and *key_name* and *context* open.
        """
        key = StreamKey(unseal(await self.open(key_name, sealed, context)))
        self._object_keys.put(owner, key, self._opened.until((key_name, sealed, context)))
        return key

    async def _open(self, opening: _Opening) -> bytes:
        try:
            plaintext = await self._kms.decrypt_key(*opening)
        except KMSUnavailable:
            spare = self._spare.get(opening)
            if spare is None:
                raise
            until = min(self._spare.until(opening), self._clock.seconds() + _AGAIN)
            self._opened.put(opening, spare, until)
            return spare
        except BaseException:
            self._spare.drop(opening)
            raise
        self._keep(opening, plaintext)
        return plaintext

    def _keep(self, opening: _Opening, plaintext: bytes) -> None:
        self._opened.put(opening, plaintext)
        self._spare.put(opening, plaintext)

    async def _for_bucket(self, sharing: _Sharing) -> DataKey:
        # Those who wait for one new key may be more than it may serve: they look again.
        current = self._bucket_keys.get(sharing)
        while current is None or not current.left:
            made = await self._making.run(sharing, lambda: self._make(sharing))
            current = made if made.left else self._bucket_keys.get(sharing)
        current.left -= 1
        return current.key

    async def _make(self, sharing: _Sharing) -> _BucketKey:
        key_name, bucket, _ = sharing
        made = _BucketKey(
            await self.generate(bucket_context(bucket), key_name), self._reuse.bucket_objects
        )
        self._bucket_keys.put(sharing, made)
        return made
