# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.rebuiltnames``.
"""

from twisted.internet.defer import Deferred, gatherResults

from kypello.store.rebuiltnames import RebuiltNames, Use
from tests.store.disk import DiskCase


class ThreadTests(DiskCase):
    """
    Tables that are used in a thread of their own.
    """

    async def test_many(self) -> None:
        """
        What a call leaves behind in the reactor's thread does not get in the way of the next one.
        """
        names = RebuiltNames(self.lanes.lane())
        blobs = [f"{number:032x}" for number in range(6000)]
        leaving = [
            Deferred.fromCoroutine(names.leave(blobs[start : start + 3]))
            for start in range(0, len(blobs), 3)
        ]
        await gatherResults(leaving, consumeErrors=True)
        self.assertEqual(await names.named(blobs), dict.fromkeys(blobs, Use.LEFT))
        await names.close()
