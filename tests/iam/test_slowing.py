# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.slowing``: those who guess.
"""

import os

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from kypello.iam.logins import LoginRefused, ProviderUnreachable
from kypello.iam.pace import Pace, shared_attempts
from kypello.iam.slowing import BURST, LONGEST, QUIET, RATE, Slowing, TooManyAttempts
from tests.cases import AsyncCase, SyncCase

SOURCE, USER = "192.0.2.1", "alice"


class SlowingTests(AsyncCase):
    """
    Three attempts of a user at once, then one in two seconds; of a source six, then one a second.
    """

    def setUp(self) -> None:
        """
        Begin with nobody.
        """
        self.clock = Clock()
        self.tried = 0
        self.slowing = Slowing(self.clock, 10.0, Pace(6, 1.0), Pace(3, 0.5))

    def attempt(
        self, source: str = SOURCE, user: str = USER, error: Exception | None = None
    ) -> "Deferred[str]":
        """
        Try, and fail unless another error is given.
        """

        async def login() -> str:
            """
            Fail.
            """
            self.tried += 1
            raise error or LoginRefused("no")

        return Deferred.fromCoroutine(self.slowing.attempt(source, user, login))

    def succeed(self, source: str = SOURCE, user: str = USER) -> "Deferred[str]":
        """
        Try, and succeed.
        """

        async def login() -> str:
            """
            Succeed.
            """
            return "in"

        return Deferred.fromCoroutine(self.slowing.attempt(source, user, login))

    async def fail(self, times: int, source: str = SOURCE, user: str = USER) -> None:
        """
        Try several times without having to wait.
        """
        for _ in range(times):
            await self.assertFailure(self.attempt(source, user), LoginRefused)

    async def test_user(self) -> None:
        """
        After a few failures, from wherever, the next attempt waits its turn.
        """
        for number in range(3):
            await self.fail(1, f"192.0.2.{number}")
        waiting = self.attempt("192.0.2.99")
        self.assertNoResult(waiting)
        self.assertEqual(self.tried, 3)
        self.clock.advance(1.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        await self.assertFailure(waiting, LoginRefused)
        self.assertEqual(self.tried, 4)

    async def test_source(self) -> None:
        """
        A source that tries many users waits, and others do not.
        """
        for number in range(6):
            await self.fail(1, user=f"user{number}")
        self.assertNoResult(self.attempt(user="another").addErrback(lambda _: None))
        self.assertEqual(await self.succeed("192.0.2.2", "another-one"), "in")

    async def test_at_once(self) -> None:
        """
        Many attempts at once wait behind each other, and the last ones are refused untried.
        """
        waiting = [self.attempt(user="") for _ in range(50)]
        for one in waiting:
            one.addErrback(lambda failure: failure.trap(LoginRefused, TooManyAttempts) and None)
        self.assertEqual(self.tried, 6)
        for _ in range(60):
            self.clock.advance(1)
        self.assertEqual(self.tried, 16)
        refused = self.attempt(user="")
        await self.assertFailure(refused, LoginRefused)

    async def test_retry_after(self) -> None:
        """
        Who is refused is told when to try again.
        """
        for _ in range(16):
            self.attempt(user="").addErrback(lambda _: None)
        error = await self.assertFailure(self.attempt(user=""), TooManyAttempts)
        self.assertEqual(error.retry_after, 11.0)

    async def test_success(self) -> None:
        """
        Those who succeed never wait, however often.
        """
        for _ in range(100):
            self.assertEqual(await self.succeed(), "in")

    async def test_unreachable(self) -> None:
        """
        It is no guess when nobody could be asked.
        """
        for _ in range(100):
            failing = self.attempt(error=ProviderUnreachable("down"))
            await self.assertFailure(failing, ProviderUnreachable)

    async def test_gone(self) -> None:
        """
        Who goes away before the answer has tried all the same.
        """

        async def never() -> str:
            """
            Wait.
            """
            await Deferred()
            return ""

        for _ in range(3):
            going = Deferred.fromCoroutine(self.slowing.attempt(SOURCE, USER, never))
            going.cancel()
            await self.assertFailure(going, CancelledError)
        waiting = self.succeed()
        self.assertNoResult(waiting)
        self.clock.advance(2)
        self.assertEqual(await waiting, "in")

    async def test_forgotten(self) -> None:
        """
        Failures are forgotten with time.
        """
        await self.fail(3)
        self.clock.advance(6)
        await self.fail(3)

    async def test_networks(self) -> None:
        """
        A network of IPv6 is one source; an address of IPv4 is the same in both notations.
        """
        for number in range(6):
            await self.fail(1, f"2001:db8::{number}", f"user{number}")
        waiting = self.succeed("2001:db8::ffff:1", "other")
        self.assertNoResult(waiting)
        self.assertEqual(await self.succeed("2001:db8:0:1::1", "other"), "in")
        for number in range(6):
            await self.fail(1, "::ffff:192.0.2.7", f"name{number}")
        self.assertNoResult(self.succeed("192.0.2.7", "other"))
        self.clock.advance(1)
        self.assertEqual(await waiting, "in")


class FailuresTests(SyncCase):
    """
    Repeated failures.
    """

    def setUp(self) -> None:
        """
        Nobody has failed.
        """
        self.clock = Clock()
        self.slowing = Slowing(self.clock)

    def fail_once(self, source: str) -> "Deferred[None]":
        """
        Fail, and get what fires with the answer.
        """
        return Deferred.fromCoroutine(self.slowing.failed(source))

    def test_few(self) -> None:
        """
        Some failures are answered at once; each further one is held back for longer.
        """
        for _ in range(BURST - 1):
            self.assertTrue(self.fail_once("192.0.2.1").called)
        first, second = self.fail_once("192.0.2.1"), self.fail_once("192.0.2.1")
        self.assertFalse(first.called)
        self.clock.advance(1 / RATE)
        self.assertEqual((first.called, second.called), (True, False))
        self.clock.advance(1 / RATE)
        self.assertTrue(second.called)

    def test_bound(self) -> None:
        """
        No answer is held back for ever.
        """
        waiting = [self.fail_once("192.0.2.1") for _ in range(500)]
        self.clock.advance(LONGEST)
        self.assertTrue(all(one.called for one in waiting))

    def test_others(self) -> None:
        """
        Others are not slowed down.
        """
        for _ in range(BURST + 5):
            self.fail_once("192.0.2.1")
        self.assertTrue(self.fail_once("192.0.2.2").called)

    def test_told(self) -> None:
        """
        A source that goes on is told of once, and again when it has been quiet in between.
        """
        told: list[LogEvent] = []
        globalLogPublisher.addObserver(told.append)
        self.addCleanup(globalLogPublisher.removeObserver, told.append)
        for expected in (1, 2):
            # It waits for each answer: no more is held back then than the next one.
            for _ in range(BURST + 50):
                answered = self.fail_once("192.0.2.1")
                if not answered.called:
                    self.clock.advance(1 / RATE)
                self.assertTrue(answered.called)
            self.assertEqual([event["source"] for event in told], ["192.0.2.1"] * expected)
            self.clock.advance(QUIET + 1)

    def test_forgiven(self) -> None:
        """
        Failures are forgotten with time.
        """
        for _ in range(BURST + 5):
            self.fail_once("192.0.2.1")
        self.clock.advance((BURST + 5) / RATE)
        self.assertTrue(self.fail_once("192.0.2.1").called)


class SharedTests(AsyncCase):
    """
    Two processes that count together.
    """

    def setUp(self) -> None:
        """
        Nobody has tried.
        """
        descriptor = shared_attempts()
        self.addCleanup(os.close, descriptor)
        self.clock = Clock()
        self.clock.advance(1e9)
        self.both = [Slowing.shared(self.clock, descriptor) for _ in range(2)]

    def test_failures(self) -> None:
        """
        As many failures as one process answers at once, both together do.
        """
        for number in range(BURST - 1):
            answer = Deferred.fromCoroutine(self.both[number % 2].failed(SOURCE))
            self.assertTrue(answer.called)
        for slowing in self.both:
            self.assertNoResult(Deferred.fromCoroutine(slowing.failed(SOURCE)))
        self.assertTrue(Deferred.fromCoroutine(self.both[0].failed("192.0.2.2")).called)

    async def test_logins(self) -> None:
        """
        A user whom somebody tries to be with one process waits with the other; failures of other
        kinds, and of a source with the name of the user, count for themselves.
        """

        async def login() -> str:
            """
            Fail.
            """
            raise LoginRefused("no")

        for number in range(10):
            attempt = self.both[number % 2].attempt(f"192.0.2.{number}", SOURCE, login)
            await self.assertFailure(Deferred.fromCoroutine(attempt), LoginRefused)
        for slowing in self.both:
            waiting = Deferred.fromCoroutine(slowing.attempt("192.0.2.99", SOURCE, login))
            self.assertNoResult(waiting)
            waiting.addErrback(lambda failure: failure.trap(LoginRefused) and None)
            await self.assertFailure(
                Deferred.fromCoroutine(slowing.attempt(SOURCE, "another", login)), LoginRefused
            )
            self.assertTrue(Deferred.fromCoroutine(slowing.failed(SOURCE)).called)
        self.clock.advance(60)
