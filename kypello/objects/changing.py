# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Changes of the metadata of objects that are encrypted.

What is sealed is opened, changed and sealed anew, with what binds it to the object.  What has a
key of its client is not opened: its tags lie in clear.
"""

from attrs import evolve, frozen

from kypello.crypto.metadata import is_encrypted
from kypello.crypto.randomness import Random
from kypello.errors import KypelloError
from kypello.interfaces import Change
from kypello.model import ObjectInfo, ObjectMetadata
from kypello.objects.access import is_customers, plainly
from kypello.objects.conditions import known_object, needed_key
from kypello.objects.metadata import MetadataKey


@frozen
class Resealing:
    """
    Changes what a store keeps as a client wants it.

    :ivar _change: Made to what the client knows.
    :ivar _metadata_key: Of the bucket; ``None`` when it has none, or it cannot be had.
    :ivar _failure: Why it cannot be had.
    """

    _change: Change
    _random: Random
    _metadata_key: MetadataKey | None
    _failure: KypelloError | None

    def __call__(self, stored: ObjectInfo) -> ObjectMetadata:
        """
        Change one version.

        :raises NotAuthentic: It is not what was written.
        :raises KypelloError: Its metadata cannot be opened now.
        """
        metadata = stored.metadata
        if not is_encrypted(metadata.internal):
            return plainly(self._change(stored))
        changed = self._change(known_object(stored, self._metadata_key, self._failure))
        if is_customers(metadata.internal):
            return evolve(metadata, tags=changed.tags, lock=changed.lock)
        key = needed_key(self._metadata_key, self._failure)
        opened = key.open(stored.key, metadata)
        if changed.tags == opened.metadata.tags:
            return evolve(metadata, lock=changed.lock)
        whole = evolve(
            opened.metadata,
            tags=changed.tags,
            internal=metadata.internal,
            lock=changed.lock,
        )
        return key.seal(stored.key, whole, opened.size, self._random, opened.parts)
