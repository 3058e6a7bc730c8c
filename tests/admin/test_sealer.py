# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of encrypted payloads off the reactor thread.
"""

import os
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from kypello.admin.sealer import MAX_OF_ONE, MAX_WAITING, Sealer
from kypello.crypto.payload import PayloadCipher, decrypt
from kypello.errors import NotAuthentic, Refused
from kypello.interfaces import ILane
from kypello.model import Identity
from kypello.testing.fakes import InlineLane
from tests.cases import SyncCase


@implementer(ILane)
@define
class HeldLane:
    """
    A lane that runs its calls when the test says so.
    """

    _waiting: list[Callable[[], None]] = field(factory=list)

    def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """
        Queue *call*.
        """
        outcome: Deferred[Any] = Deferred()
        self._waiting.append(lambda: outcome.callback(call(*arguments)))

        async def wait() -> Any:
            """
            Give what comes of it.
            """
            return await outcome

        return wait()

    def run_all(self) -> None:
        """
        Run what was queued.
        """
        while self._waiting:
            self._waiting.pop(0)()


class SealerTests(SyncCase):
    """
    Payloads are made and opened one at a time, and not too many wait.
    """

    def seal(self, sealer: Sealer, name: str = "somebody") -> "Deferred[bytes]":
        """
        Begin to make a payload.
        """
        return Deferred.fromCoroutine(sealer.seal(Identity(name, "secret"), b"text"))

    def refused(self, waiting: "Deferred[bytes]") -> None:
        """
        See that too many wait.
        """
        error = self.failureResultOf(waiting, Refused).value
        self.assertEqual(error.code, "SlowDown")

    def test_by_default(self) -> None:
        """
        What was sealed with the strongest algorithm opens with the same secret key only.
        """
        sealer = Sealer(InlineLane(), os.urandom, PayloadCipher.ARGON2_AES)
        sealed = self.successResultOf(self.seal(sealer))
        self.assertEqual(sealed[32], PayloadCipher.ARGON2_AES)
        self.assertEqual(decrypt("secret", sealed), b"text")
        opening = Deferred.fromCoroutine(sealer.open(Identity("somebody", "another"), sealed))
        self.failureResultOf(opening, NotAuthentic)

    def test_bounded(self) -> None:
        """
        When too many wait, who comes is refused; those that were given up count until they have
        run.
        """
        lane = HeldLane()
        sealer = Sealer(lane, os.urandom, PayloadCipher.PBKDF2_AES)
        waiting = [self.seal(sealer, f"user-{number}") for number in range(MAX_WAITING)]
        for each in waiting[1:]:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.refused(self.seal(sealer))
        lane.run_all()
        self.assertEqual(decrypt("secret", self.successResultOf(waiting[0])), b"text")
        again = self.seal(sealer)
        lane.run_all()
        self.assertEqual(decrypt("secret", self.successResultOf(again)), b"text")

    def test_bounded_for_one(self) -> None:
        """
        One who asks too often is refused before others are.
        """
        lane = HeldLane()
        sealer = Sealer(lane, os.urandom, PayloadCipher.PBKDF2_AES)
        waiting = [self.seal(sealer) for _ in range(MAX_OF_ONE)]
        self.refused(self.seal(sealer))
        waiting.append(self.seal(sealer, "other"))
        lane.run_all()
        for each in waiting:
            self.successResultOf(each)
