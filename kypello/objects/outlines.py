# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What brief listings tell of encrypted objects, in one step from the record of a store.

A page has a thousand of them: most of the time that it takes went into values which nobody looked
at.  So no more is read of a record than is shown.  What is not as it is with nearly all objects is
left to those who know all cases.
"""

from collections.abc import Mapping

import msgspec
from attrs import define

from kypello.crypto import dare
from kypello.crypto.metadata import CUSTOMERS_KEY, IV, MULTIPART
from kypello.errors import NotAuthentic
from kypello.model import ObjectInfo, ObjectMetadata
from kypello.objects.metadata import MetadataKey
from kypello.store.outlines import OutlineRecord

_NOTHING: Mapping[str, str] = {}


class _Entries(msgspec.Struct, frozen=True, gc=False):
    """
    The entries of the encryption that matter here; ``None`` for those that are not there.
    """

    iv: str = msgspec.field(name=IV, default="")
    customers_key: str | None = msgspec.field(name=CUSTOMERS_KEY, default=None)
    multipart: str | None = msgspec.field(name=MULTIPART, default=None)


_decode = msgspec.msgpack.Decoder(OutlineRecord[_Entries]).decode


@define(eq=False)
class Outlines:
    """
    Tells listed objects of one bucket.

    :ivar _key: The metadata key of the bucket.  It may be that of an earlier bucket of the name:
        then it opens nothing.
    """

    _bucket: str
    _key: MetadataKey

    def tell(self, key: str, record: bytes) -> ObjectInfo | None:
        """
        What a brief listing tells of an object; ``None`` for one that is not encrypted with a key
        of the KMS, or is not what was written.
        """
        try:
            stored = _decode(record)
            metadata = stored.metadata
            entries = metadata.internal
            if not entries.iv or entries.customers_key is not None:
                return None
            opened = self._key.unseal(key, entries.iv, metadata.sealed)
        except (NotAuthentic, msgspec.ValidationError):
            return None
        if entries.multipart is None:
            sound = not opened.parts and dare.encrypted_size(opened.size) == stored.size
        else:
            sound = bool(opened.parts)
        if not sound:
            return None
        # By position, as names take time.
        return ObjectInfo(
            self._bucket,
            key,
            stored.version_id,
            opened.size,
            stored.modified,
            ObjectMetadata(
                opened.etag,
                _NOTHING,
                _NOTHING,
                opened.checksums,
                opened.checksum_type,
                _NOTHING,
                None,
                metadata.storage_class,
            ),
        )
