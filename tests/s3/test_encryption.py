# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.encryption`` and what becomes of failures of the KMS, over the wire.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import md5

from kypello.auth.request import RequestHead
from kypello.errors import KMSUnavailable, Refused
from kypello.model import DSSE, SSE_C, CustomerKey, EncryptionRequest, Sealing
from kypello.s3.encryption import (
    read_customer_key,
    read_part_key,
    read_source_key,
    read_write_encryption,
    sealing_headers,
)
from kypello.testing.fakes import InlineLanes
from tests.cases import SyncCase
from tests.s3.front import FrontCase, read_xml, texts
from tests.s3.secure import SOURCE_SSE, SSE, LoopbackChannel, SecureCase, customer

_S3, _KMS, _DUAL = ({SSE: name} for name in ("AES256", "aws:kms", DSSE))
_KEY_ID, _CONTEXT = f"{SSE}-aws-kms-key-id", f"{SSE}-context"
_BUCKET_KEY = f"{SSE}-bucket-key-enabled"
_CUSTOMER, _SOURCE = customer(), customer(prefix=SOURCE_SSE)
_MD5 = b64encode(md5(b"k" * 32).digest()).decode()


def head(headers: dict[str, str], secure: bool = True, peer: str = "") -> RequestHead:
    """
    A request with these headers.
    """
    named = tuple((name.lower(), value) for name, value in headers.items())
    return RequestHead("PUT", "/b/k", (), named, secure, peer)


def without(headers: dict[str, str], name: str) -> dict[str, str]:
    """
    The headers but for one.
    """
    return {each: value for each, value in headers.items() if not each.endswith(name)}


class HeaderCase(SyncCase):
    """
    A test of reading headers.
    """

    def refused(self, read: Callable[[], object], code: str, text: str = "") -> None:
        """
        See that reading is refused.
        """
        with self.assertRaises(Refused) as caught:
            read()
        self.assertEqual(caught.exception.code, code)
        self.assertIn(text, caught.exception.message)


class WriteHeaderTests(HeaderCase):
    """
    What a write may ask for.
    """

    def test_accepted(self) -> None:
        """
        A write asks for a key of the KMS, brings one, or leaves it to the defaults.
        """
        context = b64encode(b'{"a": "b"}').decode()
        for headers, expected in (
            ({"x-amz-meta-a": "b"}, None),
            (_S3, EncryptionRequest("AES256")),
            (_KMS, EncryptionRequest("aws:kms")),
            ({**_KMS, _KEY_ID: ""}, EncryptionRequest("aws:kms")),
            ({**_KMS, _KEY_ID: "k"}, EncryptionRequest("aws:kms", "k")),
            ({**_KMS, _KEY_ID: "arn:aws:kms:k"}, EncryptionRequest("aws:kms", "arn:aws:kms:k")),
            ({**_KMS, _CONTEXT: context}, EncryptionRequest("aws:kms", "", {"a": "b"})),
            ({**_KMS, _BUCKET_KEY: "true"}, EncryptionRequest("aws:kms", bucket_key=True)),
            ({**_KMS, _BUCKET_KEY: "false"}, EncryptionRequest("aws:kms", bucket_key=False)),
            (_CUSTOMER, EncryptionRequest(SSE_C, customer_key=CustomerKey(b"k" * 32, _MD5))),
            ({_BUCKET_KEY: "true"}, None),
            (_DUAL, EncryptionRequest(DSSE)),
            ({**_DUAL, _KEY_ID: "k"}, EncryptionRequest(DSSE, "k")),
            ({**_DUAL, _CONTEXT: context}, EncryptionRequest(DSSE, "", {"a": "b"})),
            ({**_DUAL, _BUCKET_KEY: "true"}, EncryptionRequest(DSSE, bucket_key=True)),
        ):
            self.assertEqual(read_write_encryption(head(headers)), expected, headers)

    def test_refused(self) -> None:
        """
        What contradicts itself, or is not offered, is refused; never taken for less.
        """
        for headers, code in (
            ({SSE: "aes:kms"}, "InvalidArgument"),
            ({SSE: "AES128"}, "InvalidArgument"),
            ({SSE: "aes256"}, "InvalidArgument"),
            ({SSE: ""}, "InvalidArgument"),
            ({**_S3, **_CUSTOMER}, "InvalidArgument"),
            ({**_KMS, **_CUSTOMER}, "InvalidArgument"),
            ({_KEY_ID: "k", **_CUSTOMER}, "InvalidArgument"),
            ({**_S3, _KEY_ID: "k"}, "InvalidArgument"),
            ({_KEY_ID: "k"}, "InvalidArgument"),
            ({_CONTEXT: "e30="}, "InvalidArgument"),
            ({SSE: "aws:kms:DSSE"}, "InvalidArgument"),
            ({**_DUAL, **_CUSTOMER}, "InvalidArgument"),
            ({**_DUAL, _KEY_ID: "a b"}, "InvalidRequest"),
            ({**_DUAL, _BUCKET_KEY: "yes"}, "InvalidArgument"),
            ({**_KMS, _KEY_ID: "a b"}, "InvalidRequest"),
            ({**_KMS, _BUCKET_KEY: "yes"}, "InvalidArgument"),
            (_SOURCE, "InvalidRequest"),
            ({**_S3, **_SOURCE}, "InvalidRequest"),
            ({**_CUSTOMER, **_SOURCE}, "InvalidRequest"),
        ):
            self.refused(lambda headers=headers: read_write_encryption(head(headers)), code)

    def test_context(self) -> None:
        """
        A context is a JSON object of texts in base64, and nothing else.
        """
        for content in (b"{", b"[]", b'{"a": 1}', b'{"a": null}', b"", b'"a"', b'{"a": "\xff"}'):
            encoded = {**_KMS, _CONTEXT: b64encode(content).decode()}
            self.refused(
                lambda encoded=encoded: read_write_encryption(head(encoded)),
                "InvalidArgument",
                "JSON",
            )
        for text in ("e30", "{}", "e3\xfc=", "e30=="):
            self.refused(
                lambda text=text: read_write_encryption(head({**_KMS, _CONTEXT: text})),
                "InvalidArgument",
            )

    def test_customer_keys(self) -> None:
        """
        Algorithm, key and digest of a key are checked in this order, for a source likewise; no
        refusal shows the key.
        """
        for headers, read in (
            (_CUSTOMER, read_write_encryption),
            (_CUSTOMER, read_customer_key),
            (_SOURCE, read_source_key),
        ):
            prefix = next(iter(headers)).removesuffix("algorithm")
            for changed, code, text in (
                (without(headers, "algorithm"), "InvalidArgument", "encryption algorithm"),
                (
                    {**headers, f"{prefix}algorithm": "aes256", f"{prefix}key": ""},
                    "InvalidEncryptionAlgorithmError",
                    "AES256",
                ),
                (without(headers, "key"), "InvalidArgument", "appropriate secret key"),
                (
                    {**without(headers, "MD5"), f"{prefix}key": "short"},
                    "InvalidArgument",
                    "client calculated MD5",
                ),
                (
                    {**headers, f"{prefix}key": "QUJD", f"{prefix}key-MD5": "x"},
                    "InvalidArgument",
                    "invalid for the specified algorithm",
                ),
                ({**headers, f"{prefix}key": "*" * 44}, "InvalidArgument", "invalid for"),
                ({**headers, f"{prefix}key-MD5": "x"}, "InvalidArgument", "did not match"),
                ({**headers, f"{prefix}key-MD5": "A" * 22 + "=="}, "InvalidArgument", "not match"),
                ({**headers, f"{prefix}key-MD5": "\xfc"}, "InvalidArgument", "not match"),
            ):
                self.refused(lambda read=read, given=changed: read(head(given)), code, text)
            with self.assertRaises(Refused) as caught:
                read(head({**headers, f"{prefix}key-MD5": "x"}))
            self.assertNotIn(headers[f"{prefix}key"], repr(caught.exception))

    def test_insecure(self) -> None:
        """
        Keys come over a connection without TLS only from this machine, and only if that is
        allowed.
        """
        for headers in ({**_CUSTOMER, SSE: "x"}, {**_SOURCE, SSE: "x"}):
            for read in (read_write_encryption, read_customer_key):
                for peer, loopback in (
                    ("127.0.0.1", False), ("192.0.2.1", True), ("-", True), ("", True),
                ):  # fmt: skip
                    self.refused(
                        lambda read=read, headers=headers, peer=peer, loopback=loopback: read(
                            head(headers, False, peer), loopback=loopback
                        ),
                        "InvalidRequest",
                        "secure connection",
                    )
        for peer in ("127.0.0.1", "127.1.2.3", "::1"):
            for read in (read_write_encryption, read_customer_key):
                self.assertIsNotNone(read(head(_CUSTOMER, False, peer), loopback=True))

    def test_reads(self) -> None:
        """
        A read brings a key or nothing, and asks for no encryption.
        """
        self.assertIsNone(read_customer_key(head({})))
        self.assertEqual(read_customer_key(head(_CUSTOMER)), CustomerKey(b"k" * 32, _MD5))
        for headers, code in (
            (_S3, "InvalidArgument"),
            (_KMS, "InvalidArgument"),
            (_DUAL, "InvalidArgument"),
            ({_KEY_ID: "k"}, "InvalidArgument"),
            ({_BUCKET_KEY: "true"}, "InvalidArgument"),
            ({**_S3, **_CUSTOMER}, "InvalidArgument"),
            (_SOURCE, "InvalidRequest"),
        ):
            self.refused(lambda headers=headers: read_customer_key(head(headers)), code)

    def test_parts(self) -> None:
        """
        A part may repeat what its upload has asked for, and nothing else.
        """
        s3, kms = Sealing("AES256"), Sealing("aws:kms", "k")
        spelled = {**_KMS, _KEY_ID: "arn:aws:kms:k"}
        for headers, sealing in (
            ({}, None),
            ({}, kms),
            (_S3, s3),
            ({**_KMS, _KEY_ID: "k"}, kms),
            (spelled, kms),
            (_DUAL, Sealing(DSSE, "k")),
            ({**_DUAL, _KEY_ID: "alias/k"}, Sealing(DSSE, "k")),
        ):
            self.assertIsNone(read_part_key(head(headers), sealing))
        self.assertEqual(
            read_part_key(head(_CUSTOMER), Sealing(SSE_C)), CustomerKey(b"k" * 32, _MD5)
        )
        for headers, sealing in (
            (_S3, None),
            (_S3, kms),
            (_KMS, s3),
            (_KMS, Sealing(SSE_C)),
            (spelled, Sealing("aws:kms", "other")),
            (_KMS, Sealing(DSSE, "k")),
            (_DUAL, kms),
            ({**_DUAL, _KEY_ID: "other"}, Sealing(DSSE, "k")),
        ):
            self.refused(
                lambda headers=headers, sealing=sealing: read_part_key(head(headers), sealing),
                "InvalidArgument",
            )
        both = {**_CUSTOMER, **_SOURCE}
        self.refused(lambda: read_part_key(head(both), Sealing(SSE_C)), "InvalidRequest")
        self.assertIsNotNone(read_part_key(head(both), Sealing(SSE_C), copying=True))


class SealingHeaderTests(SyncCase):
    """
    What answers tell.
    """

    def test_kinds(self) -> None:
        """
        Each kind has its headers; the context is told only to writers.
        """
        kms = Sealing("aws:kms", "arn:aws:kms:k", {"b": "2", "a": "1"}, bucket_key=True)
        key = CustomerKey(b"k" * 32, _MD5)
        context = b64encode(b'{"a":"1","b":"2"}').decode()
        told = {SSE: "aws:kms", _KEY_ID: "arn:aws:kms:k", _BUCKET_KEY: "true"}
        name = f"{SSE}-customer-algorithm"
        digest = {f"{SSE}-customer-key-MD5": _MD5}
        self.assertEqual(dict(sealing_headers(None)), {})
        self.assertEqual(dict(sealing_headers(Sealing("AES256", "k"))), _S3)
        self.assertEqual(dict(sealing_headers(kms)), told)
        self.assertEqual(dict(sealing_headers(kms, context=True)), {**told, _CONTEXT: context})
        for sealing, given in ((Sealing(SSE_C, customer_md5=_MD5), None), (Sealing(SSE_C), key)):
            headers = dict(sealing_headers(sealing, key=given))
            self.assertEqual(headers, {name: "AES256", **digest})
        self.assertEqual(dict(sealing_headers(Sealing(SSE_C))), {name: "AES256"})


class EncryptedObjectTests(FrontCase):
    """
    Objects encrypted with keys of the KMS.
    """

    def test_round_trip(self) -> None:
        """
        Every answer about the object says how it is encrypted.
        """
        answer = self.put("k", b"secret", **{SSE: "AES256"}, x_amz_meta_a="private")
        self.assertEqual(answer.header("ETag"), '"5ebe2294ecd0e0f08eab7690d2a6ee69"')
        self.assertEqual(answer.header(SSE), "AES256")
        for method, content in (("GET", b"secret"), ("HEAD", b"")):
            answer = self.send(method, "/bucket/k", status=200)
            self.assertEqual((answer.body, answer.header(SSE)), (content, "AES256"))
            self.assertEqual(answer.header("x-amz-meta-a"), "private")
            self.assertEqual(answer.header("Content-Length"), "6")
        self.assertEqual(texts(read_xml(self.send("GET", "/bucket")), "Contents/Size"), ["6"])

    def test_named_key(self) -> None:
        """
        A master key is told as it was named, and the entity tag tells nothing of the content.
        """
        for key_id, told in (
            ("my-key", "my-key"),
            ("arn:aws:kms:my-key", "arn:aws:kms:my-key"),
            ("", "arn:aws:kms:my-key"),
        ):
            headers = {**_KMS, **({_KEY_ID: key_id} if key_id else {})}
            answer = self.send("PUT", "/bucket/k", b"secret", headers, status=200)
            etag = answer.header("ETag") or ""
            self.assertRegex(etag, '^"[0-9a-f]{32}"$')
            self.assertNotEqual(etag, '"5ebe2294ecd0e0f08eab7690d2a6ee69"')
            for method, content in (("PUT", b""), ("GET", b"secret"), ("HEAD", b"")):
                if method != "PUT":
                    answer = self.send(method, "/bucket/k", status=200)
                self.assertEqual((answer.body, answer.header("ETag")), (content, etag))
                self.assertEqual(answer.header(SSE), "aws:kms")
                self.assertEqual(answer.header(_KEY_ID), told)
                self.assertIsNone(answer.header(_BUCKET_KEY))

    def test_context(self) -> None:
        """
        What the client binds the key to is told when the object is stored.
        """
        encoded = b64encode(b'{"team": "<blue>"}').decode()
        headers = {**_KMS, _CONTEXT: encoded, _BUCKET_KEY: "false"}
        answer = self.send("PUT", "/bucket/k", b"secret", headers, status=200)
        self.assertEqual(json.loads(b64decode(answer.header(_CONTEXT) or "")), {"team": "<blue>"})
        answer = self.send("GET", "/bucket/k", status=200)
        self.assertEqual((answer.body, answer.header(_CONTEXT)), (b"secret", None))

    def test_bucket_key(self) -> None:
        """
        That objects share data keys is told.
        """
        headers = {**_KMS, _BUCKET_KEY: "true"}
        answer = self.send("PUT", "/bucket/k", b"secret", headers, status=200)
        self.assertEqual(answer.header(_BUCKET_KEY), "true")
        self.assertEqual(self.send("HEAD", "/bucket/k").header(_BUCKET_KEY), "true")

    def test_layers(self) -> None:
        """
        Two layers are told with the master key as it was named; that data keys shall be shared
        changes nothing, and is not told.
        """
        for more, told in (
            ({}, "arn:aws:kms:my-key"),
            ({_KEY_ID: "alias/my-key", _BUCKET_KEY: "true"}, "alias/my-key"),
        ):
            answer = self.send("PUT", "/bucket/k", b"secret", {**_DUAL, **more}, status=200)
            etag = answer.header("ETag") or ""
            self.assertRegex(etag, '^"[0-9a-f]{32}"$')
            self.assertNotEqual(etag, '"5ebe2294ecd0e0f08eab7690d2a6ee69"')
            for method, content in (("PUT", b""), ("GET", b"secret"), ("HEAD", b"")):
                if method != "PUT":
                    answer = self.send(method, "/bucket/k", status=200)
                    self.assertEqual(answer.header("Content-Length"), "6")
                self.assertEqual((answer.body, answer.header("ETag")), (content, etag))
                self.assertEqual((answer.header(SSE), answer.header(_KEY_ID)), (DSSE, told))
                self.assertIsNone(answer.header(_BUCKET_KEY))
        self.assertEqual(texts(read_xml(self.send("GET", "/bucket")), "Contents/Size"), ["6"])

    def test_no_digest(self) -> None:
        """
        What no entity tag shows, and nobody compares, is not computed.
        """
        for headers, runs in ((_S3, True), (_KMS, False), (_DUAL, False)):
            lanes = self.front.lanes
            assert isinstance(lanes, InlineLanes)
            lanes.made.clear()
            self.send("PUT", "/bucket/k", bytes(100_000), headers, status=200)
            _content, md5_lane, *_others = lanes.made
            self.assertEqual(md5_lane.calls > 0, runs)

    def test_digests(self) -> None:
        """
        With an opaque entity tag too, the digests that are sent are verified.
        """
        wrong = {**_KMS, "Content-MD5": "A" * 22 + "=="}
        self.refused("PUT", "/bucket/k", 400, "BadDigest", body=b"x", headers=wrong)
        wrong = {**_KMS, "x-amz-checksum-crc32": "AAAAAA=="}
        self.refused("PUT", "/bucket/k", 400, "BadDigest", body=b"x", headers=wrong)
        right = {**_KMS, "x-amz-checksum-crc32": "y/Q5Jg=="}
        answer = self.send("PUT", "/bucket/k", b"123456789", right, status=200)
        self.assertEqual(answer.header("x-amz-checksum-crc32"), "y/Q5Jg==")

    def test_plain(self) -> None:
        """
        An object that is not encrypted says nothing of it.
        """
        self.assertIsNone(self.put("k").header(SSE))
        self.assertIsNone(self.send("GET", "/bucket/k", status=200).header(SSE))

    def test_read_headers(self) -> None:
        """
        A read that names an encryption is refused.
        """
        self.put("k", **{SSE: "AES256"})
        for headers in (_S3, _KMS, {_KEY_ID: "k"}):
            self.send("HEAD", "/bucket/k", headers=headers, status=400)
            self.refused("GET", "/bucket/k", 400, "InvalidArgument", headers=headers)

    def test_not_configured(self) -> None:
        """
        Without a KMS encryption is not implemented, and nothing is stored.
        """
        self.serve(encrypts=False)
        for headers in (_S3, _KMS, _DUAL):
            self.refused("PUT", "/bucket/k", 501, "NotImplemented", body=b"x", headers=headers)
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
        headers = {**_KMS, _KEY_ID: "arn:aws:kms:other"}
        tree = self.refused("PUT", "/bucket/k", 400, "kms:KeyNotFound", body=b"x", headers=headers)
        self.assertIn("other", tree.findtext("Message") or "")
        self.kms.keys.clear()
        tree = self.refused("PUT", "/bucket/k", 400, "kms:KeyNotFound", body=b"x", headers=_S3)
        self.assertIn("my-key", tree.findtext("Message") or "")


class CustomerKeyTests(SecureCase):
    """
    Objects encrypted with keys of clients.
    """

    def test_round_trip(self) -> None:
        """
        Who has the key reads the object; every answer shows what belongs to the key.
        """
        algorithm, digest = f"{SSE}-customer-algorithm", f"{SSE}-customer-key-MD5"
        answer = self.send("PUT", "/bucket/k", b"secret", _CUSTOMER, status=200)
        etag = answer.header("ETag")
        self.assertNotEqual(etag, '"5ebe2294ecd0e0f08eab7690d2a6ee69"')
        for method, content in (("PUT", b""), ("GET", b"secret"), ("HEAD", b"")):
            if method != "PUT":
                answer = self.send(method, "/bucket/k", headers=_CUSTOMER, status=200)
                self.assertEqual(answer.header("Content-Length"), "6")
            self.assertEqual((answer.body, answer.header("ETag")), (content, etag))
            self.assertEqual((answer.header(algorithm), answer.header(digest)), ("AES256", _MD5))
            self.assertIsNone(answer.header(SSE))
            self.assertIsNone(answer.header(f"{SSE}-customer-key"))
        answer = self.send("GET", "/bucket/k", headers={**_CUSTOMER, "Range": "bytes=1-2"})
        self.assertEqual((answer.status, answer.body), (206, b"ec"))

    def test_wrong_reads(self) -> None:
        """
        Without the key, with another, or with one for another object nothing is read; even
        of nothing.
        """
        self.send("PUT", "/bucket/k", b"secret", _CUSTOMER, status=200)
        self.send("PUT", "/bucket/empty", b"", _CUSTOMER, status=200)
        self.put("plain")
        self.put("s3", **{SSE: "AES256"})
        other = customer(b"x" * 32)
        for name in ("k", "empty"):
            self.refused("GET", f"/bucket/{name}", 400, "InvalidRequest")
            self.send("HEAD", f"/bucket/{name}", status=400)
            self.refused("GET", f"/bucket/{name}", 403, "AccessDenied", headers=other)
            self.send("HEAD", f"/bucket/{name}", headers=other, status=403)
        for name in ("plain", "s3"):
            self.refused("GET", f"/bucket/{name}", 400, "InvalidRequest", headers=_CUSTOMER)
            self.send("HEAD", f"/bucket/{name}", headers=_CUSTOMER, status=400)
        # The key is asked for before conditions are looked at.
        headers = {"If-None-Match": "*"}
        self.refused("GET", "/bucket/k", 400, "InvalidRequest", headers=headers)

    def test_conditional_writes(self) -> None:
        """
        The condition of a write needs no key.
        """
        answer = self.send("PUT", "/bucket/k", b"secret", _CUSTOMER, status=200)
        for headers in ({"If-None-Match": "*"}, {"If-Match": "x"}):
            self.refused("PUT", "/bucket/k", 412, "PreconditionFailed", body=b"x", headers=headers)
        matching = {"If-Match": answer.header("ETag") or ""}
        self.send("PUT", "/bucket/k", b"new", matching, status=200)
        self.assertEqual(self.send("GET", "/bucket/k").body, b"new")

    def test_no_key_needed(self) -> None:
        """
        Listing and deletion need no key.
        """
        self.send("PUT", "/bucket/k", b"secret", _CUSTOMER, status=200)
        self.assertEqual(texts(read_xml(self.send("GET", "/bucket")), "Contents/Size"), ["6"])
        self.send("DELETE", "/bucket/k", status=204)

    def test_before_bucket(self) -> None:
        """
        In a bucket that encrypts by itself the key of the client counts.
        """
        rule = "<SSEAlgorithm>AES256</SSEAlgorithm>"
        body = (
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
            f"{rule}</ApplyServerSideEncryptionByDefault></Rule>"
            "</ServerSideEncryptionConfiguration>"
        )
        self.send("PUT", "/bucket?encryption", body.encode(), status=200)
        answer = self.send("PUT", "/bucket/k", b"secret", _CUSTOMER, status=200)
        self.assertIsNone(answer.header(SSE))
        self.refused("GET", "/bucket/k", 400, "InvalidRequest")


class InsecureTests(FrontCase):
    """
    Keys of clients over plain HTTP.
    """

    def test_refused(self) -> None:
        """
        They are refused, and nothing is stored or read.
        """
        for options in ({}, {"allow_insecure_customer_keys": True}):
            self.serve(**options)
            self.put("k")
            for method in ("PUT", "GET"):
                self.refused(method, "/bucket/k", 400, "InvalidRequest", headers=_CUSTOMER)

    def test_loopback(self) -> None:
        """
        A setting lets those pass that come from this machine.
        """
        for allowed, status in ((False, 400), (True, 200)):
            self.serve(allow_insecure_customer_keys=allowed)
            self.harness.site.protocol = LoopbackChannel
            self.send("PUT", "/bucket/k", b"secret", _CUSTOMER, status=status)
            self.send("HEAD", "/bucket/k", headers=_CUSTOMER, status=status)
