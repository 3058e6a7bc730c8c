# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Data keys for objects, with as few calls of the KMS as its user allows.
"""

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from kypello.crypto.dare import StreamKey
from kypello.crypto.keys import context_bytes, object_path
from kypello.errors import (
    KeyMismatch,
    KeyNotFound,
    KMSForbidden,
    KMSUnavailable,
    KypelloError,
)
from kypello.interfaces import IKMS
from kypello.kmsconfig import Reuse
from kypello.model import DataKey
from kypello.objects.openedkeys import OpenedKeys, Opening
from kypello.objects.sharing import SharedCalls

V = TypeVar("V")

#: Key name and bucket: whose objects share a data key.
_Sharing: TypeAlias = tuple[str, str]

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

    def drop(self, unwanted: Callable[[Any], bool]) -> None:
        """
        Forget what came under keys of some kind.
        """
        for key in [key for key in self._values if unwanted(key)]:
            del self._values[key]

    def expire(self) -> None:
        """
        Drop what has expired.
        """
        self._expire()

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

    While the KMS does not answer, what was opened lately, by whichever process, serves for
    longer, as far as *reuse* says; what the KMS refuses is refused.  When it refuses a master key,
    nothing that this has opened is used any more, nor a data key under it.

    :ivar _hit: Called when a key that is needed has been opened already.
    :ivar _descriptor: Of the opened keys that all processes share; ``-1`` when this one is alone.
    :ivar _revocations: How often keys have been revoked, as far as this process has heeded it.
    """

    _kms: IKMS
    _clock: IReactorTime
    _reuse: Reuse = field(factory=Reuse)
    _hit: Callable[[], object] | None = None
    _descriptor: int = -1
    _longest: float = field(init=False)
    _opened: OpenedKeys = field(init=False)
    _bucket_keys: _Recent[_BucketKey] = field(init=False)
    _object_keys: _Recent[StreamKey] = field(init=False)
    _revocations: int = field(init=False)
    _making: SharedCalls[_Sharing, _BucketKey] = field(init=False, factory=SharedCalls)
    _opening: SharedCalls[Opening, bytes] = field(init=False, factory=SharedCalls)

    def __attrs_post_init__(self) -> None:
        """
        Start without keys of its own.
        """
        reuse = self._reuse
        self.renew()
        # Who wants no opened key kept has none in an outage, either.
        limit = reuse.opened_keys if reuse.opened_seconds else 0
        self._longest = reuse.opened_seconds + reuse.outage_seconds
        self._opened = OpenedKeys(self._clock, limit, self._longest, self._descriptor)
        object_keys = min(reuse.opened_keys, _OBJECT_KEYS)
        self._object_keys = _Recent(self._clock, reuse.opened_seconds, object_keys)
        self._revocations = self._opened.revocations

    async def for_object(
        self,
        bucket: str,
        key: str,
        key_name: str = "",
        context: Mapping[str, str] = _NOTHING,
        *,
        share: bool = True,
    ) -> ObjectDataKey:
        """
        A data key to seal the key of a new object.

        :param key_name: The master key; empty for the default one.
        :param context: What the client binds it to.  Such a data key is for one object: what
            is bound to its context cannot serve those that have another.
        :param share: Whether other objects of the bucket may use it too.
        """
        self._heed()
        key_name = key_name or self._kms.default_key
        if share and not context and self._reuse.by_bucket:
            return ObjectDataKey(await self._for_bucket((key_name, bucket)), bucket_key=True)
        made = await self.generate(object_context(bucket, key, context), key_name)
        return ObjectDataKey(made, bucket_key=False)

    async def generate(self, context: bytes, key_name: str = "") -> DataKey:
        """
        A fresh data key; the next to open it needs no call.

        :param key_name: The master key; empty for the default one.
        """
        key_name = key_name or self._kms.default_key
        try:
            key = await self._kms.generate_key(key_name, context)
        except (KeyNotFound, KeyMismatch):
            # Who may not make keys may still be allowed to open what was sealed.
            self._revoke(key_name)
            raise
        self._keep((key.key_name, key.sealed, context), key.plaintext)
        return key

    def renew(self) -> None:
        """
        Use no data key for new objects that was used for others before.
        """
        self._bucket_keys = _Recent(
            self._clock, self._reuse.bucket_seconds, max(self._reuse.opened_keys, 1)
        )

    async def open(
        self, key_name: str, sealed: bytes, context: bytes, *, lasting: bool = False
    ) -> bytes:
        """
        Open a sealed data key.

        :param lasting: Whether the caller keeps what it opens for as long as it runs: then the
            other processes may have it for as long, too.
        """
        opening = (key_name, sealed, context)
        opened = self._opened.get(opening)
        if opened is None or opened.fresh <= self._clock.seconds():
            plaintext = await self._opening.run(opening, lambda: self._open(opening))
        else:
            plaintext = opened.plaintext
            if self._hit is not None:
                self._hit()
        if lasting and (opened is None or opened.until < math.inf):
            self._opened.put(opening, plaintext, math.inf, math.inf)
        return plaintext

    def forget(self, key_name: str, sealed: bytes, context: bytes) -> None:
        """
        Keep a data key no longer that was opened.
        """
        self._opened.drop((key_name, sealed, context))

    def expire(self, *, shared: bool) -> None:
        """
        Forget keys that have expired, also those that nobody asks for.  To be called again and
        again.

        :param shared: Whether to wipe them from what all processes share, too, a part at a time.
        """
        self._bucket_keys.expire()
        self._object_keys.expire()
        if shared:
            self._opened.wipe()

    def object_key(self, owner: Hashable) -> StreamKey | None:
        """
        The object key that was opened for *owner*, as long as its data key would be kept.
        """
        self._heed()
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
        opened = self._opened.get((key_name, sealed, context))
        if opened is not None:
            self._object_keys.put(owner, key, opened.fresh)
        return key

    async def _open(self, opening: Opening) -> bytes:
        try:
            plaintext = await self._kms.decrypt_key(*opening)
        except KMSUnavailable:
            spare = self._opened.get(opening)
            if spare is None:
                raise
            again = self._clock.seconds() + _AGAIN
            self._opened.put(opening, spare.plaintext, min(spare.until, again), spare.until)
            return spare.plaintext
        except (KeyNotFound, KeyMismatch, KMSForbidden):
            self._revoke(opening[0])
            raise
        except KypelloError:
            self._opened.drop(opening)
            raise
        self._keep(opening, plaintext)
        return plaintext

    def _keep(self, opening: Opening, plaintext: bytes) -> None:
        now = self._clock.seconds()
        fresh = now + self._reuse.opened_seconds
        self._opened.put(opening, plaintext, fresh, now + self._longest)

    def _revoke(self, key_name: str) -> None:
        self._bucket_keys.drop(lambda sharing: sharing[0] == key_name)
        self._opened.revoke(key_name)
        self._heed()

    def _heed(self) -> None:
        """
        Use nothing that comes from a key that some process has found to be revoked.
        """
        revocations = self._opened.revocations
        if revocations != self._revocations:
            self._revocations = revocations
            self._object_keys.drop(lambda _owner: True)
            self.renew()

    async def _for_bucket(self, sharing: _Sharing) -> DataKey:
        # Those who wait for one new key may be more than it may serve: they look again.
        current = self._bucket_keys.get(sharing)
        while current is None or not current.left:
            made = await self._making.run(sharing, lambda: self._make(sharing))
            current = made if made.left else self._bucket_keys.get(sharing)
        current.left -= 1
        return current.key

    async def _make(self, sharing: _Sharing) -> _BucketKey:
        key_name, bucket = sharing
        made = _BucketKey(
            await self.generate(bucket_context(bucket), key_name), self._reuse.bucket_objects
        )
        self._bucket_keys.put(sharing, made)
        return made
