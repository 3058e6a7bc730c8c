# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what buckets require.
"""

from kypello.crypto.required import (
    KINDS,
    SETTING,
    RequiredEncryption,
    check_required,
    required_of,
)
from kypello.crypto.sse import SETTING as DEFAULT
from kypello.crypto.sse import ServerSideEncryption, encryption_for
from kypello.errors import Damaged, Refused
from kypello.model import KMS_ALGORITHMS, SSE_C, CustomerKey, EncryptionRequest
from tests.cases import SyncCase

S3 = EncryptionRequest("AES256")
KMS = EncryptionRequest("aws:kms")
CUSTOMER = EncryptionRequest(SSE_C, customer_key=CustomerKey(bytes(32), "md5"))


def requiring(*kinds: str, keys: tuple[str, ...] = ()) -> dict[str, bytes]:
    """
    The settings of a bucket that accepts these kinds.
    """
    return {SETTING: RequiredEncryption(kinds, keys).to_bytes()}


class RequiredTests(SyncCase):
    """
    What is accepted, and what is told to who sends something else.
    """

    def test_kinds(self) -> None:
        """
        Each kind is accepted where it is among those required, and nothing else is: no encryption
        and unknown ones are not.
        """
        for kind in KINDS.values():
            required = RequiredEncryption((kind,))
            accepted = {
                algorithm
                for algorithm in ("", "aes256", "aws:kms:other", *KINDS)
                if required.accepts(algorithm, "k")
            }
            self.assertEqual({KINDS[algorithm] for algorithm in accepted}, {kind})

    def test_keys(self) -> None:
        """
        Where keys are listed, SSE-KMS needs one of them, in one layer or two; they are nothing to
        other kinds.
        """
        for algorithm in KMS_ALGORITHMS:
            required = RequiredEncryption((KINDS[algorithm],), ("one",))
            self.assertTrue(required.accepts(algorithm, "one"))
            self.assertFalse(required.accepts(algorithm, "two"))
        required = RequiredEncryption(("sse-s3", "sse-kms"), ("one", "two"))
        self.assertTrue(required.accepts("aws:kms", "two"))
        self.assertFalse(required.accepts("aws:kms", "three"))
        self.assertFalse(required.accepts("aws:kms", ""))
        self.assertTrue(required.accepts("AES256", "three"))

    def test_refusal(self) -> None:
        """
        A refusal tells what it takes, and which headers to send; of many keys it names some.
        """
        refusal = RequiredEncryption(("sse-s3", "sse-kms"), ("one", "two")).refusal
        self.assertEqual(refusal.code, "AccessDenied")
        self.assertEqual(
            refusal.message,
            "The bucket requires encryption by SSE-S3 or SSE-KMS with the key one or two. Send"
            " 'x-amz-server-side-encryption: AES256' or 'x-amz-server-side-encryption: aws:kms,"
            " x-amz-server-side-encryption-aws-kms-key-id: one'.",
        )
        many = RequiredEncryption(("sse-kms",), tuple("abcdefgh"))
        self.assertEqual(many.demand, "SSE-KMS with the key a or b or c or 5 more")
        self.assertIn("customer-algorithm", RequiredEncryption(("sse-c",)).refusal.message)

    def test_settings(self) -> None:
        """
        A bucket without the setting accepts everything; one whose setting is damaged nothing.
        """
        check_required({}, "", "")
        self.assertIsNone(required_of({}))
        self.assertEqual(required_of(requiring("sse-c")), RequiredEncryption(("sse-c",)))
        for damaged in (b"", b"{}", b'{"kinds":["sse-x"]}', b'{"kinds":"sse-c"}'):
            with self.assertRaises(Damaged):
                check_required({SETTING: damaged}, "AES256", "")


class EffectiveTests(SyncCase):
    """
    What counts is the encryption that a write gets, however it came about.
    """

    def test_defaults(self) -> None:
        """
        Who asks for nothing is accepted with a default that is, of the bucket or the server.
        """
        required = requiring("sse-s3")
        self.assertIsNotNone(encryption_for(None, required, True))
        default = {**required, DEFAULT: ServerSideEncryption("AES256").to_bytes()}
        self.assertIsNotNone(encryption_for(None, default, False))
        other = {**required, DEFAULT: ServerSideEncryption("aws:kms").to_bytes()}
        for wanted, settings in (
            (None, required),
            (None, other),
            (KMS, default),
            (CUSTOMER, default),
        ):
            with self.assertRaises(Refused) as caught:
                encryption_for(wanted, settings, False)
            self.assertEqual(caught.exception.code, "AccessDenied")

    def test_default_key(self) -> None:
        """
        Without a name it is the default key; a name counts in all its forms.
        """
        required = requiring("sse-kms", keys=("one",))
        self.assertIsNotNone(encryption_for(KMS, required, False, "one"))
        for key_id in ("one", "alias/one", "arn:aws:kms:one", "arn:aws:kms:r:1:key/one"):
            wanted = EncryptionRequest("aws:kms", key_id)
            self.assertIsNotNone(encryption_for(wanted, required, False, "two"))
        for wanted, default in (
            (KMS, "two"),
            (KMS, ""),
            (EncryptionRequest("aws:kms", "two"), "one"),
        ):
            with self.assertRaises(Refused):
                encryption_for(wanted, required, False, default)

    def test_damaged(self) -> None:
        """
        Nothing is written where it cannot be told what is required.
        """
        with self.assertRaises(Damaged):
            encryption_for(S3, {SETTING: b"damaged"}, False)
