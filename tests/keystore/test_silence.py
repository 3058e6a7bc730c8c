# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of key stores in clouds whose services never answer.
"""

from collections.abc import Awaitable, Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from kypello.auth.signer import Keys
from kypello.errors import KeyStoreUnreachable
from kypello.interfaces import IKeyStore
from kypello.keystore.aws import AWSKeyStore
from kypello.keystore.awsconfig import AWSSettings, Container, Instance, Source
from kypello.keystore.awscredentials import AWSCredentials
from kypello.keystore.bearer import BearerClient
from kypello.keystore.gcp import GCPKeyStore
from kypello.keystore.gcpconfig import GCPSettings, Metadata
from kypello.keystore.gcptokens import GCPTokens
from kypello.keystore.gemalto import GemaltoKeyStore, GemaltoTokens
from kypello.keystore.gemaltoconfig import GemaltoSettings
from kypello.keystore.renewed import Lease, Renewed
from kypello.keystore.web import DEADLINE, WebClient
from kypello.keystore.webtls import StoreTLS, TLSFiles
from kypello.testing.fakes import InlineLane
from tests.cases import SyncCase

_URL = "https://cloud.example.org"


@implementer(IAgent)
@define(eq=False)
class SilentAgent:
    """
    Never has an answer.

    :ivar asked: The requests, which it notices when they are given up.
    """

    asked: "list[Deferred[IResponse]]" = field(factory=list)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> "Deferred[IResponse]":
        """
        Called by treq: say nothing.
        """
        self.asked.append(Deferred())
        return self.asked[-1]


async def token() -> Lease[str]:
    """
    A token that is good for ever.
    """
    return Lease("token")


class SilenceTests(SyncCase):
    """
    Who waits for an answer is told in time that there is none.
    """

    def setUp(self) -> None:
        """
        Have a service that is silent.
        """
        self.clock = Clock()
        self.agent = SilentAgent()
        self.web = WebClient(self.clock, TLSFiles(), InlineLane(), self.agent, StoreTLS())
        self.client = BearerClient(self.web, Renewed(token, self.clock.seconds))

    def credentials(self, source: Source) -> AWSCredentials:
        """
        Those of one source.
        """
        return AWSCredentials((source,), self.web, InlineLane(), self.clock.seconds)

    def given_up(self, call: Awaitable[object], seconds: float) -> str:
        """
        See that a call ends after some time, not before, and its request with it.

        :return: The reason.
        """

        async def asked() -> object:
            """
            Wait for the call.
            """
            return await call

        count = len(self.agent.asked)
        waiting = Deferred.fromCoroutine(asked())
        self.assertEqual(len(self.agent.asked), count + 1)
        self.clock.advance(seconds - 0.1)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        failure = self.failureResultOf(waiting, KeyStoreUnreachable)
        self.assertTrue(self.agent.asked[-1].called)
        self.assertEqual(len(self.agent.asked), count + 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        reason: str = failure.value.reason
        return reason

    def stores(self) -> list[IKeyStore]:
        """
        One of each kind, with credentials that are at hand.
        """
        aws = AWSSettings(_URL, "region", "", "", ())
        gcp = GCPSettings(_URL, "project", "", (), (), ())
        now: Callable[[], float] = self.clock.seconds
        return [
            AWSKeyStore(aws, self.web, self.credentials(Keys("a", "b")), bytes, now),
            GCPKeyStore(gcp, self.client, f"{_URL}/v1/projects/project/secrets", now),
            GemaltoKeyStore(GemaltoSettings(_URL, "token"), self.client, f"{_URL}/secrets", now),
        ]

    def test_calls(self) -> None:
        """
        Every call ends after the time that calls have, and none is repeated.
        """
        for store in self.stores():
            for call in (
                store.prepare(),
                store.create("key", b"value"),
                store.get("key"),
                store.delete("key"),
                store.names(),
                store.status(),
            ):
                with self.subTest(repr(call)):
                    reason = self.given_up(call, DEADLINE)
                    self.assertEqual(reason, f"{_URL}: it does not answer in time")

    def test_near_services(self) -> None:
        """
        What should be on the machine itself is not waited for long, and the reason says that no
        credentials are given.
        """
        tokens = GCPTokens((Metadata(_URL),), (), self.web, InlineLane(), self.clock.seconds)
        for call in (self.credentials(Instance(_URL)).keys(), tokens.get()):
            self.assertIn("no credentials are given", self.given_up(call, 2.0))
        self.given_up(self.credentials(Container(_URL)).keys(), 2.0)

    def test_login(self) -> None:
        """
        A login that is not answered ends, too.
        """
        tokens = GemaltoTokens(GemaltoSettings(_URL, "token"), self.web)
        self.given_up(tokens.get(), DEADLINE)

    def test_closed(self) -> None:
        """
        Closing a store gives up what it waits for to get credentials.
        """
        credentials = self.credentials(Container(_URL))
        settings = AWSSettings(_URL, "region", "", "", ())
        store = AWSKeyStore(settings, self.web, credentials, bytes, self.clock.seconds)
        waiting = Deferred.fromCoroutine(store.get("key"))
        self.successResultOf(Deferred.fromCoroutine(store.close()))
        self.assertTrue(self.agent.asked[0].called)
        self.failureResultOf(waiting)
        self.assertEqual(self.clock.getDelayedCalls(), [])
