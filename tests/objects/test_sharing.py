# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of shared calls.
"""

from twisted.internet.defer import CancelledError, Deferred

from kypello.objects.sharing import SharedCalls
from tests.cases import SyncCase


class SharedCallsTests(SyncCase):
    """
    One call in flight per key.
    """

    def setUp(self) -> None:
        """
        Record the calls that are made.
        """
        self.shared: SharedCalls[str, int] = SharedCalls()
        self.pending: list[Deferred[int]] = []

    async def call(self) -> int:
        """
        Wait until the test says so.
        """
        self.pending.append(Deferred())
        return await self.pending[-1]

    def ask(self, key: str = "a") -> "Deferred[int]":
        """
        Ask for *key*.
        """

        async def ask() -> int:
            """
            Wait for the shared call.
            """
            return await self.shared.run(key, self.call)

        return Deferred.fromCoroutine(ask())

    def test_shared(self) -> None:
        """
        All who ask while a call is in flight get its result; who asks later, a new one.
        """
        first, second, other = self.ask(), self.ask(), self.ask("b")
        self.assertEqual(len(self.pending), 2)
        self.pending[0].callback(1)
        self.assertEqual((self.successResultOf(first), self.successResultOf(second)), (1, 1))
        self.assertNoResult(other)
        third = self.ask()
        self.pending[2].callback(3)
        self.assertEqual(self.successResultOf(third), 3)

    def test_immediate(self) -> None:
        """
        A call that ends at once gives its result and is not remembered.
        """

        async def call() -> int:
            """
            End at once.
            """
            return 5

        for _ in range(2):
            self.assertEqual(self.successResultOf(self.shared.run("a", call)), 5)

    def test_failure(self) -> None:
        """
        A failure reaches all, and the next asks anew.
        """
        first, second = self.ask(), self.ask()
        self.pending[0].errback(ValueError())
        self.failureResultOf(first, ValueError)
        self.failureResultOf(second, ValueError)
        self.ask()
        self.assertEqual(len(self.pending), 2)

    def test_one_leaves(self) -> None:
        """
        Who is cancelled leaves the others alone, be it the one who began.
        """
        first, second = self.ask(), self.ask()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.pending[0].callback(1)
        self.assertEqual(self.successResultOf(second), 1)

    def test_all_leave(self) -> None:
        """
        When nobody waits any more the call is cancelled, and the next asks anew.
        """
        first, second = self.ask(), self.ask()
        first.cancel()
        second.cancel()
        self.failureResultOf(first, CancelledError)
        self.failureResultOf(second, CancelledError)
        self.assertTrue(self.pending[0].called)
        third = self.ask()
        self.pending[1].callback(2)
        self.assertEqual(self.successResultOf(third), 2)
