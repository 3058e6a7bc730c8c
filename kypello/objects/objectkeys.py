# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The keys of objects: made for new ones, and opened again, for every kind of encryption.

The kinds differ in who has the external key that seals the object key: the KMS, under the
default master key (SSE-S3) or one that the client or the bucket names (SSE-KMS), or the client
itself (SSE-C).
"""

from collections.abc import Mapping
from functools import partial

from attrs import define, field, frozen

from kypello.crypto.dare import StreamKey
from kypello.crypto.keys import (
    KEY_SIZE,
    Domain,
    generate_object_key,
    object_path,
    open_object_key,
    seal_object_key,
)
from kypello.crypto.metadata import KeyRecord, domain_of, read_entries, replace_entries
from kypello.crypto.randomness import Random
from kypello.crypto.sse import master_key_name, no_customer_key
from kypello.errors import KMSNotConfigured, NotAuthentic, Refused
from kypello.model import SSE_C, CustomerKey, EncryptionRequest
from kypello.objects.datakeys import DataKeys, bucket_context, object_context

_DOMAINS = {"AES256": Domain.SSE_S3, "aws:kms": Domain.SSE_KMS, SSE_C: Domain.SSE_C}


@define
class NewObjectKey:
    """
    The key of an object that is being written, and how it is found again.
    """

    key: bytes = field(repr=False)
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
        external = await self._external(bucket, key, wanted, renewal)
        object_key = generate_object_key(external.key, self._random)
        sealed = seal_object_key(
            external.key,
            object_key,
            _DOMAINS[wanted.algorithm],
            object_path(bucket, key),
            self._random,
        )
        return NewObjectKey(object_key, external.recorded(sealed, multipart=multipart))

    async def rewrap(
        self,
        bucket: str,
        key: str,
        entries: Mapping[str, str],
        object_key: bytes,
        wanted: EncryptionRequest,
        *,
        renewal: bytes = b"",
    ) -> Mapping[str, str]:
        """
        Seal the key of an object anew.

        The IV stays, as what is known of the object and its parts is bound to it.

        :param entries: Those that the object has.
        :param wanted: As in :meth:`make`; its master key may be named for SSE-S3, too.
        :param renewal: As there.
        :return: The entries that it gets.
        :raises KypelloError: As :meth:`make`.
        """
        external = await self._external(bucket, key, wanted, renewal)
        old = read_entries(entries)
        sealed = seal_object_key(
            external.key,
            object_key,
            _DOMAINS[wanted.algorithm],
            object_path(bucket, key),
            self._random,
            old.object_key.iv,
        )
        opaque = sealed.domain is Domain.SSE_S3 and (
            old.opaque or old.object_key.domain is not Domain.SSE_S3
        )
        record = external.recorded(sealed, multipart=old.multipart, opaque=opaque)
        return replace_entries(entries, record)

    def opening(self, bucket: str, key: str, entries: Mapping[str, str]) -> "Opening":
        """
        How the key of an object is opened whose external key the KMS has.

        :raises KMSNotConfigured:
        """
        return Opening(self._configured(), bucket, key, entries)

    async def _external(
        self, bucket: str, key: str, wanted: EncryptionRequest, renewal: bytes
    ) -> _External:
        if wanted.algorithm == SSE_C:
            return _clients(wanted.customer_key)
        return await self._from_kms(bucket, key, wanted, renewal)

    async def _from_kms(
        self, bucket: str, key: str, wanted: EncryptionRequest, renewal: bytes
    ) -> _External:
        name = master_key_name(wanted.key_id) if wanted.key_id else ""
        made = await self._configured().for_object(
            bucket,
            key,
            name,
            wanted.context,
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
        bucket, key = self._bucket, self._key
        record = read_entries(self._entries)
        if record.key_name is None or record.data_key is None:
            raise NotAuthentic("metadata: the key is the client's")
        context = (
            bucket_context(bucket)
            if record.bucket_key
            else object_context(bucket, key, record.context or {})
        )
        sealed, path = record.object_key, object_path(bucket, key)
        return await self._data_keys.open_object_key(
            self,
            record.key_name,
            record.data_key,
            context,
            lambda external: open_object_key(external, sealed, path),
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


def _clients(customer_key: CustomerKey | None) -> _External:
    if customer_key is None or len(customer_key.key) != KEY_SIZE:
        raise no_customer_key()
    return _External(customer_key.key, partial(KeyRecord))
