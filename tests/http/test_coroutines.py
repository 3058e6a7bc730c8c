# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.coroutines``.
"""

from twisted.internet.defer import CancelledError, Deferred

from kypello.http.coroutines import begin
from tests.cases import SyncCase


class BeginTests(SyncCase):
    """
    ``begin`` runs a coroutine as ``Deferred.fromCoroutine`` does.
    """

    def test_never_waits(self) -> None:
        """
        One that never waits has ended, even if it awaits what has come.
        """
        done: list[int] = []

        async def ready() -> None:
            arrived: Deferred[int] = Deferred()
            arrived.callback(1)
            done.append(await arrived)

        self.assertIsNone(begin(ready()))
        self.assertEqual(done, [1])

    def test_raises(self) -> None:
        """
        What is raised before it waits is raised.
        """

        async def wrong() -> None:
            raise ValueError("wrong")

        with self.assertRaises(ValueError):
            begin(wrong())

    def test_waits(self) -> None:
        """
        One that waits gets what comes, result or failure, each time, and gives its result.
        """
        first: Deferred[int] = Deferred()
        second: Deferred[int] = Deferred()

        async def waiting() -> list[object]:
            try:
                await first
            except ValueError as error:
                return [error.args, await second]
            raise AssertionError("unreachable")

        running = begin(waiting())
        assert running is not None
        self.assertNoResult(running)
        first.errback(ValueError(1))
        self.assertNoResult(running)
        second.callback(2)
        self.assertEqual(self.successResultOf(running), [(1,), 2])

    def test_raises_later(self) -> None:
        """
        What is raised after it has waited fails the Deferred.
        """
        first: Deferred[None] = Deferred()

        async def wrong() -> None:
            await first
            raise ValueError("wrong")

        running = begin(wrong())
        assert running is not None
        first.callback(None)
        self.failureResultOf(running, ValueError)

    def test_cancelled(self) -> None:
        """
        To cancel it cancels what it waits for.
        """
        cancelled: list[object] = []
        waited_for: Deferred[None] = Deferred(cancelled.append)

        async def waiting() -> None:
            await waited_for

        running = begin(waiting())
        assert running is not None
        running.cancel()
        self.assertEqual(cancelled, [waited_for])
        self.failureResultOf(running, CancelledError)
