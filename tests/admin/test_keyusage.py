# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what is told of master keys: what needs them, how often they are used, who is left out.
"""

import json
import os
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import Deferred
from zope.interface import implementer

from kypello.admin.keyusage import CountingSource
from kypello.admin.root import AdminResource
from kypello.events.queue import waiting_keys
from kypello.iam.ledger import accounts_key
from kypello.interfaces import IKMS
from kypello.model import EncryptionRequest, KMSEndpoint, KMSStatus, ObjectMetadata
from kypello.monitor.counted import endpoint_series, key_calls
from kypello.monitor.keycalls import CountedKMS
from kypello.monitor.tally import Layout, Tally
from kypello.monitor.text import render
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.objects.keyusage import KeyUsage
from kypello.testing.fakes import BytesSource
from kypello.testing.harness import Harness
from tests.admin.front import AdminCase, policy
from tests.objects.keyservice import MemoryKMS

_KMS = "/minio/kms/v1/"
_USAGE = "kypello/key-usage"
_SSE = EncryptionRequest("AES256")


class UsageCase(AdminCase):
    """
    A test of a server that counts.
    """

    def setUp(self) -> None:
        """
        Store an object, and a user.
        """
        super().setUp()
        self.usage = KeyUsage(
            self.store,
            self.index,
            lambda: accounts_key(self.index),
            lambda: waiting_keys(self.index),
            self.kms.default_key,
        )
        self.front = evolve(self.front, key_usage=self.usage)
        self.harness = Harness(AdminResource(self.front), access_log=False)
        keys = DataKeys(self.kms, self.clock)
        self.objects = EncryptedStore(self.store, keys, os.urandom)
        self.done(self.objects.create_bucket("b", {}))
        self.store_object("k")

    def store_object(self, key: str) -> None:
        """
        Store an encrypted object.
        """

        def describe(_size: int) -> ObjectMetadata:
            return ObjectMetadata("etag")

        self.done(self.objects.put("b", key, BytesSource([b"data"]), describe, _SSE))

    def lines(self, target: str = _USAGE) -> list[dict[str, Any]]:
        """
        What a count answers.
        """
        return [json.loads(line) for line in self.send("GET", target).body.splitlines()]


class UsageTests(UsageCase):
    """
    What needs which master key.
    """

    def test_counted(self) -> None:
        """
        Each key is told with sums and buckets, and the end.
        """
        self.make_user("alice")
        key, end = self.lines()
        self.assertEqual(end, {"end": 1})
        told = key["key"]
        (bucket,) = told.pop("buckets")
        self.assertEqual(
            told,
            {
                "name": "my-key",
                "default": True,
                "fingerprint": "",
                "since": 0.0,
                "accounts": True,
                "events": 0,
                "needed": True,
                "objects": 1,
                "versions": 1,
                "uploads": 0,
                "parts": 0,
                "metadataKeys": 1,
                "defaults": 0,
            },
        )
        self.assertEqual((bucket["name"], bucket["objects"]), ("b", 1))

    def test_one(self) -> None:
        """
        One key can be asked for, also one that nothing needs.
        """
        key, _ = self.lines(f"{_USAGE}?key-id=other")
        self.assertEqual((key["key"]["name"], key["key"]["needed"]), ("other", False))

    def test_progress(self) -> None:
        """
        A long count tells how far it is.
        """
        for number in range(20):
            self.done(self.objects.create_bucket(f"bucket-{number}", {}))
        first, *_, end = self.lines()
        self.assertEqual(first["progress"]["buckets"], 21)
        self.assertEqual(end, {"end": 1})

    def test_given_up(self) -> None:
        """
        A count ends with its reader.
        """
        source = CountingSource(self.usage.walk(), "")
        source.close()
        self.assertEqual(self.done(source.read()), b"")

    def test_rights(self) -> None:
        """
        It takes a right of administration.
        """
        self.send("GET", _USAGE, by=self.make_user("alice"), status=403)
        user = self.make_user("bob", policy("admin:KMSKeyStatus"))
        self.send("GET", _USAGE, by=user)

    def test_delete(self) -> None:
        """
        A key in use is not deleted, and the answer tells what needs it; others are deleted at the
        key server.
        """
        call = f"{_KMS}key/delete?key-id="
        answer = self.send("DELETE", f"{call}my-key", status=409)
        told = self.refused(answer, "XMinioKMSKeyInUse")
        for words in ("1 objects (1 versions)", "in 1 buckets", "default key of the server"):
            self.assertIn(words, told)
        self.refused(self.send("DELETE", f"{call}other", status=501), "NotImplemented")
        self.send("DELETE", f"{call}other", by=self.make_user("alice"), status=403)


@implementer(IKMS)
@define(eq=False)
class _LeftOut(MemoryKMS):
    """
    A key service of two endpoints, one of which holds another key.
    """

    async def status(self) -> KMSStatus:
        """
        Tell of both.
        """
        wrong = KMSEndpoint("https://a", False, "x", "1.0", {"my-key": "it is not used"})
        return KMSStatus("KES", self.default_key, (wrong, KMSEndpoint("https://b", True)))


class ServiceTests(UsageCase):
    """
    What is told of the key service.
    """

    def setUp(self) -> None:
        """
        Count calls.
        """
        super().setUp()
        self.tally = Tally(Layout(()))

    def serve(self, kms: IKMS) -> None:
        """
        Serve with another key service.
        """
        front = evolve(self.front, kms=kms, key_calls=lambda: key_calls(self.tally))
        self.harness = Harness(AdminResource(front), access_log=False)

    def test_left_out(self) -> None:
        """
        An endpoint that is left out is told with the key that it is not used for, and not with
        others.
        """
        kms = _LeftOut()
        for name in ("my-key", "other"):
            self.done(kms.create_key(name))
        self.serve(kms)
        told = self.told(f"{_KMS}key/status")
        self.assertEqual(told["decryption-error"], "https://a: it is not used")
        self.assertEqual(self.told(f"{_KMS}key/status?key-id=other"), {"key-id": "other"})
        self.assertEqual(self.told(f"{_KMS}version"), {"version": "1.0"})
        text = render(endpoint_series(self.done(kms.status()).endpoints), {}).decode()
        self.assertIn('kypello_kms_endpoint_online{endpoint="https://a"} 0', text)
        self.assertIn('kypello_kms_endpoint_online{endpoint="https://b"} 1', text)
        self.assertIn('kypello_kms_endpoint_key_refused{endpoint="https://a",key="my-key"} 1', text)

    def test_metrics(self) -> None:
        """
        Calls are told by how they ended and how long they took, by the names of the server and of
        its client.
        """
        kms = CountedKMS(self.kms, self.tally, self.clock)
        self.serve(kms)
        self.told(f"{_KMS}key/status")
        self.kms.pause = Deferred()
        slow = Deferred.fromCoroutine(kms.generate_key("my-key", b""))
        self.clock.advance(2)
        self.kms.pause.callback(None)
        self.successResultOf(slow)
        self.kms.down = True
        self.told(f"{_KMS}key/status")
        told = self.told(f"{_KMS}metrics")
        for prefix in ("kms_req", "kes_http_request"):
            self.assertEqual((told[f"{prefix}_success"], told[f"{prefix}_failure"]), (3, 1))
        times = told["kms_resp_time"]
        self.assertEqual((times["1000000"], times["10000000000"]), (3, 4))
        self.assertEqual(told["kes_http_response_time"], times)

    def test_rights(self) -> None:
        """
        Each takes a right of its own.
        """
        self.serve(self.kms)
        user = self.make_user("alice", policy("kms:Metrics"))
        self.send("GET", f"{_KMS}metrics", by=user)
        self.send("GET", f"{_KMS}version", by=user, status=403)
        self.send("GET", f"{_KMS}metrics", by=self.make_user("bob"), status=403)
