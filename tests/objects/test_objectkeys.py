# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of how object keys are made and opened.
"""

import os
from base64 import b64encode

from attrs import define, evolve, field
from twisted.internet.task import Clock

from kypello.crypto.keys import Domain, context_bytes
from kypello.crypto.metadata import write_entries
from kypello.errors import KeyNotFound, KMSNotConfigured, NotAuthentic, Refused
from kypello.kmsconfig import Reuse
from kypello.model import SSE_C, CustomerKey, DataKey, EncryptionRequest
from kypello.objects.datakeys import DataKeys
from kypello.objects.objectkeys import (
    READING,
    UPLOADING,
    ObjectKeys,
    Refusals,
    open_with_customer_key,
)
from tests.cases import AsyncCase
from tests.crypto.deterministic import given_random
from tests.objects.keyservice import MemoryKMS

EXTERNAL_KEY = bytes(range(32))
OBJECT_KEY = bytes.fromhex("67d8d1f2d04109bdb1fa19f5112f2d2cdf81578962b0dbc09b7c51a131b0e34f")
RANDOM = (b"\x11" * 32, b"\x22" * 32, bytes(range(12)))
PREFIX = "X-Minio-Internal-Server-Side-Encryption-"
START = "IAAfAIABAgMEBQYHCAkKC"
CUSTOMER_KEY = CustomerKey(EXTERNAL_KEY, "md5")

#: The published sealed keys, and the entry that holds each.
VECTORS = {
    "AES256": (
        "S3-Sealed-Key",
        "xhGghUCPIePUejLJNPoGERfJQAlfE6eL5QZeVrbbmqAgOywXYL8ph1lWH1DpGTsaw==",
    ),
    "aws:kms": (
        "Kms-Sealed-Key",
        "+wJnfF92iCWRnu9yiLIBetc4LVXTiRFrP3ijLMR9NCdps6Lz8DkM94nOc6YKzh8aQ==",
    ),
    SSE_C: (
        "Sealed-Key",
        "6gXk+8SKMCWFJ5BWs2j4CzKEQL7AG8AhvWm2dkE3HYWMpZyEj0MhWUg2qJqqaf+tw==",
    ),
}


@define(eq=False)
class FixedKMS(MemoryKMS):
    """
    A key service that makes always the same data key.

    :ivar contexts: What each was bound to.
    """

    contexts: list[bytes] = field(factory=list)

    async def generate_key(self, key_name: str, context: bytes) -> DataKey:
        """
        Make the data key.
        """
        self.contexts.append(context)
        return DataKey(
            key_name, EXTERNAL_KEY, self._key(key_name).seal(EXTERNAL_KEY, context, os.urandom)
        )


class ObjectKeysTests(AsyncCase):
    """
    Keys with and without a key service.
    """

    def setUp(self) -> None:
        """
        Start with a key service of two keys.
        """
        self.kms = FixedKMS()
        self.kms.keys.update(MemoryKMS.with_default_key().keys)
        self.kms.keys["other"] = self.kms.keys["my-key"]

    def object_keys(self, *random: bytes, **reuse: float) -> ObjectKeys:
        """
        Object keys with that reuse of data keys.
        """
        keys = DataKeys(self.kms, Clock(), Reuse(**reuse))
        return ObjectKeys(keys, given_random(*random) if random else os.urandom)

    async def test_vectors(self) -> None:
        """
        Each kind of encryption seals the published object key to the published bytes, and
        keeps the entries of MinIO and no others.
        """
        for algorithm, (name, sealed) in VECTORS.items():
            object_keys = self.object_keys(*RANDOM)
            customer = CUSTOMER_KEY if algorithm == SSE_C else None
            wanted = EncryptionRequest(algorithm, customer_key=customer)
            made = await object_keys.make("bucket", "dir/object", wanted)
            self.assertEqual(made.key, OBJECT_KEY)
            entries = write_entries(made.record)
            self.assertEqual(entries.pop(PREFIX + name), START + sealed)
            self.assertEqual(entries.pop(PREFIX + "Iv"), b64encode(b"\x22" * 32).decode())
            self.assertEqual(entries.pop(PREFIX + "Seal-Algorithm"), "DAREv2-HMAC-SHA256")
            if algorithm != SSE_C:
                data_key = made.record.data_key
                self.assertEqual(entries.pop(PREFIX + "S3-Kms-Key-Id"), "my-key")
                self.assertEqual(
                    entries.pop(PREFIX + "S3-Kms-Sealed-Key"), b64encode(data_key).decode()
                )
            self.assertEqual(entries, {})

    async def test_contexts(self) -> None:
        """
        A data key is bound to the path and what the client gave, or to the bucket when it is
        shared, which needs an object without context; the entries keep the client's part.
        """
        own = {"a": "<", "z": "ü"}
        for request, bound, kept in (
            (EncryptionRequest("aws:kms"), {"b": "b/d/k"}, None),
            (EncryptionRequest("aws:kms", context=own), {"b": "b/d/k", **own}, own),
            (EncryptionRequest("aws:kms", context={"b": "x"}), {"b": "x"}, {"b": "x"}),
            (EncryptionRequest("aws:kms", bucket_key=True), {"b": "b"}, None),
            (
                EncryptionRequest("aws:kms", context=own, bucket_key=True),
                {"b": "b/d/k", **own},
                own,
            ),
            (EncryptionRequest("AES256", bucket_key=True), {"b": "b"}, None),
        ):
            object_keys = self.object_keys()
            made = await object_keys.make("b", "d//k", request)
            self.assertEqual(self.kms.contexts.pop(), context_bytes(bound))
            self.assertEqual(made.record.context, kept)
            self.assertEqual(made.record.bucket_key, bound == {"b": "b"})
            entries = write_entries(made.record)
            self.assertEqual((PREFIX + "Context") in entries, kept is not None)
            for keys in (object_keys, self.object_keys()):
                opened = await keys.opening("b", "d/k", entries)()
                self.assertEqual(opened.secret, made.key)
            with self.assertRaises(NotAuthentic):
                await object_keys.opening("b", "other", entries)()

    async def test_reuse_off(self) -> None:
        """
        Where data keys are not shared, a bucket key that a client wants is not either.
        """
        object_keys = self.object_keys(bucket_seconds=0)
        made = await object_keys.make("b", "k", EncryptionRequest("aws:kms", bucket_key=True))
        self.assertFalse(made.record.bucket_key)

    async def test_names(self) -> None:
        """
        A master key is found by any form of its name, kept by its plain one, and never made.
        """
        for key_id in ("other", "arn:aws:kms:other", "arn:aws:kms:r:1:key/other"):
            wanted = EncryptionRequest("aws:kms", key_id)
            made = await self.object_keys().make("b", "k", wanted)
            self.assertEqual(made.record.key_name, "other")
            self.assertEqual(made.record.object_key.domain, Domain.SSE_KMS)
        with self.assertRaises(KeyNotFound):
            await self.object_keys().make("b", "k", EncryptionRequest("aws:kms", "absent"))
        with self.assertRaises(Refused):
            await self.object_keys().make("b", "k", EncryptionRequest("aws:kms", "a/b"))
        self.assertNotIn("absent", self.kms.keys)

    async def test_not_configured(self) -> None:
        """
        Without a key service clients with a key of their own are served, others refused.
        """
        object_keys = ObjectKeys(None, os.urandom)
        made = await object_keys.make("b", "k", EncryptionRequest(SSE_C, customer_key=CUSTOMER_KEY))
        self.assertEqual(len(made.key), 32)
        for algorithm in ("AES256", "aws:kms"):
            with self.assertRaises(KMSNotConfigured):
                await object_keys.make("b", "k", EncryptionRequest(algorithm))
        with self.assertRaises(Refused):
            short = CustomerKey(bytes(31), "md5")
            await object_keys.make("b", "k", EncryptionRequest(SSE_C, customer_key=short))

    async def test_repr(self) -> None:
        """
        No key shows in a repr.
        """
        wanted = EncryptionRequest(SSE_C, customer_key=CUSTOMER_KEY)
        made = await self.object_keys().make("b", "k", wanted)
        for secret in (EXTERNAL_KEY, made.key):
            self.assertNotIn(repr(secret), repr((wanted, made, self.object_keys())))


class CustomerKeyTests(AsyncCase):
    """
    The keys that clients bring.
    """

    async def setUp(self) -> None:
        """
        Make an object with a client's key.
        """
        wanted = EncryptionRequest(SSE_C, customer_key=CUSTOMER_KEY)
        made = await ObjectKeys(None, os.urandom).make("b", "k", wanted)
        self.key, self.entries = made.key, write_entries(made.record)

    def test_open(self) -> None:
        """
        The right key opens; an object of another kind needs none.
        """
        for refusals in (READING, UPLOADING):
            opened = open_with_customer_key("b", "k", self.entries, CUSTOMER_KEY, refusals)
            self.assertEqual(opened, self.key)
            self.assertIsNone(open_with_customer_key("b", "k", {}, None, refusals))

    def test_refused(self) -> None:
        """
        A missing key, a wrong one, and one that is of no use are told apart.
        """
        wrong = evolve(CUSTOMER_KEY, key=bytes(32))
        other = {PREFIX + "S3-Sealed-Key": "", PREFIX + "Iv": ""}
        refusals = Refusals(("Missing", ""), ("Wrong", ""), ("Foreign", ""))
        for entries, key, path, code in (
            (self.entries, None, "k", "Missing"),
            (self.entries, wrong, "k", "Wrong"),
            (self.entries, evolve(wrong, key=b"short"), "k", "Wrong"),
            (self.entries, CUSTOMER_KEY, "moved", "Wrong"),
            ({}, CUSTOMER_KEY, "k", "Foreign"),
            (other, CUSTOMER_KEY, "k", "Foreign"),
        ):
            with self.assertRaises(Refused) as caught:
                open_with_customer_key("b", path, entries, key, refusals)
            self.assertEqual(caught.exception.code, code)

    def test_codes(self) -> None:
        """
        The codes are those of S3.
        """
        self.assertEqual(
            [code for code, _ in (READING.missing, READING.wrong, READING.foreign)],
            ["InvalidRequest", "AccessDenied", "InvalidRequest"],
        )
        self.assertEqual(
            {code for code, _ in (UPLOADING.missing, UPLOADING.wrong, UPLOADING.foreign)},
            {"InvalidRequest"},
        )
