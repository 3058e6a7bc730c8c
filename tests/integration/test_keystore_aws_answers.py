# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello.keystore.aws`` and answers that emulators of AWS do not give.
"""

from itertools import count

from attrs import evolve
from twisted.internet import reactor

from kypello.auth.signer import Keys
from kypello.errors import KeyNotFound, KeyStoreFailed, KeyStoreUnreachable
from kypello.keystore.aws import AWSKeyStore
from kypello.keystore.awsconfig import AWSSettings, Container
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase
from tests.contracts.keystore import NAME
from tests.integration.emulators import Asked, Served, Told
from tests.integration.test_keystore_aws import REGION, random


class AnswerTests(AsyncCase):
    """
    Answers that emulators do not give.
    """

    def setUp(self) -> None:
        """
        A server that answers as the test says.
        """
        self.answer = Told({})
        self.served = Served(lambda _: self.answer)
        self.served.start()
        self.addCleanup(self.served.stop)
        keys = Keys("access", "hidden", "session-token")
        self.settings = AWSSettings(self.served.url, REGION, "", "", (keys,))
        self.store = AWSKeyStore.make(self.settings, reactor, InlineLanes(), random)

    def refuse(self, code: str, message: str = "", status: int = 400) -> None:
        """
        Refuse from now on.
        """
        self.answer = Told({"__type": code, "Message": message}, status)

    async def test_scheduled(self) -> None:
        """
        As AWS says it, a name whose secret waits for its deletion cannot be created.
        """
        self.refuse(
            "InvalidRequestException",
            "You can't create this secret because a secret with this name is already scheduled for"
            " deletion.",
        )
        with self.assertRaises(KeyStoreFailed) as caught:
            await self.store.create(NAME, b"value")
        self.assertIn("restore-secret", caught.exception.reason)

    async def test_no_request_in_errors(self) -> None:
        """
        The request that AWS shows with a wrong signature is not passed on.
        """
        self.refuse(
            "com.amazonaws#InvalidSignatureException",
            "The signature does not match.\n\nThe Canonical String was\nx-amz-security-token:leak",
            403,
        )
        with self.assertRaises(KeyStoreFailed) as caught:
            await self.store.get(NAME)
        self.assertIn("InvalidSignatureException The signature", caught.exception.reason)
        self.assertNotIn("leak", repr(caught.exception))
        self.assertNotIn("hidden", repr(self.store))

    async def test_trouble_of_the_service(self) -> None:
        """
        When AWS itself is not well, the store is unreachable; nothing is repeated.
        """
        self.refuse("InternalServiceError", status=500)
        with self.assertRaises(KeyStoreUnreachable):
            await self.store.create(NAME, b"value")
        self.assertEqual(len(self.served.asked), 1)

    async def test_nobody(self) -> None:
        """
        Where nobody listens, the store is unreachable.
        """
        await self.served.stop()
        for call in (self.store.prepare(), self.store.get(NAME), self.store.create(NAME, b"v")):
            with self.assertRaises(KeyStoreUnreachable):
                await call

    async def test_nonsense(self) -> None:
        """
        What does not answer as AWS does is a failure, and no missing key.
        """
        for content in (b"hello", b"", b"[]", {"SecretBinary": "%"}, {"other": 1}):
            self.answer = Told(content)
            with self.assertRaises(KeyStoreFailed):
                await self.store.get(NAME)

    async def test_endless_listing(self) -> None:
        """
        A listing that goes round in a circle comes to an end.
        """
        self.answer = Told({"SecretList": [{"Name": "a"}], "NextToken": "again"})
        with self.assertRaises(KeyStoreFailed):
            await self.store.names()
        self.answer = Told({"SecretList": ["a"]})
        with self.assertRaises(KeyStoreFailed):
            await self.store.names()

    async def test_expired(self) -> None:
        """
        Credentials that AWS calls expired are got again, and the call is repeated once.
        """
        answers = iter(
            [Told({"__type": "ExpiredTokenException"}, 400), Told({"SecretString": "v"})]
        )
        self.served.answers = lambda _: next(answers)
        self.assertEqual(await self.store.get(NAME), b"v")
        self.refuse("ExpiredTokenException")
        self.served.answers = self.always
        with self.assertRaises(KeyStoreFailed):
            await self.store.get(NAME)
        self.assertEqual(len(self.served.asked), 4)

    async def test_replaced(self) -> None:
        """
        When AWS calls credentials expired that seem good for long, others take their place.
        """
        given = count(1)

        def answer(asked: Asked) -> Told:
            """
            Give credentials, of which the first are not good.
            """
            if asked.path == "/credentials":
                return Told(
                    {
                        "AccessKeyId": f"access{next(given)}",
                        "SecretAccessKey": "secret",
                        "Expiration": "2090-01-01T00:00:00Z",
                    }
                )
            if "access1/" in asked.headers["authorization"]:
                return Told({"__type": "ExpiredTokenException"}, 400)
            return Told({"SecretString": "value"})

        self.served.answers = answer
        sources = (Container(f"{self.served.url}/credentials"),)
        settings = evolve(self.settings, sources=sources)
        store = AWSKeyStore.make(settings, reactor, InlineLanes(), random)
        for _ in range(2):
            self.assertEqual(await store.get(NAME), b"value")
        self.assertEqual(next(given), 3)

    async def test_case_of_prefix(self) -> None:
        """
        A prefix that differs in case alone is another one, whatever AWS's filter finds.
        """
        names = ("keys-a", "KEYS-b", "other")
        self.answer = Told({"SecretList": [{"Name": name} for name in names]})
        settings = evolve(self.settings, prefix="keys-")
        store = AWSKeyStore.make(settings, reactor, InlineLanes(), random)
        self.assertEqual(await store.names(), ["a"])
        (asked,) = self.served.asked
        self.assertEqual(asked.document["Filters"], [{"Key": "name", "Values": ["keys-"]}])

    def always(self, _asked: Asked) -> Told:
        """
        The same answer each time.
        """
        return self.answer

    async def test_request(self) -> None:
        """
        A creation names itself, so that AWS does not do it twice, and shows the session.
        """
        self.answer = Told({"Name": NAME})
        await self.store.create(NAME, b"value")
        (asked,) = self.served.asked
        self.assertEqual(len(asked.document["ClientRequestToken"]), 32)
        self.assertEqual(asked.headers["x-amz-security-token"], "session-token")
        self.assertEqual(asked.headers["x-amz-target"], "secretsmanager.CreateSecret")

    async def test_missing(self) -> None:
        """
        A key is missing when AWS says so, whatever the status.
        """
        for status in (400, 404):
            self.refuse("ResourceNotFoundException", status=status)
            with self.assertRaises(KeyNotFound):
                await self.store.get(NAME)
