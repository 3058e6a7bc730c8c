# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what is demanded of objects that are there.
"""

import json
from collections.abc import Mapping
from typing import Any

from kypello.crypto.required import SETTING as REQUIRED
from kypello.crypto.required import RequiredEncryption
from kypello.crypto.sse import SETTING, ServerSideEncryption
from kypello.interfaces import BUCKET_POLICY
from kypello.model import EncryptionRequest, ObjectInfo
from kypello.objects.demands import Demands, Server
from tests.objects.case import CUSTOMER, KMS, SSE_S3, EncryptedCase

_SSE = "s3:x-amz-server-side-encryption"
_KEY_ID = f"{_SSE}-aws-kms-key-id"
_ARN = "arn:aws:kms:us-east-1:123456789012:key/"
_SERVER = Server(default_key="my-key")


def denying(**condition: Mapping[str, Any]) -> bytes:
    """
    A policy that denies to put what fits.
    """
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::b/*",
        "Condition": condition,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()


class DemandsCase(EncryptedCase):
    """
    A test with an object of each kind.
    """

    async def fill(self) -> None:
        """
        Store them.
        """
        await self.prepare()
        await self.kms.create_key("other")
        other = EncryptionRequest("aws:kms", "other")
        self.objects: dict[str, ObjectInfo] = {}
        for key, wanted in (
            ("plain", None),
            ("s3", SSE_S3),
            ("kms", KMS),
            ("other", other),
            ("c", CUSTOMER),
        ):
            await self.put(key, b"content", wanted)
            self.objects[key] = await self.below.head("b", key)

    async def against(self, server: Server = _SERVER, **settings: bytes) -> dict[str, str]:
        """
        What is against each object when the bucket has some settings.
        """
        info = await self.below.change_bucket("b", lambda old: {**settings})
        demands = Demands.of(info, server)
        self.assertEqual(list(demands.unreadable), [])
        found = {key: demands.against(stored) for key, stored in self.objects.items()}
        return {key: what for key, what in found.items() if what}

    async def denied(self, server: Server = _SERVER, **condition: Mapping[str, Any]) -> set[str]:
        """
        What a policy denies that has one condition.
        """
        return {*await self.against(server, **{BUCKET_POLICY: denying(**condition)})}


class RequiredTests(DemandsCase):
    """
    What buckets and servers demand.
    """

    async def test_required(self) -> None:
        """
        What has another kind or key than it is required is told, with both.
        """
        await self.fill()
        self.assertEqual(await self.against(), {})
        setting = RequiredEncryption(("sse-s3", "sse-kms"), ("other",)).to_bytes()
        ending = ", and its bucket requires encryption by SSE-S3 or SSE-KMS with the key other"
        self.assertEqual(
            await self.against(**{REQUIRED: setting}),
            {
                "plain": f"it lies in clear{ending}",
                "kms": f"it has SSE-KMS with the key my-key{ending}",
                "c": f"it has SSE-C{ending}",
            },
        )

    async def test_defaults(self) -> None:
        """
        A default encryption, of the bucket or the server, is against what lies in clear alone;
        what is required is told first.
        """
        await self.fill()
        setting = ServerSideEncryption("aws:kms", "other").to_bytes()
        told = await self.against(**{SETTING: setting})
        self.assertEqual(told, {"plain": "it lies in clear, and its bucket encrypts"})
        told = await self.against(Server(auto_encryption=True))
        self.assertEqual(told, {"plain": "it lies in clear, and the server encrypts all"})
        required = RequiredEncryption(("sse-s3", "sse-kms", "sse-c")).to_bytes()
        told = await self.against(**{SETTING: setting, REQUIRED: required})
        self.assertIn("requires", told["plain"])

    async def test_unreadable(self) -> None:
        """
        What cannot be read is told, and the rest counts.
        """
        await self.fill()
        settings = {REQUIRED: b"damaged", BUCKET_POLICY: b"damaged", SETTING: b"damaged"}
        info = await self.below.change_bucket("b", lambda _: settings)
        demands = Demands.of(info, _SERVER)
        self.assertEqual(
            list(demands.unreadable),
            ["the default encryption of a bucket", "the policy of a bucket"],
        )
        self.assertTrue(demands.against(self.objects["plain"]))
        settings = {REQUIRED: b"damaged"}
        info = await self.below.change_bucket("b", lambda _: settings)
        unreadable = Demands.of(info, _SERVER).unreadable
        self.assertEqual(list(unreadable), ["the required encryption of a bucket"])


class PolicyTests(DemandsCase):
    """
    What policies of buckets demand.
    """

    async def test_forms(self) -> None:
        """
        An object is told when every request that would make it is denied.
        """
        await self.fill()
        none = {"Null": {_SSE: "true"}}
        self.assertEqual(await self.denied(**none), {"plain", "c"})
        scoped = Server(policies_for_all=False)
        self.assertEqual(await self.denied(scoped, **none), set())
        told = await self.against(**{BUCKET_POLICY: denying(**none)})
        self.assertEqual(told["c"], "it has SSE-C, which the policy of its bucket denies")
        self.assertEqual(await self.denied(StringNotEquals={_SSE: "aws:kms"}), {"plain", "c", "s3"})

    async def test_names_of_keys(self) -> None:
        """
        A master key may have been named in any form that the policy names, or not at all where it
        is the default one.
        """
        await self.fill()
        for name in ("other", "alias/other", "arn:aws:kms:other", f"{_ARN}other"):
            unlike = {"plain", "s3", "kms", "c"}
            for operator in ("StringNotEquals", "StringNotEqualsIfExists"):
                self.assertEqual(await self.denied(**{operator: {_KEY_ID: name}}), unlike)
        # The plain name denies the key in every form; a form of it only who writes that.
        for name, expected in (
            ("other", {"other"}),
            ("alias/other", set()),
            (f"{_ARN}other", set()),
        ):
            self.assertEqual(await self.denied(StringEquals={_KEY_ID: name}), expected)
        # Who leaves the default key out is not denied.
        self.assertEqual(await self.denied(StringEquals={_KEY_ID: "my-key"}), set())
        unlike = {"plain", "s3", "other", "c"}
        self.assertEqual(await self.denied(StringNotEquals={_KEY_ID: "my-key"}), unlike)

    async def test_defaults(self) -> None:
        """
        What a default makes of requests that say nothing is denied only where those are.
        """
        await self.fill()
        explicit = denying(StringEquals={_SSE: "AES256"})
        self.assertEqual({*await self.against(**{BUCKET_POLICY: explicit})}, {"s3"})
        default = ServerSideEncryption("AES256").to_bytes()
        settings = {BUCKET_POLICY: explicit, SETTING: default}
        self.assertEqual({*await self.against(**settings)}, {"plain"})
        for key_id, expected in (("", {"other"}), ("alias/other", {"kms"})):
            settings = {
                BUCKET_POLICY: denying(StringEquals={_SSE: "aws:kms"}),
                SETTING: ServerSideEncryption("aws:kms", key_id).to_bytes(),
            }
            self.assertEqual({*await self.against(**settings)}, {"plain", *expected})
