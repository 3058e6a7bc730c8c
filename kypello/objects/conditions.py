# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a client knows of an object that a store keeps encrypted, for conditions of writes and for
whoever changes it.
"""

from kypello.crypto.metadata import is_encrypted
from kypello.errors import KMSUnavailable, KypelloError, NotAuthentic
from kypello.interfaces import Condition, Guard
from kypello.model import ObjectInfo
from kypello.objects.access import is_customers
from kypello.objects.metadata import MetadataKey
from kypello.objects.shown import listed_object, object_without_key, opened_object


def checking(
    condition: Condition, metadata_key: MetadataKey | None, failure: KypelloError | None
) -> Condition:
    """
    A condition of what is stored, from one of what the client knows.

    :param metadata_key: Of the bucket; ``None`` when it has none, or it cannot be had.
    :param failure: Why it cannot be had.
    """

    def check(current: ObjectInfo | None) -> None:
        """
        Check *condition* against what the client knows of the current object.
        """
        if current is not None:
            current = known_object(current, metadata_key, failure)
        condition(current)

    return check


def guarding(guard: Guard, metadata_key: MetadataKey | None) -> Guard:
    """
    A guard of what is stored, from one of what the client knows.

    :param metadata_key: Of the bucket; ``None`` when it has none, or it cannot be had.
    """

    def check(removed: ObjectInfo | None) -> None:
        """
        Check *guard* against what can be told of the version that is removed.
        """
        if removed is not None:
            try:
                removed = known_object(removed, metadata_key, None)
            except (KMSUnavailable, NotAuthentic):
                # What cannot be opened any more can be removed.
                removed = object_without_key(removed)
        guard(removed)

    return check


def known_object(
    stored: ObjectInfo, metadata_key: MetadataKey | None, failure: KypelloError | None
) -> ObjectInfo:
    """
    An object as its client knows it; with a key of the client, what can be told without.

    :raises NotAuthentic: It is not what was written.
    :raises KypelloError: Its metadata cannot be opened now.
    """
    entries = stored.metadata.internal
    if not is_encrypted(entries):
        return stored
    if is_customers(entries):
        return object_without_key(stored)
    key = needed_key(metadata_key, failure)
    return opened_object(key, stored).info if stored.parts else listed_object(key, stored)


def needed_key(metadata_key: MetadataKey | None, failure: KypelloError | None) -> MetadataKey:
    """
    The metadata key of a bucket, which is needed after all.

    :raises KypelloError: It cannot be had.
    """
    if metadata_key is None:
        raise failure or KMSUnavailable("the metadata key was made a moment ago", 1.0)
    return metadata_key
