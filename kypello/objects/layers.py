# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How much content takes in the store, encrypted in one layer or in two.
"""

from collections.abc import Mapping

from kypello.crypto.dare import encrypted_size, plain_size
from kypello.crypto.metadata import is_dual


def stored_size(size: int, entries: Mapping[str, str]) -> int:
    """
    How many bytes the store keeps of *size* bytes of content in one stream.

    :param entries: Of the object, or of the upload.
    """
    size = encrypted_size(size)
    return encrypted_size(size) if is_dual(entries) else size


def content_size(size: int, entries: Mapping[str, str]) -> int:
    """
    The inverse of :func:`stored_size`.

    :raises NotAuthentic: No stream has that size.
    """
    size = plain_size(size)
    return plain_size(size) if is_dual(entries) else size
