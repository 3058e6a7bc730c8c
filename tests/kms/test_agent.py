# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The KES API against our own key server, and against answers of all kinds.
"""

import gzip
import json
from fnmatch import fnmatch

from kypello.errors import KMSUnavailable, KypelloError
from kypello.interfaces import IKMS
from tests.contracts.kms import CONTEXT, KEY, CreatingKMSContract
from tests.kms.realm import Behaviour, Peer, RealmCase


class OwnServerTests(CreatingKMSContract, RealmCase):
    """
    Our own key server, over mutual TLS on loopback, fulfils the contract.
    """

    async def make_kms(self) -> IKMS:
        """
        A client of a fresh server.
        """
        served = await self.serve()
        return self.client(self.realm.settings(served.port)).kms


class AnswerTests(RealmCase):
    """
    Answers that are not those of a key server in order.
    """

    async def ask(self, behave: Behaviour) -> KypelloError:
        """
        How a call fails.
        """
        server = self.listen(behave)
        with self.assertRaises(KypelloError) as caught:
            await self.client(self.realm.settings(server.port)).kms.generate_key(KEY, CONTEXT)
        return caught.exception

    async def test_unknown_refusal(self) -> None:
        """
        A refusal that nobody knows is told with the server that gave it, and is not "not
        found".
        """
        for status in (400, 401, 404, 429):
            error = await self.ask(lambda peer, status=status: peer.answer(status, b"strange"))
            assert isinstance(error, KMSUnavailable)
            self.assertRegex(
                error.reason, rf"https://127.0.0.1:\d+.*: it answers {status} \(strange\)"
            )

    async def test_compressed(self) -> None:
        """
        Nothing is asked to be compressed; what comes compressed all the same is not unpacked.
        """
        bomb = gzip.compress(bytes(64 << 20))

        def explode(peer: Peer) -> None:
            self.assertNotIn(b"accept-encoding", peer.head.lower())
            peer.send(
                b"HTTP/1.1 400 X\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
                % len(bomb)
                + bomb
            )

        error = await self.ask(explode)
        assert isinstance(error, KMSUnavailable)
        self.assertIn("it answers 400", error.reason)
        self.assertLess(len(error.reason), 400)

    async def test_old_lists(self) -> None:
        """
        Servers before October 2023 tell names by lines, and want patterns.
        """

        def tell(peer: Peer) -> None:
            names = [name for name in ("a-1", "a-2", "b-1") if fnmatch(name, peer.pattern)]
            peer.answer(200, b"".join(b'{"name":"%s"}\n' % name.encode() for name in names))

        kms = self.client(self.realm.settings(self.listen(tell).port)).kms
        self.assertEqual(list(await kms.list_keys("")), ["a-1", "a-2", "b-1"])
        self.assertEqual(list(await kms.list_keys("a-")), ["a-1", "a-2"])
        self.assertEqual(list(await kms.list_keys("a-1")), ["a-1"])
        self.assertEqual(list(await kms.list_keys("c")), [])

    async def test_pages(self) -> None:
        """
        A list in parts is put together; one that never ends is ended.
        """

        def tell(peer: Peer) -> None:
            page = int(peer.pattern.partition("*")[2] or "0")
            more = f"*{page + 1}" if page < 2 else ""
            peer.answer(200, json.dumps({"names": [f"k{page}"], "continue_at": more}).encode())

        kms = self.client(self.realm.settings(self.listen(tell).port)).kms
        self.assertEqual(list(await kms.list_keys("")), ["k0", "k1", "k2"])
        endless = self.listen(lambda peer: peer.answer(200, b'{"names":["k"],"continue_at":"k"}'))
        kms = self.client(self.realm.settings(endless.port)).kms
        self.assertEqual(list(await kms.list_keys("")), ["k"])
        self.assertEqual(len(endless.paths), 2)

    async def test_own_pages(self) -> None:
        """
        Our own server tells any number of names.
        """
        served = await self.serve()
        kms = self.client(self.realm.settings(served.port)).kms
        folder = self.realm.folder / "keys"
        stored = (folder / KEY).read_bytes()
        names = [f"key-{number:05}" for number in range(12_000)]
        for name in names:
            (folder / name).write_bytes(stored)
        self.assertEqual(list(await kms.list_keys("key-")), names)
