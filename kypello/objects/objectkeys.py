# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The keys of objects: made for new ones, and opened again, for every kind of encryption.

The kinds differ in who has the external key that seals the object key: the KMS, under the
default master key (SSE-S3) or one that the client or the bucket names (SSE-KMS), or the client
itself (SSE-C).  In two layers (DSSE-KMS) there are two of each: the context that a data key is
bound to, and the domain that an object key is bound to, tell which layer it is for.
"""

from collections.abc import Mapping
from functools import partial

from attrs import define, field, frozen

from kypello.crypto.dare import StreamKey
from kypello.crypto.keys import (
    KEY_SIZE,
    Domain,
    SealedObjectKey,
    generate_object_key,
    object_path,
    open_object_key,
    seal_object_key,
)
from kypello.crypto.metadata import (
    KeyRecord,
    OuterKey,
    domain_of,
    read_entries,
    replace_entries,
)
from kypello.crypto.randomness import Random
from kypello.crypto.sse import master_key_name, no_customer_key
from kypello.errors import KMSNotConfigured, NotAuthentic, Refused
from kypello.model import DSSE, SSE_C, CustomerKey, EncryptionRequest
from kypello.objects.datakeys import DataKeys, SealedLayer, bucket_context, object_context

_DOMAINS = {
    "AES256": Domain.SSE_S3,
    "aws:kms": Domain.SSE_KMS,
    SSE_C: Domain.SSE_C,
    DSSE: Domain.DSSE_KMS,
}

#: What the context of a data key says beside what the client gave; no bucket has such a name, so it
#: takes the place of no path.
_LAYER = "kypello:layer"
_LAYERS = {Domain.DSSE_KMS: "inner", Domain.DSSE_KMS_OUTER: "outer"}


@define
class NewObjectKey:
    """
    The key of an object that is being written, and how it is found again.
    """

    key: StreamKey = field(repr=False)
    record: KeyRecord


@define
class _External:
    """
    An external key, and what is kept of it: a record that still lacks its sealed object key.
    """

    key: bytes = field(repr=False)
    recorded: "partial[KeyRecord]"


@frozen
class Refusals:
    """
    What a client is told whose key does not fit, by the operation.

    :ivar missing: An encryption with a client's key, and no key came.
    :ivar wrong: Another key came.
    :ivar foreign: A key came for something that was not encrypted with one.
    """

    missing: tuple[str, str]
    wrong: tuple[str, str]
    foreign: tuple[str, str]


#: For the reading of objects.
READING = Refusals(
    (
        "InvalidRequest",
        "The object was stored using a form of Server Side Encryption. The correct parameters"
        " must be provided to retrieve the object.",
    ),
    ("AccessDenied", "Access Denied."),
    ("InvalidRequest", "The encryption parameters are not applicable to this object."),
)

#: For the parts of uploads.
UPLOADING = Refusals(
    (
        "InvalidRequest",
        "The multipart upload initiate requested encryption. Subsequent part requests must"
        " include the appropriate encryption parameters.",
    ),
    (
        "InvalidRequest",
        "The provided encryption parameters did not match the ones used originally.",
    ),
    (
        "InvalidRequest",
        "The multipart upload initiate did not specify encryption with a customer provided key,"
        " so such a key is not applicable to its parts.",
    ),
)


@frozen
class ObjectKeys:
    """
    Makes and opens object keys.

    :ivar _data_keys: ``None`` without a KMS.
    """

    _data_keys: DataKeys | None
    _random: Random

    @property
    def default_key(self) -> str:
        """
        The master key that is used when none is named; empty without a KMS.
        """
        return "" if self._data_keys is None else self._data_keys.default_key

    async def make(
        self,
        bucket: str,
        key: str,
        wanted: EncryptionRequest,
        *,
        multipart: bool = False,
        renewal: bytes = b"",
    ) -> NewObjectKey:
        """
        Make the key of a new object.

        A data key that the client bound to a context is never shared with other objects, even
        if it asked for both.

        :param wanted: As :func:`kypello.crypto.sse.encryption_for` gave it.
        :param renewal: As in :meth:`DataKeys.for_object`.
        :raises KypelloError: What the KMS raises; :class:`KMSNotConfigured`.
        :raises Refused: A key or its name is malformed.
        """
        domain = _DOMAINS[wanted.algorithm]
        object_key, recorded = await self._sealed(bucket, key, wanted, domain, renewal)
        return NewObjectKey(object_key, recorded(multipart=multipart))

    async def rewrap(
        self,
        bucket: str,
        key: str,
        entries: Mapping[str, str],
        object_key: StreamKey,
        wanted: EncryptionRequest,
        *,
        renewal: bytes = b"",
    ) -> Mapping[str, str]:
        """
        Seal the key of an object anew, in as many layers as it has.

        The IV stays, as what is known of the object and its parts is bound to it.

        :param entries: Those that the object has.
        :param wanted: As in :meth:`make`; its master key may be named for SSE-S3, too.
        :param renewal: As there.
        :return: The entries that it gets.
        :raises KypelloError: As :meth:`make`.
        """
        old, domain = read_entries(entries), _DOMAINS[wanted.algorithm]
        iv = old.object_key.iv
        _, recorded = await self._sealed(bucket, key, wanted, domain, renewal, object_key, iv)
        opaque = domain is Domain.SSE_S3 and (
            old.opaque or old.object_key.domain is not Domain.SSE_S3
        )
        return replace_entries(entries, recorded(multipart=old.multipart, opaque=opaque))

    def opening(self, bucket: str, key: str, entries: Mapping[str, str]) -> "Opening":
        """
        How the key of an object is opened whose external key the KMS has.

        :raises KMSNotConfigured:
        """
        return Opening(self._configured(), bucket, key, entries)

    async def _sealed(
        self,
        bucket: str,
        key: str,
        wanted: EncryptionRequest,
        domain: Domain,
        renewal: bytes,
        known: StreamKey | None = None,
        iv: bytes | None = None,
    ) -> tuple[StreamKey, "partial[KeyRecord]"]:
        """
        Make the key of an object, or take the one that is known, and seal it, layer by layer.

        :param iv: Of the object, if it has one already.
        :return: The key, and what makes its record.
        """
        external = await self._external(bucket, key, wanted, domain, renewal)
        secret = generate_object_key(external.key, self._random) if known is None else known.secret
        path = object_path(bucket, key)
        sealed = seal_object_key(external.key, secret, domain, path, self._random, iv)
        recorded = partial(external.recorded, sealed)
        if domain is not Domain.DSSE_KMS:
            return StreamKey(secret), recorded
        around = None if known is None else known.outer
        outer, recorded_outer = await self._sealed(
            bucket, key, wanted, Domain.DSSE_KMS_OUTER, renewal, around, sealed.iv
        )
        record = recorded_outer()
        assert record.data_key is not None
        return StreamKey(secret, outer), partial(
            recorded, outer=OuterKey(record.object_key, record.data_key)
        )

    async def _external(
        self,
        bucket: str,
        key: str,
        wanted: EncryptionRequest,
        domain: Domain,
        renewal: bytes,
    ) -> _External:
        if domain is Domain.SSE_C:
            return _clients(wanted.customer_key)
        name = master_key_name(wanted.key_id) if wanted.key_id else ""
        context = _of_layer(wanted.context, domain)
        made = await self._configured().for_object(
            bucket,
            key,
            name,
            context,
            share=bool(wanted.bucket_key),
            renewal=renewal,
        )
        recorded = partial(
            KeyRecord,
            key_name=made.key.key_name,
            data_key=made.key.sealed,
            context=wanted.context or None,
            bucket_key=made.bucket_key,
        )
        return _External(made.key.plaintext, recorded)

    def _configured(self) -> DataKeys:
        if self._data_keys is None:
            raise KMSNotConfigured()
        return self._data_keys


@define(eq=False)
class Opening:
    """
    Opens the key of one object, of which it holds none.
    """

    _data_keys: DataKeys
    _bucket: str
    _key: str
    _entries: Mapping[str, str]

    async def __call__(self) -> StreamKey:
        """
        Give the key.

        :raises NotAuthentic: The entries are not those of this object.
        :raises KypelloError: What the KMS raises.
        """
        return self._data_keys.object_key(self) or await self._open()

    async def _open(self) -> StreamKey:
        record = read_entries(self._entries)
        if record.key_name is None or record.data_key is None:
            raise NotAuthentic("metadata: the key is the client's")
        layer = self._layer(record, record.key_name, record.data_key, record.object_key)
        around = record.outer
        if around is None:
            return await self._data_keys.open_object_key(self, layer)
        outer = self._layer(record, record.key_name, around.data_key, around.object_key)
        return await self._data_keys.open_object_key(self, layer, outer)

    def _layer(
        self, record: KeyRecord, key_name: str, data_key: bytes, sealed: SealedObjectKey
    ) -> SealedLayer:
        bucket, key = self._bucket, self._key
        context = (
            bucket_context(bucket)
            if record.bucket_key
            else object_context(bucket, key, _of_layer(record.context or {}, sealed.domain))
        )
        path = object_path(bucket, key)
        return SealedLayer(
            key_name, data_key, context, lambda external: open_object_key(external, sealed, path)
        )


def open_with_customer_key(
    bucket: str,
    key: str,
    entries: Mapping[str, str],
    customer_key: CustomerKey | None,
    refusals: Refusals,
) -> bytes | None:
    """
    Open the key of an object that its client holds the external key of.

    :return: ``None`` for any other object, plain ones too.
    :raises Refused: A key is missing, wrong or given for any other object.
    :raises NotAuthentic: The entries are malformed.
    """
    theirs = domain_of(entries) is Domain.SSE_C
    if customer_key is None:
        if theirs:
            raise Refused(*refusals.missing)
        return None
    if not theirs:
        raise Refused(*refusals.foreign)
    sealed = read_entries(entries).object_key
    try:
        return open_object_key(customer_key.key, sealed, object_path(bucket, key))
    except NotAuthentic:
        raise Refused(*refusals.wrong) from None


def _of_layer(context: Mapping[str, str], domain: Domain) -> Mapping[str, str]:
    """
    What a data key is bound to that seals the key of a layer.

    :param context: What the client gave.
    """
    layer = _LAYERS.get(domain)
    return context if layer is None else {**context, _LAYER: layer}


def _clients(customer_key: CustomerKey | None) -> _External:
    if customer_key is None or len(customer_key.key) != KEY_SIZE:
        raise no_customer_key()
    return _External(customer_key.key, partial(KeyRecord))
