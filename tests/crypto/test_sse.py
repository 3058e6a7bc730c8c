# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of which encryption applies.
"""

from collections.abc import Mapping

from kypello.crypto.sse import BLOCKED, ServerSideEncryption, encryption_for, master_key_name
from kypello.errors import Damaged, Refused
from kypello.model import DSSE, SSE_C, CustomerKey, EncryptionRequest
from tests.cases import SyncCase

SETTING = ServerSideEncryption("AES256").to_bytes()
KMS_SETTING = ServerSideEncryption("aws:kms", "alias/k", True).to_bytes()
SSE_S3 = EncryptionRequest("AES256", bucket_key=True)
CUSTOMER = EncryptionRequest(SSE_C, customer_key=CustomerKey(bytes(32), "md5"))


def of(setting: bytes | None) -> Mapping[str, bytes]:
    """
    The settings of a bucket with this default encryption.
    """
    return {} if setting is None else {"encryption": setting}


class EncryptionTests(SyncCase):
    """
    Defaults and their precedence.
    """

    def test_precedence(self) -> None:
        """
        The client's header counts, else the bucket's setting, else the server's.
        """
        request = EncryptionRequest("AES256")
        for arguments, expected in (
            ((None, None, False), None),
            ((request, None, False), SSE_S3),
            ((None, SETTING, False), SSE_S3),
            ((None, None, True), SSE_S3),
            ((request, b"damaged", False), SSE_S3),
            ((request, KMS_SETTING, True), SSE_S3),
            ((None, KMS_SETTING, True), EncryptionRequest("aws:kms", "alias/k", {}, True)),
            ((CUSTOMER, KMS_SETTING, True), CUSTOMER),
            ((CUSTOMER, b"damaged", True), CUSTOMER),
        ):
            request, setting, auto = arguments
            self.assertEqual(encryption_for(request, of(setting), auto), expected)

    def test_bucket_key(self) -> None:
        """
        Whether data keys are shared is the client's to say, else the bucket's; the master key
        that the bucket names is not taken for one that the client left out.
        """
        for wanted, setting, expected in (
            (None, None, False),
            (None, SETTING, False),
            (None, KMS_SETTING, True),
            (False, KMS_SETTING, False),
            (True, None, True),
            (True, b"damaged", True),
        ):
            request = EncryptionRequest("aws:kms", "", {"a": "b"}, wanted)
            self.assertEqual(
                encryption_for(request, of(setting), False),
                EncryptionRequest("aws:kms", "", {"a": "b"}, expected),
            )
        with self.assertRaises(Damaged):
            encryption_for(EncryptionRequest("aws:kms"), of(b"damaged"), False)

    def test_layers(self) -> None:
        """
        Two layers, which the client or the bucket asks for, never share data keys.
        """
        for shared in (None, False, True):
            request = EncryptionRequest(DSSE, "k", {"a": "b"}, shared)
            for setting in (None, SETTING, KMS_SETTING, b"damaged"):
                self.assertEqual(
                    encryption_for(request, of(setting), False),
                    EncryptionRequest(DSSE, "k", {"a": "b"}, bucket_key=False),
                )
            setting = ServerSideEncryption(DSSE, "alias/k", bool(shared)).to_bytes()
            self.assertEqual(
                encryption_for(None, of(setting), False),
                EncryptionRequest(DSSE, "alias/k", {}, bucket_key=False),
            )
            request = EncryptionRequest("aws:kms", "k", {}, False)
            self.assertEqual(encryption_for(request, of(setting), False), request)

    def test_refused(self) -> None:
        """
        An algorithm that is not served, or that lacks its key, is refused and not replaced.
        """
        for request in (EncryptionRequest("AES128"), EncryptionRequest(SSE_C)):
            with self.assertRaises(Refused) as caught:
                encryption_for(request, {}, True)
            self.assertEqual(caught.exception.code, "InvalidArgument")

    def test_blocked(self) -> None:
        """
        A bucket that blocks keys of clients takes none, and any other encryption.
        """
        blocking = {BLOCKED: b"SSE-C"}
        with self.assertRaises(Refused) as caught:
            encryption_for(CUSTOMER, blocking, False)
        self.assertEqual(caught.exception.code, "AccessDenied")
        self.assertEqual(encryption_for(EncryptionRequest("AES256"), blocking, False), SSE_S3)
        self.assertIsNone(encryption_for(None, blocking, False))

    def test_damaged_setting(self) -> None:
        """
        A bucket whose setting is unreadable takes no write in clear.
        """
        for stored in (b"", b"{", b'{"algorithm":"none"}', b"\xff"):
            with self.assertRaises(Damaged):
                encryption_for(None, of(stored), False)

    def test_stored(self) -> None:
        """
        A default is stored as JSON and read back; what is not set takes no room.
        """
        self.assertEqual(SETTING, b'{"algorithm":"AES256"}')
        self.assertEqual(
            KMS_SETTING, b'{"algorithm":"aws:kms","key_id":"alias/k","bucket_key":true}'
        )
        for stored in (SETTING, KMS_SETTING):
            self.assertEqual(ServerSideEncryption.from_bytes(stored).to_bytes(), stored)


class MasterKeyNameTests(SyncCase):
    """
    How master keys are named.
    """

    def test_forms(self) -> None:
        """
        Every form names the same key.
        """
        for key_id in (
            "my-key",
            "alias/my-key",
            "arn:aws:kms:my-key",
            "arn:aws:kms:eu-central-1:123456789012:key/my-key",
            "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/my-key",
            "arn:aws:kms:eu-central-1:123456789012:alias/my-key",
            "arn:aws:kms:::key/my-key",
        ):
            self.assertEqual(master_key_name(key_id), "my-key")
        for name in ("k", "key.1", "1234abcd-12ab-34cd-56ef-1234567890ab", "Schlüssel", "a_b"):
            self.assertEqual(master_key_name(name), name)

    def test_refused(self) -> None:
        """
        What no key service takes for a name is refused.
        """
        for key_id in (
            "",
            " my-key",
            "my-key ",
            "my-key\n",
            "my key",
            "key/my-key",
            "a/b",
            "..",
            ".",
            "alias/..",
            "alias/aws/s3",
            "arn:aws:kms:",
            "arn:aws:s3:::bucket",
            "arn:aws:kms:eu-central-1:123456789012:key/",
            "arn:aws:kms:eu-central-1:123456789012:grant/x",
            "a\0b",
        ):
            with self.assertRaises(Refused) as caught:
                master_key_name(key_id)
            self.assertEqual(
                (caught.exception.code, caught.exception.message),
                ("InvalidRequest", "The specified KMS KeyID contains unsupported characters"),
            )
