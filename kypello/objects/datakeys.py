# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Data keys for objects, with as few calls of the KMS as its user allows.
"""

import math
from collections.abc import Callable, Hashable, Mapping
from typing import TypeAlias

from attrs import define, field, frozen
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
from kypello.objects.expiring import Expiring
from kypello.objects.keytable import BUCKET_SIZE, BUCKETS, OPENED, OPENED_SIZE, KeyTable
from kypello.objects.sharing import SharedCalls

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


@frozen
class Workers:
    """
    The processes that share data keys.

    :ivar number: Of this one, from 0.
    :ivar count: How many there are.
    :ivar opened: Of the keys that they have opened, the descriptor; ``-1`` for none that is shared.
    :ivar made: Of the keys for new objects.
    """

    number: int = 0
    count: int = 1
    opened: int = -1
    made: int = -1


@define
class ObjectDataKey:
    """
    A data key for a new object.

    :ivar bucket_key: Whether other objects of the bucket use it too; its context tells then.
    """

    key: DataKey
    bucket_key: bool


@define
class SealedLayer:
    """
    A sealed key of a layer of an object.

    :ivar data_key: What it is sealed under, as *key_name* and *context* open it.
    :ivar unseal: Opens it with the opened data key.
    """

    key_name: str
    data_key: bytes
    context: bytes
    unseal: Callable[[bytes], bytes]


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
class DataKeys:
    """
    Makes and opens data keys, sharing calls and, as far as *reuse* says, results.

    Failures are not remembered.  All methods raise what the KMS raises.

    While the KMS does not answer, what was opened lately, by whichever process, serves for
    longer, as far as *reuse* says; what the KMS refuses is refused.  When it refuses a master key,
    nothing that this has opened is used any more, nor a data key under it.

    :ivar _hit: Called when a key that is needed has been opened already.
    :ivar _revocations: How often keys have been revoked, as far as this process has heeded it.
    :ivar _renewed: From when on keys for new objects must be.
    """

    _kms: IKMS
    _clock: IReactorTime
    _reuse: Reuse = field(factory=Reuse)
    _hit: Callable[[], object] | None = None
    _workers: Workers = field(factory=Workers)
    _longest: float = field(init=False)
    _opened: KeyTable = field(init=False)
    _made: KeyTable = field(init=False)
    _bucket_keys: Expiring[_BucketKey] = field(init=False)
    _object_keys: Expiring[StreamKey] = field(init=False)
    _revocations: int = field(init=False)
    _renewed: float = field(init=False, default=-math.inf)
    _making: SharedCalls[_Sharing, _BucketKey] = field(init=False, factory=SharedCalls)
    _opening: SharedCalls[_Opening, bytes] = field(init=False, factory=SharedCalls)

    def __attrs_post_init__(self) -> None:
        """
        Start without keys of its own.
        """
        reuse, workers, clock = self._reuse, self._workers, self._clock
        # Who wants no opened key kept has none in an outage, either.
        limit = min(reuse.opened_keys, OPENED) if reuse.opened_seconds else 0
        self._longest = reuse.opened_seconds + reuse.outage_seconds
        self._opened = KeyTable(clock, limit, OPENED_SIZE, self._longest, workers.opened)
        limit = BUCKETS if workers.count > 1 and reuse.by_bucket else 0
        self._made = KeyTable(clock, limit, BUCKET_SIZE, reuse.bucket_seconds, workers.made)
        self._bucket_keys = Expiring(clock, reuse.bucket_seconds, max(reuse.opened_keys, 1))
        object_keys = min(reuse.opened_keys, _OBJECT_KEYS)
        self._object_keys = Expiring(clock, reuse.opened_seconds, object_keys)
        self._revocations = self._opened.revocations + self._made.revocations

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
        self._heed()
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
        self._renewed = self._clock.seconds()
        self._bucket_keys.drop(lambda _sharing: True)

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
            plaintext = opened.value
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
            self._made.wipe()

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
        self, owner: Hashable, layer: SealedLayer, outer: SealedLayer | None = None
    ) -> StreamKey:
        """
        Open an object key, and keep it for *owner* no longer than any data key that opened it.

        :param outer: The layer around it, if there is one.
        """
        around, until = None, math.inf
        if outer is not None:
            around, until = await self._open_layer(outer)
        key, end = await self._open_layer(layer, around)
        self._object_keys.put(owner, key, min(until, end))
        return key

    async def _open_layer(
        self, layer: SealedLayer, outer: StreamKey | None = None
    ) -> tuple[StreamKey, float]:
        opening = (layer.key_name, layer.data_key, layer.context)
        key = StreamKey(layer.unseal(await self.open(*opening)), outer)
        opened = self._opened.get(opening)
        return key, -math.inf if opened is None else opened.fresh

    async def _open(self, opening: _Opening) -> bytes:
        try:
            plaintext = await self._kms.decrypt_key(*opening)
        except KMSUnavailable:
            spare = self._opened.get(opening)
            if spare is None:
                raise
            again = self._clock.seconds() + _AGAIN
            self._opened.put(opening, spare.value, min(spare.until, again), spare.until)
            return spare.value
        except (KeyNotFound, KeyMismatch, KMSForbidden):
            self._revoke(opening[0])
            raise
        except KypelloError:
            self._opened.drop(opening)
            raise
        self._keep(opening, plaintext)
        return plaintext

    def _keep(self, opening: _Opening, plaintext: bytes) -> None:
        now = self._clock.seconds()
        fresh = now + self._reuse.opened_seconds
        self._opened.put(opening, plaintext, fresh, now + self._longest)

    def _revoke(self, key_name: str) -> None:
        self._bucket_keys.drop(lambda sharing: sharing[0] == key_name)
        self._opened.revoke(key_name)
        self._made.revoke(key_name)
        self._heed()

    def _heed(self) -> None:
        """
        Use nothing that comes from a key that some process has found to be revoked.
        """
        revocations = self._opened.revocations + self._made.revocations
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
        """
        A key for new objects of a bucket: of another worker, unless this one has had it before, or
        a new one.  Each worker uses it for its share of the objects.
        """
        key_name, bucket, renewal = sharing
        # No bucket's name has a NUL: keys of before a renewal are not found.
        name = key_name, bucket.encode() + b"\0" + renewal
        seconds, objects = self._reuse.bucket_seconds, self._reuse.bucket_objects
        share = objects // self._workers.count
        kept = self._made.claim(name, self._workers.number) if share else None
        if kept is not None and kept.until - seconds > self._renewed:
            made, until = _BucketKey(_unpacked(key_name, kept.value), share), kept.until
        else:
            until = self._clock.seconds() + seconds
            key = await self.generate(bucket_context(bucket), key_name)
            made = _BucketKey(key, share or objects)
            if share:
                self._made.put(name, _packed(key), until, until, self._workers.number)
        self._bucket_keys.put(sharing, made, until)
        return made


def _packed(key: DataKey) -> bytes:
    return bytes([len(key.plaintext)]) + key.plaintext + key.sealed


def _unpacked(key_name: str, packed: bytes) -> DataKey:
    end = 1 + packed[0]
    return DataKey(key_name, packed[1:end], packed[end:])
