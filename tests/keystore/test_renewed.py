# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.renewed``.
"""

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.keystore.renewed import Lease, Renewed
from tests.cases import SyncCase


@define
class Giver:
    """
    Gives a value when the test says so.

    :ivar asked: Those who wait, in order.
    """

    asked: "list[Deferred[Lease[str]]]" = field(factory=list)

    async def get(self) -> Lease[str]:
        """
        Wait for a value.
        """
        waiting: Deferred[Lease[str]] = Deferred()
        self.asked.append(waiting)
        return await waiting


class RenewedTests(SyncCase):
    """
    A value is got when it is needed, and again in time.
    """

    def setUp(self) -> None:
        """
        Have no value yet.
        """
        self.giver = Giver()
        self.time = 1000.0
        self.renewed = Renewed(self.giver.get, lambda: self.time)

    def ask(self) -> "Deferred[str]":
        """
        Ask for the value.
        """
        return Deferred.fromCoroutine(self.renewed.value())

    def have(self, value: str, seconds: float) -> None:
        """
        Have a value that is good for some time.
        """
        asking = self.ask()
        self.giver.asked[-1].callback(Lease(value, seconds))
        self.assertEqual(self.successResultOf(asking), value)

    def test_one_call(self) -> None:
        """
        All who ask at the same time wait for one call, and get its value or failure.
        """
        asking = [self.ask() for _ in range(3)]
        self.assertEqual(len(self.giver.asked), 1)
        self.giver.asked[0].errback(KeyStoreUnreachable("away"))
        for one in asking:
            self.failureResultOf(one, KeyStoreUnreachable)
        asking = [self.ask() for _ in range(3)]
        self.assertEqual(len(self.giver.asked), 2)
        self.giver.asked[1].callback(Lease("a", 100.0))
        self.assertEqual([self.successResultOf(one) for one in asking], ["a"] * 3)

    def test_in_the_background(self) -> None:
        """
        While a value is good nobody waits for the next one.
        """
        self.have("a", 100.0)
        self.time += 79.0
        self.assertEqual(self.successResultOf(self.ask()), "a")
        self.assertEqual(len(self.giver.asked), 1)
        self.time += 2.0
        for _ in range(2):
            self.assertEqual(self.successResultOf(self.ask()), "a")
        self.assertEqual(len(self.giver.asked), 2)
        self.giver.asked[1].callback(Lease("b", 100.0))
        self.assertEqual(self.successResultOf(self.ask()), "b")

    def test_at_most_some_minutes_early(self) -> None:
        """
        A value that is good for long is not replaced much earlier than it must be.
        """
        self.have("a", 36000.0)
        self.time += 36000.0 * 0.94
        self.successResultOf(self.ask())
        self.assertEqual(len(self.giver.asked), 1)

    def test_failed_renewal(self) -> None:
        """
        When the next value cannot be got, the old one is used as long as it is good, and it is
        not tried again with every call.
        """
        self.have("a", 100.0)
        self.time += 81.0
        self.successResultOf(self.ask())
        self.giver.asked[1].errback(KeyStoreFailed("no"))
        self.assertEqual(self.successResultOf(self.ask()), "a")
        self.assertEqual(len(self.giver.asked), 2)
        self.time += 11.0
        self.successResultOf(self.ask())
        self.assertEqual(len(self.giver.asked), 3)
        self.time += 10.0
        self.assertNoResult(self.ask())

    def test_defect(self) -> None:
        """
        A failed renewal that nobody waits for and that is a defect is logged as one.
        """
        self.have("a", 100.0)
        self.time += 81.0
        self.successResultOf(self.ask())
        self.giver.asked[1].errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_forget(self) -> None:
        """
        A value that the service refuses is used no more; one that was replaced meanwhile stays.
        """
        self.have("a", 100.0)
        self.renewed.forget("a")
        self.have("b", 100.0)
        self.renewed.forget("a")
        self.assertEqual(self.successResultOf(self.ask()), "b")

    def test_who_goes_away(self) -> None:
        """
        Who waits no more takes the value from nobody else.
        """
        first, second = self.ask(), self.ask()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.giver.asked[0].callback(Lease("a"))
        self.assertEqual(self.successResultOf(second), "a")

    def test_close(self) -> None:
        """
        Closing ends the call that is under way.
        """
        asking = self.ask()
        self.renewed.close()
        self.failureResultOf(asking, CancelledError)
        self.renewed.close()

    def test_hidden(self) -> None:
        """
        The value is in no text.
        """
        self.have("secret-value", 100.0)
        self.assertNotIn("secret-value", repr(self.renewed) + repr(Lease("secret-value")))
