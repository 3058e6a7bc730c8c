# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.encryption`` and what becomes of failures of the KMS, over the wire.
"""

from kypello.auth.request import RequestHead
from kypello.errors import KMSUnavailable, Refused
from kypello.s3.encryption import check_read_encryption, read_write_encryption
from tests.cases import SyncCase
from tests.s3.front import FrontCase, read_xml, texts

_SSE = "x-amz-server-side-encryption"
_S3 = {_SSE: "AES256"}
_KEY_ID, _CONTEXT = f"{_SSE}-aws-kms-key-id", f"{_SSE}-context"
_CUSTOMER = {
    f"{_SSE}-customer-algorithm": "AES256",
    f"{_SSE}-customer-key": "A" * 43 + "=",
    f"{_SSE}-customer-key-MD5": "A" * 22 + "==",
}
_COPY = {"x-amz-copy-source-server-side-encryption-customer-key": "A" * 43 + "="}


def head(headers: dict[str, str], secure: bool = True) -> RequestHead:
    """
    A request with these headers.
    """
    return RequestHead(
        "PUT", "/b/k", (), tuple((name.lower(), value) for name, value in headers.items()), secure
    )


class WriteHeaderTests(SyncCase):
    """
    What a write may ask for.
    """

    def test_accepted(self) -> None:
        """
        A write asks for AES256 or for nothing.
        """
        self.assertIsNone(read_write_encryption(head({"x-amz-meta-a": "b"})))
        request = read_write_encryption(head(_S3))
        assert request is not None
        self.assertEqual(request.algorithm, "AES256")

    def test_refused(self) -> None:
        """
        What contradicts itself, or is not offered, is refused; never taken for less.
        """
        for headers, code in (
            ({_SSE: "aes:kms"}, "InvalidArgument"),
            ({_SSE: "AES128"}, "InvalidArgument"),
            ({_SSE: "aes256"}, "InvalidArgument"),
            ({_SSE: ""}, "InvalidArgument"),
            ({**_S3, **_CUSTOMER}, "InvalidArgument"),
            ({_KEY_ID: "k", **_CUSTOMER}, "InvalidArgument"),
            ({**_S3, _KEY_ID: "k"}, "InvalidArgument"),
            ({_KEY_ID: "k"}, "InvalidArgument"),
            ({_CONTEXT: "e30="}, "InvalidArgument"),
            ({_SSE: "aws:kms"}, "NotImplemented"),
            ({_SSE: "aws:kms", _KEY_ID: "k"}, "NotImplemented"),
            ({_SSE: "aws:kms:dsse"}, "NotImplemented"),
            (_CUSTOMER, "NotImplemented"),
            (_COPY, "InvalidRequest"),
            ({**_S3, **_COPY}, "InvalidRequest"),
        ):
            with self.assertRaises(Refused) as caught:
                read_write_encryption(head(headers))
            self.assertEqual(caught.exception.code, code, headers)

    def test_insecure(self) -> None:
        """
        Keys of the client never come over a connection without TLS.
        """
        for check in (read_write_encryption, check_read_encryption):
            with self.assertRaises(Refused) as caught:
                check(head({**_CUSTOMER, _SSE: "x"}, secure=False))
            self.assertEqual(caught.exception.code, "InvalidRequest")
            self.assertIn("secure connection", caught.exception.message)

    def test_reads(self) -> None:
        """
        A read asks for no encryption.
        """
        check_read_encryption(head({}))
        for headers, code in (
            (_S3, "InvalidArgument"),
            ({_SSE: "aws:kms"}, "InvalidArgument"),
            ({_KEY_ID: "k"}, "InvalidArgument"),
            (_CUSTOMER, "InvalidRequest"),
        ):
            with self.assertRaises(Refused) as caught:
                check_read_encryption(head(headers))
            self.assertEqual(caught.exception.code, code)


class EncryptedObjectTests(FrontCase):
    """
    Objects encrypted with keys of the KMS.
    """

    def test_round_trip(self) -> None:
        """
        Every answer about the object says how it is encrypted.
        """
        answer = self.put("k", b"secret", **{_SSE: "AES256"}, x_amz_meta_a="private")
        self.assertEqual(answer.header("ETag"), '"5ebe2294ecd0e0f08eab7690d2a6ee69"')
        self.assertEqual(answer.header(_SSE), "AES256")
        for method, content in (("GET", b"secret"), ("HEAD", b"")):
            answer = self.send(method, "/bucket/k", status=200)
            self.assertEqual((answer.body, answer.header(_SSE)), (content, "AES256"))
            self.assertEqual(answer.header("x-amz-meta-a"), "private")
            self.assertEqual(answer.header("Content-Length"), "6")
        self.assertEqual(texts(read_xml(self.send("GET", "/bucket")), "Contents/Size"), ["6"])

    def test_plain(self) -> None:
        """
        An object that is not encrypted says nothing of it.
        """
        self.assertIsNone(self.put("k").header(_SSE))
        self.assertIsNone(self.send("GET", "/bucket/k", status=200).header(_SSE))

    def test_read_headers(self) -> None:
        """
        A read that names an encryption is refused.
        """
        self.put("k", **{_SSE: "AES256"})
        for method in ("GET", "HEAD"):
            self.send(method, "/bucket/k", headers=_S3, status=400)
        self.refused("GET", "/bucket/k", 400, "InvalidArgument", headers=_S3)
        self.refused("GET", "/bucket/k", 400, "InvalidRequest", headers=_CUSTOMER)

    def test_not_configured(self) -> None:
        """
        Without a KMS encryption is not implemented, and nothing is stored.
        """
        self.serve(encrypts=False)
        self.refused("PUT", "/bucket/k", 501, "NotImplemented", body=b"x", headers=_S3)
        self.refused("GET", "/bucket/k", 404, "NoSuchKey")

    def test_outage(self) -> None:
        """
        While the KMS is down, what needs it is told to come again, and the rest works.
        """
        self.kms.down = True
        answer = self.send("PUT", "/bucket/k", b"x", _S3)
        self.assert_refused(answer, 503, "ServiceUnavailable")
        expected = KMSUnavailable("").retry_after
        self.assertEqual(answer.header("Retry-After"), str(int(expected)))
        self.put("plain")
        self.send("GET", "/bucket/plain", status=200)
        self.kms.down = False
        self.send("PUT", "/bucket/k", b"x", _S3, status=200)

    def test_lost_key(self) -> None:
        """
        A master key that the KMS does not have is named.
        """
        self.kms.keys.clear()
        tree = self.refused("PUT", "/bucket/k", 400, "kms:KeyNotFound", body=b"x", headers=_S3)
        self.assertIn("my-key", tree.findtext("Message") or "")
