# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.brake``.
"""

import os

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from kypello.http.brake import LOOK, Brake, shared_brake
from tests.cases import SyncCase


class BrakeTests(SyncCase):
    """
    A brake of two processes.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        descriptor = shared_brake(2)
        self.addCleanup(os.close, descriptor)
        self.clock = Clock()
        self.one, self.two = (Brake(self.clock, descriptor) for _ in range(2))

    def wait(self) -> "Deferred[bool]":
        """
        Wait in one process.
        """
        return Deferred.fromCoroutine(self.one.released())

    def test_free(self) -> None:
        """
        Nobody waits before it is pulled.
        """
        self.assertFalse(self.one.pulled)
        self.assertTrue(self.successResultOf(self.wait()))

    def test_pulled(self) -> None:
        """
        What one process pulls, all obey, until any one releases it.
        """
        self.two.pull()
        self.assertTrue(self.one.pulled)
        waiting = self.wait()
        self.clock.advance(LOOK)
        self.assertNoResult(waiting)
        self.two.release()
        self.clock.advance(LOOK)
        self.assertTrue(self.successResultOf(waiting))

    def test_end(self) -> None:
        """
        Nobody waits in a process that ends.
        """
        self.one.pull()
        waiting = self.wait()
        self.one.end()
        self.clock.advance(LOOK)
        self.assertFalse(self.successResultOf(waiting))
        self.assertTrue(self.two.pulled)

    def test_goes_away(self) -> None:
        """
        Who goes away leaves nothing behind.
        """
        self.one.pull()
        waiting = self.wait()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
