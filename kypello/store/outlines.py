# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Records of objects as far as brief listings need them, which is read in a third of the time.
"""

from typing import Generic, TypeVar

import msgspec

E = TypeVar("E")


class OutlineMetadata(msgspec.Struct, Generic[E], array_like=True, frozen=True, gc=False):
    """
    The first fields of :class:`kypello.store.records.MetadataRecord`.

    :ivar internal: As much of the entries as the class of whoever asks has.
    """

    etag: str
    headers: dict[str, str]
    user: dict[str, str]
    checksums: dict[str, str]
    checksum_type: str
    tags: dict[str, str]
    storage_class: str
    internal: E
    sealed: bytes


class OutlineRecord(msgspec.Struct, Generic[E], array_like=True, frozen=True, gc=False):
    """
    The first fields of :class:`kypello.store.records.ObjectRecord`.
    """

    sequence: int
    version_id: str
    size: int
    modified: int
    metadata: OutlineMetadata[E]
