# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.webclient`` and ``ldap``: servers that do not answer.
"""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock

from kypello.iam import ldap, webclient
from kypello.iam.authorities import Authorities
from kypello.iam.ldap import Directory
from kypello.iam.logins import ProviderUnreachable
from kypello.iam.webclient import WebClient
from kypello.identityconfig import LDAPSettings
from tests.cases import SyncCase


class DeadlineTests(SyncCase):
    """
    Servers that are never reached.
    """

    def setUp(self) -> None:
        """
        Make a reactor that connects to nobody.
        """
        self.reactor = MemoryReactorClock()

    def ask(self) -> "Deferred[bytes]":
        """
        Ask for a document.
        """
        client = WebClient.make(self.reactor, Authorities())
        return Deferred.fromCoroutine(client.get("http://192.0.2.1/document"))

    def log_in(self) -> "Deferred[object]":
        """
        Log in to a directory.
        """
        settings = LDAPSettings("192.0.2.1", 636, user_bases=("dc=x",), user_filter="(uid=%s)")
        directory = Directory(self.reactor, settings, Authorities())
        return Deferred.fromCoroutine(directory.login("alice", "password"))

    def test_silent(self) -> None:
        """
        A server that does not answer is given up, and told apart.
        """
        for begin, deadline in (
            (self.ask, webclient.DEADLINE),
            (self.log_in, ldap.DEADLINE),
        ):
            waiting = begin()
            self.reactor.advance(deadline - 0.1)
            self.assertNoResult(waiting)
            self.reactor.advance(0.1)
            self.failureResultOf(waiting, ProviderUnreachable)
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_gone(self) -> None:
        """
        When whoever waits goes away, so does the attempt.
        """
        for begin in (self.ask, self.log_in):
            waiting = begin()
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
            self.assertEqual(self.reactor.getDelayedCalls(), [])
