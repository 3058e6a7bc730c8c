# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what is counted of master keys, and of what is said of those that are lost.
"""

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from kypello.crypto.masterkey import MasterKey
from kypello.crypto.sse import SETTING, ServerSideEncryption
from kypello.errors import KeyMismatch, KeyNotFound
from kypello.events.queue import Queue, waiting_keys
from kypello.events.sealing import Kept, Sealer, pack
from kypello.iam.accounts import Accounts
from kypello.iam.ledger import accounts_key
from kypello.model import EncryptionRequest, Identity, Write
from kypello.objects.canary import GuardedKMS
from kypello.objects.datakeys import DataKeys
from kypello.objects.keyusage import BucketUse, KeyUsage, KeyUse, Walk
from kypello.objects.lossreport import QUIET, LossReport
from kypello.store.memory import MemoryIndex
from kypello.versioning import SETTING as VERSIONING
from kypello.versioning import Versioning
from tests.objects.case import CUSTOMER, EncryptedCase
from tests.objects.keyservice import MemoryKMS

OTHER = EncryptionRequest("aws:kms", "arn:aws:kms:other")


class UsageCase(EncryptedCase):
    """
    A test with data under two master keys, ``my-key`` and ``other``.
    """

    async def prepare(self) -> None:
        """
        Make an empty bucket and what counts.
        """
        await super().prepare()
        self.kms.keys["other"] = MasterKey.generate(os.urandom, 0.0, "tests")
        self.index = MemoryIndex()
        self.usage = KeyUsage(
            self.below, self.index, self.accounts_key, self.waiting_keys, "my-key"
        )
        self.sealing_accounts = ""

    async def accounts_key(self) -> str:
        """
        Which master key seals the accounts.
        """
        return self.sealing_accounts

    def waiting_keys(self) -> AsyncIterator[Mapping[str, int]]:
        """
        Which master keys events need that wait.
        """
        return waiting_keys(self.index)

    async def walked(self) -> Walk:
        """
        A count that is complete.
        """
        walk = self.usage.walk()
        async for _ in walk.pages():
            pass
        return walk


class WalkTests(UsageCase):
    """
    What a count finds.
    """

    async def test_nothing(self) -> None:
        """
        Of an empty server only the default key is told, which nothing needs.
        """
        await self.prepare()
        found = (await self.walked()).found
        self.assertEqual(found, {"my-key": KeyUse("my-key", default=True)})
        self.assertFalse(found["my-key"].needed)
        self.assertTrue(found["my-key"].named)

    async def test_objects(self) -> None:
        """
        Objects count by the master key of each; plain ones, and those with a key of the client,
        need none but that of the bucket's metadata.
        """
        await self.prepare()
        await self.put("plain", encryption=None)
        await self.put("clients", encryption=CUSTOMER)
        self.assertFalse((await self.walked()).found["my-key"].needed)
        for key in ("1", "2", "3"):
            await self.put(key)
        await self.put("4", encryption=OTHER)
        await self.put("3", encryption=OTHER)
        await self.put("5", encryption=EncryptionRequest("aws:kms:dsse", "other"))
        found = (await self.walked()).found
        self.assertEqual(found["my-key"].buckets, {"b": BucketUse(2, 2, metadata_key=True)})
        self.assertEqual(found["other"].buckets, {"b": BucketUse(3, 3)})
        self.assertTrue(found["other"].needed)
        self.assertFalse(found["other"].named)

    async def test_versions(self) -> None:
        """
        Older versions count, also below a delete marker, which itself needs no key.
        """
        await self.prepare()
        await self.store.change_bucket(
            "b", lambda before: {**before, VERSIONING: Versioning("Enabled").to_bytes()}
        )
        for _ in range(3):
            await self.put("k", encryption=OTHER)
        await self.put("k")
        await self.store.delete("b", "k")
        await self.put("l", encryption=OTHER)
        found = (await self.walked()).found
        self.assertEqual(found["other"].buckets["b"], BucketUse(1, 4))
        self.assertEqual(found["my-key"].buckets["b"], BucketUse(0, 1, metadata_key=True))

    async def test_uploads(self) -> None:
        """
        Unfinished uploads count with their parts, until they are ended.
        """
        await self.prepare()
        upload = await self.upload({1: b"a", 2: b"b"}, OTHER, "k")
        await self.upload({1: b"a"}, None, "plain")
        use = await self.usage.of("other")
        self.assertEqual(use.buckets, {"b": BucketUse(uploads=1, parts=2)})
        self.assertIn("1 unfinished uploads in 1 buckets", str(use))
        await self.store.abort_upload("b", "k", upload.upload_id)
        self.assertEqual(await self.usage.of("other"), KeyUse("other"))

    async def test_defaults(self) -> None:
        """
        A bucket that encrypts by default names a key, or the default one; that is no need, but is
        told.
        """
        await self.prepare()
        for bucket, setting in (
            ("one", ServerSideEncryption("AES256")),
            ("two", ServerSideEncryption("aws:kms", "alias/other")),
        ):
            await self.store.create_bucket(bucket, {SETTING: setting.to_bytes()})
        found = (await self.walked()).found
        self.assertEqual(found["my-key"].buckets, {"one": BucketUse(default=True)})
        self.assertEqual(found["other"].buckets, {"two": BucketUse(default=True)})
        self.assertTrue(found["other"].named)
        self.assertFalse(found["other"].needed)

    async def test_damaged(self) -> None:
        """
        What does not tell its master key is told apart.
        """
        await self.prepare()
        await self.below.create_bucket("odd", {SETTING: b"?", "metadata-key": b"\xc1"})
        found = (await self.walked()).found
        self.assertEqual(found[""].buckets, {"odd": BucketUse(metadata_key=True, default=True)})

    async def test_known(self) -> None:
        """
        A master key that was used is told with its fingerprint, though nothing needs it.
        """
        await self.prepare()
        self.clock.advance(1000)
        fingerprint = await GuardedKMS(self.kms, self.index, self.clock).prove("other")
        known = (await self.usage.of("other")).known
        assert known is not None
        self.assertEqual((known.name, known.fingerprint, known.since), ("other", fingerprint, 1000))

    async def test_accounts(self) -> None:
        """
        The accounts need the master key that was the default one when the first was made.
        """
        await self.prepare()
        self.assertEqual(await accounts_key(self.index), "")
        root = Identity("root-user", "root-secret", user="root-user")
        keys = DataKeys(self.kms, self.clock)
        accounts = Accounts(self.index, keys, root, self.clock, os.urandom)
        await accounts.set_user("alice", "alice-secret")
        self.sealing_accounts = await accounts_key(self.index)
        use = await self.usage.of("my-key")
        self.assertTrue(use.accounts)
        self.assertTrue(use.needed)
        self.assertIn("and the accounts", str(use))

    async def test_events(self) -> None:
        """
        So do events that wait for their targets, by the key of each, until they are sent; what lies
        in clear needs none, and what is damaged does not tell.
        """
        await self.prepare()
        queue = Queue(self.index, self.clock)
        sealer = Sealer(DataKeys(self.kms, self.clock), self.clock, os.urandom)
        for target in ("one", "two"):
            places = [queue.place(target) for _ in range(700)]
            kept = [await sealer.seal(place, "s", b"message") for place in places]
            writes = [
                Write(place, pack(event))
                for place, event in zip(places, kept, strict=True)
                if event is not None
            ]
            await queue.change(writes)
        clear, broken = queue.place("two"), queue.place("two")
        await queue.change([Write(clear, pack(Kept("s", b"message"))), Write(broken, b"broken")])
        found = (await self.walked()).found
        self.assertEqual({name: use.events for name, use in found.items()}, {"my-key": 1400, "": 1})
        self.assertTrue(found["my-key"].needed)
        self.assertIn("and 1400 events that wait", str(found["my-key"]))
        for target in ("one", "two"):
            page = await queue.page(target, b"", 1000)
            await queue.change([Write(place, None) for place, _ in page])
        self.assertFalse((await self.usage.of("my-key")).needed)

    async def test_pages(self) -> None:
        """
        More than a page is counted to the last, with the progress after each page.
        """
        await self.prepare()
        await self.store.create_bucket("c", {})
        for number in range(1003):
            await self.put(f"{number}")
        walk = self.usage.walk()
        told = [page async for page in walk.pages()]
        self.assertEqual(
            [(one.bucket, one.done, one.versions) for one in told][:2],
            [("b", 0, 1000), ("b", 0, 1003)],
        )
        self.assertEqual({one.buckets for one in told}, {2})
        self.assertEqual(walk.found["my-key"].total("objects"), 1003)

    async def test_bucket_removed(self) -> None:
        """
        A bucket that is removed while it is counted needs nothing.
        """
        await self.prepare()
        await self.store.create_bucket("c", {SETTING: ServerSideEncryption("AES256").to_bytes()})
        await self.put("k")
        walk = self.usage.walk()
        pages = walk.pages()
        await anext(pages)
        await self.store.delete_bucket("c")
        async for _ in pages:
            pass
        self.assertEqual(set(walk.found["my-key"].buckets), {"b"})


class LossTests(UsageCase):
    """
    What is said when a key server has lost a master key.
    """

    async def prepare(self) -> None:
        """
        Use a key, and begin to report.
        """
        await super().prepare()
        self.reactor = Clock()
        self.report = LossReport(self.reactor, self.usage)
        self.report.startService()
        self.lines: list[str] = []

        def observe(event: Any) -> None:
            if event.get("log_namespace") == "kypello.objects.lossreport":
                self.lines.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def guard(self, kms: MemoryKMS) -> GuardedKMS:
        """
        A process that uses a key service.
        """
        return GuardedKMS(kms, self.index, self.clock, self.report.lost)

    async def test_told_once(self) -> None:
        """
        The log names key, fingerprint, first use and what needs it; once in an hour.
        """
        await self.prepare()
        fingerprint = await self.guard(self.kms).prove("my-key")
        await self.put("k")
        wrong = self.guard(MemoryKMS.with_default_key())
        for _ in range(3):
            with self.assertRaises(KeyMismatch):
                await wrong.generate_key("my-key", b"")
        (line,) = self.lines
        for words in (
            "1 objects (1 versions) and 0 unfinished uploads in 1 buckets",
            "my-key",
            fingerprint,
            "1970-01-01",
        ):
            self.assertIn(words, line)
        self.reactor.advance(QUIET)
        with self.assertRaises(KeyNotFound):
            await self.guard(MemoryKMS()).generate_key("my-key", b"")
        self.assertEqual(len(self.lines), 2)

    async def test_stopped(self) -> None:
        """
        A count ends with the service, and none begins after.
        """
        await self.prepare()
        await self.guard(self.kms).prove("my-key")
        waiting: Deferred[str] = Deferred()

        async def wait() -> str:
            return await waiting

        report = LossReport(
            self.reactor, KeyUsage(self.below, self.index, wait, self.waiting_keys, "my-key")
        )
        report.startService()
        report.lost("my-key")
        report.stopService()
        report.lost("my-key")
        self.assertTrue(waiting.called)
        self.assertEqual(self.lines, [])

    async def test_failed(self) -> None:
        """
        A count that fails is logged, and made again at the next occasion.
        """
        await self.prepare()
        await self.guard(self.kms).prove("my-key")
        calls: list[str] = []

        async def fail() -> str:
            calls.append("")
            raise RuntimeError("no index")

        report = LossReport(
            self.reactor, KeyUsage(self.below, self.index, fail, self.waiting_keys, "my-key")
        )
        report.startService()
        for _ in range(2):
            report.lost("my-key")
        self.assertEqual(len(calls), 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
