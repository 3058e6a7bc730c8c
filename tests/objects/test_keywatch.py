# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.objects.keywatch``.
"""

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from kypello.errors import KMSUnavailable
from kypello.objects.canary import GuardedKMS
from kypello.objects.keywatch import LONGEST, KeyWatch
from kypello.store.memory import MemoryIndex
from tests.cases import SyncCase
from tests.objects.keyservice import MemoryKMS


class KeyWatchTests(SyncCase):
    """
    ``KeyWatch`` asks until the key is there.
    """

    def setUp(self) -> None:
        """
        Watch a key service in memory.
        """
        self.clock = Clock()
        self.kms = MemoryKMS.with_default_key()
        guarded = GuardedKMS(self.kms, MemoryIndex(), self.clock)
        self.watch = KeyWatch(self.clock, guarded)

    def proved(self, most: float = 5.0) -> "Deferred[None]":
        """
        Begin to wait for the key.
        """
        return Deferred.fromCoroutine(self.watch.proved(most))

    def test_at_once(self) -> None:
        """
        A key that is there is known at once, and nothing is asked again.
        """
        self.assertTrue(verifyObject(IService, self.watch))
        self.watch.startService()
        self.successResultOf(self.proved())
        self.assertRegex(self.watch.fingerprint, "^[0-9a-f-]{19}$")
        self.assertIsNone(self.watch.trouble)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_outage(self) -> None:
        """
        While the service is down it is asked again and again, in pauses that grow, and the
        trouble is told; when it is back the key is known.
        """
        self.kms.down = True
        self.watch.startService()
        waiting = self.proved()
        self.clock.pump([0.05] * 200)
        self.successResultOf(waiting)
        self.assertIsInstance(self.watch.trouble, KMSUnavailable)
        self.assertEqual(self.watch.fingerprint, "")
        self.assertLess(len(self.kms.calls), 10)
        self.kms.down = False
        self.clock.advance(LONGEST)
        self.assertNotEqual(self.watch.fingerprint, "")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """
        When it is stopped it asks no more.
        """
        self.kms.down = True
        self.watch.startService()
        self.watch.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])
