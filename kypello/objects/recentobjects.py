# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Objects that were opened of late, so that reading them again need not open their metadata.
"""

from attrs import define, field

from kypello.model import ObjectInfo
from kypello.objects.access import Opened
from kypello.objects.shown import OpenedObject


@define(eq=False)
class RecentObjects:
    """
    What objects were opened to, as long as the store below tells the same of them.

    No key of an object is in here, only how it is opened.  Objects of several parts are not
    kept: they are too large.

    :ivar _most: How many objects are kept; each takes some 5 KiB.
    :ivar _known: By bucket and key, with what it was opened from.  The object that was used last
        comes last.
    """

    _most: int = 4096
    _known: dict[tuple[str, str], tuple[ObjectInfo, Opened[OpenedObject]]] = field(
        init=False, factory=dict
    )

    def get(self, stored: ObjectInfo) -> Opened[OpenedObject] | None:
        """
        What exactly this was opened to, if it is known.
        """
        key = (stored.bucket, stored.key)
        known = self._known.pop(key, None)
        if known is None or not (known[0] is stored or known[0] == stored):
            return None
        self._known[key] = known
        return known[1]

    def put(self, stored: ObjectInfo, opened: Opened[OpenedObject]) -> None:
        """
        Keep an object, in place of the one that was used the longest time ago.
        """
        if stored.parts:
            return
        self._known[stored.bucket, stored.key] = (stored, opened)
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]
