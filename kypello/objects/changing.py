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
from kypello.errors import KMSUnavailable, KypelloError
from kypello.interfaces import Change
from kypello.model import ObjectInfo, ObjectMetadata
from kypello.objects.access import is_customers, plainly
from kypello.objects.metadata import MetadataKey
from kypello.objects.shown import listed_object, object_without_key


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
    _failure: KypelloError | None = None

    def __call__(self, stored: ObjectInfo) -> ObjectMetadata:
        """
        Change one version.

        :raises NotAuthentic: It is not what was written.
        :raises KypelloError: Its metadata cannot be opened now.
        """
        metadata = stored.metadata
        if not is_encrypted(metadata.internal):
            return plainly(self._change(stored))
        if is_customers(metadata.internal):
            changed = self._change(object_without_key(stored))
            return evolve(metadata, tags=changed.tags)
        key = self.metadata_key()
        opened = key.open(stored.key, metadata)
        changed = self._change(listed_object(key, stored))
        whole = evolve(opened.metadata, tags=changed.tags, internal=metadata.internal)
        return key.seal(stored.key, whole, opened.size, self._random, opened.parts)

    def metadata_key(self) -> MetadataKey:
        """
        The metadata key of the bucket.

        :raises KypelloError: It cannot be had.
        """
        if self._metadata_key is None:
            raise self._failure or KMSUnavailable("the metadata key was made a moment ago", 1.0)
        return self._metadata_key
