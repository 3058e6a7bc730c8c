# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Where ``kypello.keystore.gcp`` gets tokens, against a server of the tests.
"""

from pathlib import Path

from attrs import evolve

from kypello.errors import KeyNotFound, KeyStoreFailed, KeyStoreUnreachable
from kypello.keystore.gcpconfig import CredentialsFile, Metadata
from tests.contracts.keystore import NAME
from tests.integration.emulators import Told
from tests.integration.google import EMAIL, Google, refused
from tests.integration.test_keystore_gcp import GCPCase


class TokenTests(GCPCase):
    """
    Where tokens come from.
    """

    async def test_metadata(self) -> None:
        """
        A machine has the account of its metadata service.
        """
        await self.store(self.settings(Metadata(self.served.url))).prepare()
        await self.served.stop()
        with self.assertRaises(KeyStoreUnreachable) as caught:
            await self.store(self.settings(Metadata(self.served.url))).prepare()
        self.assertIn("no credentials are given", caught.exception.reason)

    async def test_file(self) -> None:
        """
        A file holds a service account, or a person who has logged in.
        """
        url = f"{self.served.url}/token"
        account = {
            "type": "service_account",
            "client_email": EMAIL,
            "private_key_id": "id",
            "private_key": self.google.pem,
            "token_uri": url,
        }
        user = {
            "type": "authorized_user",
            "client_id": "me",
            "client_secret": "hidden",
            "refresh_token": "refresh",
            "token_uri": url,
        }
        for content in (account, user):
            source = CredentialsFile(self.file(content), True)
            await self.store(self.settings(source)).prepare()

    async def test_optional_file(self) -> None:
        """
        A file that nobody has named may be missing: the next source counts.
        """
        sources = (CredentialsFile(Path("/nowhere/file"), False), Metadata(self.served.url))
        await self.store(self.settings(*sources)).prepare()
        named = CredentialsFile(Path("/nowhere/file"), True)
        with self.assertRaises(KeyStoreFailed) as caught:
            await self.store(self.settings(named)).prepare()
        self.assertIn("is not there", caught.exception.reason)
        with self.assertRaises(KeyStoreFailed):
            await self.store(self.settings(sources[0])).prepare()

    async def test_bad_files(self) -> None:
        """
        What is wrong with a file is told without its content.
        """
        for content, told in (
            ("hidden", "is no file of credentials"),
            ("[]", "must be a service_account"),
            ({"type": "external_account", "x": "hidden"}, "must be a service_account"),
            ({"type": "service_account", "private_key": "hidden"}, "has no client_email"),
            (
                {
                    "type": "service_account",
                    "client_email": "me",
                    "private_key_id": "id",
                    "private_key": "hidden",
                },
                "the private key of me is none",
            ),
        ):
            source = CredentialsFile(self.file(content), True)
            with self.assertRaises(KeyStoreFailed) as caught:
                await self.store(self.settings(source)).prepare()
            self.assertIn(told, caught.exception.reason)
            self.assertNotIn("hidden", repr(caught.exception))
            self.assertIsNone(caught.exception.__cause__)

    async def test_refused(self) -> None:
        """
        A proof of another key is refused, and neither key nor proof is told.
        """
        store = self.store(self.settings(evolve(self.account, key=Google().pem)))
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.prepare()
        self.assertIn("invalid_grant Not you", caught.exception.reason)
        self.assertNotIn("PRIVATE KEY", repr(store) + repr(self.settings()))

    async def test_no_token(self) -> None:
        """
        An answer without a token, or without its life, is a failure.
        """
        for content in ({}, {"access_token": "x"}, {"access_token": 1, "expires_in": 1}):
            self.served.answers = lambda _, content=content: Told(content)
            with self.assertRaises(KeyStoreFailed):
                await self.store().prepare()

    async def test_trouble_of_the_service(self) -> None:
        """
        When there are no tokens now, the store is unreachable: keys in memory serve on.
        """
        for status in (503, 429):
            self.served.answers = lambda _, status=status: Told(b"<html>", status)
            with self.assertRaises(KeyStoreUnreachable):
                await self.store().prepare()

    async def test_kept(self) -> None:
        """
        One token serves many calls.
        """
        store = self.store()
        for _ in range(3):
            with self.assertRaises(KeyNotFound):
                await store.get(NAME)
        self.assertEqual(self.google.given, 1)

    async def test_revoked(self) -> None:
        """
        A token that Google does not take any more is replaced, once for each call.
        """
        store = self.store()
        await store.prepare()
        self.google.tokens.clear()
        await store.create(NAME, b"value")
        self.assertEqual((self.google.given, self.google.secrets), (2, {NAME: [b"value"]}))
        self.google.refusals["access"] = refused(401, "UNAUTHENTICATED")
        with self.assertRaises(KeyStoreFailed):
            await store.get(NAME)
        self.assertEqual(self.google.given, 3)
