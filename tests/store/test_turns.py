# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.turns`` and ``kypello.store.undisturbed``.
"""

import contextlib
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater

from kypello.errors import Conflict
from kypello.store.turns import Turns
from kypello.store.undisturbed import given_up, undisturbed
from tests.cases import SyncCase


class TurnsTests(SyncCase):
    """
    Who changes the same thing does it one after the other.
    """

    def setUp(self) -> None:
        """
        Nobody changes anything.
        """
        self.turns = Turns()
        self.had: list[tuple[int, bool]] = []
        self.ends: list[Deferred[None]] = []

    def take(self, number: int, place: str = "place", end: bool = False) -> "Deferred[None]":
        """
        Want a turn.

        :param end: End it as soon as it comes.
        """

        async def turn() -> None:
            """
            Have it until the next of the ends comes.
            """
            async with self.turns.turn(place) as waited:
                self.had.append((number, waited))
                if not end:
                    self.ends.append(Deferred())
                    await self.ends[-1]

        return Deferred.fromCoroutine(turn())

    def test_order(self) -> None:
        """
        Turns come in the order in which they were wanted, each after the last has ended; all
        but the first learn that somebody was before them.
        """
        for number in range(3):
            self.take(number)
        for count in range(1, 4):
            self.assertEqual(self.had, [(0, False), (1, True), (2, True)][:count])
            self.ends[-1].callback(None)
        self.take(3)
        self.assertEqual(self.had[3:], [(3, False)])

    def test_places(self) -> None:
        """
        Who changes something else waits for nobody.
        """
        self.take(0, "here")
        self.take(1, "there")
        self.assertEqual(self.had, [(0, False), (1, False)])

    def test_cancelled(self) -> None:
        """
        Who is cancelled while it waits has no turn, and the others have theirs.
        """
        self.take(0)
        cancelled = self.take(1)
        self.take(2)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.ends[-1].callback(None)
        self.assertEqual(self.had, [(0, False), (2, True)])

    def test_many(self) -> None:
        """
        Any number of them may end their turn as soon as it comes, and one that comes meanwhile
        has its turn, too.
        """
        self.take(0)
        for number in range(1, 5000):
            self.take(number, end=True)
        self.ends[-1].callback(None)
        self.take(5000)
        self.assertEqual([number for number, _ in self.had], list(range(5001)))
        self.assertEqual(self.had[-1], (5000, False))


class UndisturbedTests(SyncCase):
    """
    Work goes to its end although its caller is cancelled.
    """

    def setUp(self) -> None:
        """
        Work that waits twice.
        """
        self.steps: list[Deferred[str]] = [Deferred(), Deferred()]
        self.results: list[str] = []

    async def work(self) -> str:
        """
        Wait twice.
        """
        for step in self.steps:
            self.results.append(await step)
        return "done"

    def begin(self, work: Coroutine[Any, Any, Any]) -> "Deferred[Any]":
        """
        Do some work undisturbed.
        """

        async def outcome() -> Any:
            """
            What comes of it.
            """
            return await undisturbed(work)

        return Deferred.fromCoroutine(outcome())

    def test_result(self) -> None:
        """
        The result is that of the work, and nobody was cancelled.
        """
        outcome = self.begin(self.work())
        self.steps[0].callback("one")
        self.assertNoResult(outcome)
        self.steps[1].callback("two")
        self.assertEqual(self.successResultOf(outcome), ("done", False))
        self.assertEqual(self.results, ["one", "two"])

    def test_cancelled(self) -> None:
        """
        A cancellation reaches nothing, and is told with the result.
        """
        outcome = self.begin(self.work())
        outcome.cancel()
        self.assertEqual([step.called for step in self.steps], [False, False])
        self.steps[0].callback("one")
        outcome.cancel()
        self.steps[1].callback("two")
        self.assertEqual(self.successResultOf(outcome), ("done", True))

    def test_failure(self) -> None:
        """
        What the work raises is raised, and what it awaits may fail.
        """
        outcome = self.begin(self.work())
        self.steps[0].errback(ValueError("one"))
        self.failureResultOf(outcome, ValueError)
        self.assertEqual(self.results, [])

    def test_within(self) -> None:
        """
        Who is undisturbed within other such work does not hear of a cancellation of the whole.
        """
        told: list[bool] = []

        async def outer() -> str:
            """
            Do the work, and wait once more.
            """
            result, cancelled = await undisturbed(self.work())
            told.append(cancelled)
            return str(result)

        outcome = self.begin(outer())
        outcome.cancel()
        for step in self.steps:
            step.callback("some")
        self.assertEqual((self.successResultOf(outcome), told), (("done", True), [False]))


class GivenUpTests(SyncCase):
    """
    Work without an end that has to end.
    """

    def setUp(self) -> None:
        """
        Somebody makes changes for ever.
        """
        self.clock = Clock()
        self.commits: list[Deferred[None]] = []
        self.running = Deferred.fromCoroutine(self.work())

    async def work(self) -> None:
        """
        Make a change, and another one later, whether the first has come to be or not.
        """
        while True:
            with contextlib.suppress(Conflict):
                await undisturbed(self.commit())
            await deferLater(self.clock, 60)

    async def commit(self) -> None:
        """
        Make a change.
        """
        self.commits.append(Deferred())
        await self.commits[-1]

    def give_up(self) -> "Deferred[None]":
        """
        Have it end.
        """
        return Deferred.fromCoroutine(given_up(self.running, self.clock))

    def test_waiting(self) -> None:
        """
        What waits ends at once, and leaves nothing to be called later.
        """
        self.commits[0].callback(None)
        self.assertIsNone(self.successResultOf(self.give_up()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancellation_lost(self) -> None:
        """
        A change that fails after the cancellation does not keep the work from its end.
        """
        ended = self.give_up()
        self.commits[0].errback(Conflict(b"key"))
        self.assertNoResult(ended)
        self.clock.advance(1)
        self.assertIsNone(self.successResultOf(ended))
        self.assertEqual((len(self.commits), self.clock.getDelayedCalls()), (1, []))

    def test_failed(self) -> None:
        """
        What has failed by itself is told.
        """
        ended = self.give_up()
        self.commits[0].errback(ValueError("key"))
        self.failureResultOf(ended, ValueError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
