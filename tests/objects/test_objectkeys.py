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
from kypello.crypto.metadata import read_entries, write_entries
from kypello.errors import KeyNotFound, KMSNotConfigured, NotAuthentic, Refused
from kypello.kmsconfig import Reuse
from kypello.model import DSSE, SSE_C, CustomerKey, DataKey, EncryptionRequest
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
OWN_PREFIX = "X-Kypello-Internal-Server-Side-Encryption-"
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
            self.assertEqual((made.key.secret, made.key.outer), (OBJECT_KEY, None))
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
                self.assertEqual(opened.secret, made.key.secret)
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

    async def test_layers(self) -> None:
        """
        In two layers there are two keys, each sealed by a data key of its own, whose context tells
        the layer; keys are never shared, whoever asks, and no client says which layer is which.
        """
        inner, outer = {"kypello:layer": "inner"}, {"kypello:layer": "outer"}
        for own in ({}, {"a": "<"}, {"kypello:layer": "outer"}):
            object_keys = self.object_keys()
            wanted = EncryptionRequest(DSSE, context=own, bucket_key=True)
            made = await object_keys.make("b", "d//k", wanted)
            self.assertEqual(
                self.kms.contexts[-2:],
                [context_bytes({"b": "b/d/k", **own, **layer}) for layer in (inner, outer)],
            )
            record = made.record
            assert record.outer is not None and made.key.outer is not None
            self.assertEqual((record.context, record.bucket_key), (own or None, False))
            self.assertEqual(record.object_key.iv, record.outer.object_key.iv)
            self.assertNotEqual(record.data_key, record.outer.data_key)
            self.assertNotEqual(made.key.secret, made.key.outer.secret)
            entries = write_entries(record)
            for keys in (object_keys, self.object_keys()):
                opened = await keys.opening("b", "d/k", entries)()
                assert opened.outer is not None
                self.assertEqual(opened.secret, made.key.secret)
                self.assertEqual(opened.outer.secret, made.key.outer.secret)
                self.assertIsNone(opened.outer.outer)

    async def test_layers_confused(self) -> None:
        """
        No sealed key or data key of a layer stands for that of the other, nor for that of an
        object in one layer, though the key service makes always the same data key.
        """
        made = await self.object_keys().make("b", "k", EncryptionRequest(DSSE))
        dual = write_entries(made.record)
        made = await self.object_keys().make("b", "k", EncryptionRequest("aws:kms"))
        single = write_entries(made.record)
        names = ("Inner-Sealed-Key", "Outer-Sealed-Key", "Outer-Sealed-Data-Key")
        inner, outer, outer_data = (f"{OWN_PREFIX}{name}" for name in names)
        data, only, iv = (
            f"{PREFIX}{name}" for name in ("S3-Kms-Sealed-Key", "Kms-Sealed-Key", "Iv")
        )
        for changed in (
            {inner: dual[outer], outer: dual[inner]},
            {inner: dual[outer]},
            {outer: dual[inner]},
            {data: dual[outer_data], outer_data: dual[data]},
            {data: dual[outer_data]},
            {outer_data: dual[data]},
            {
                **{inner: dual[outer], outer: dual[inner]},
                **{data: dual[outer_data], outer_data: dual[data]},
            },
            {inner: single[only], data: single[data], iv: single[iv]},
            {outer: single[only], outer_data: single[data], iv: single[iv]},
        ):
            with self.assertRaises(NotAuthentic):
                await self.object_keys().opening("b", "k", {**dual, **changed})()
        for layer, data_key in ((inner, data), (outer, outer_data)):
            alone = {**single, only: dual[layer], data: dual[data_key], iv: dual[iv]}
            with self.assertRaises(NotAuthentic):
                await self.object_keys().opening("b", "k", alone)()
        self.assertEqual(read_entries(dual).object_key.domain, Domain.DSSE_KMS)

    async def test_layers_forgotten(self) -> None:
        """
        A key of two layers is kept no longer than either data key that opened it.
        """
        clock = Clock()
        keys = DataKeys(self.kms, clock, Reuse(opened_seconds=10.0, outage_seconds=0.0))
        object_keys = ObjectKeys(keys, os.urandom)
        made = await object_keys.make("b", "k", EncryptionRequest(DSSE))
        record, entries = made.record, write_entries(made.record)
        assert record.outer is not None and record.data_key is not None
        clock.advance(6)
        # The inner one is older by now than the outer one, which is opened anew.
        fresh = DataKeys(self.kms, clock, Reuse(opened_seconds=10.0, outage_seconds=0.0))
        object_keys = ObjectKeys(fresh, os.urandom)
        for opened, layer in ((record.data_key, "inner"), (record.outer.data_key, "outer")):
            await fresh.open("my-key", opened, context_bytes({"b": "b/k", "kypello:layer": layer}))
            clock.advance(4)
        opening = object_keys.opening("b", "k", entries)
        await opening()
        self.kms.calls.clear()
        clock.advance(1)
        await opening()
        self.assertEqual(self.kms.calls, [])
        clock.advance(2)
        await opening()
        self.assertEqual(self.kms.calls, ["decrypt"])

    async def test_not_configured(self) -> None:
        """
        Without a key service clients with a key of their own are served, others refused.
        """
        object_keys = ObjectKeys(None, os.urandom)
        made = await object_keys.make("b", "k", EncryptionRequest(SSE_C, customer_key=CUSTOMER_KEY))
        self.assertEqual(len(made.key.secret), 32)
        for algorithm in ("AES256", "aws:kms", DSSE):
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
        for secret in (EXTERNAL_KEY, made.key.secret):
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
        self.key, self.entries = made.key.secret, write_entries(made.record)

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
