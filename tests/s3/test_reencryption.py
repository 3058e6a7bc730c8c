# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.reencryption``, over the wire.
"""

from base64 import b64encode
from hashlib import md5
from zlib import crc32

from twisted.internet.defer import Deferred

from kypello.s3.dates import xml_date
from kypello.testing.harness import Answer, RawClient
from tests.s3.front import NAMESPACE, FrontCase, presigned, presigned_plainly, signed
from tests.s3.secure import SSE, SecureCase, customer
from tests.s3.test_authorization import AuthorizationCase

_KEY_ID, _SHARED = f"{SSE}-aws-kms-key-id", f"{SSE}-bucket-key-enabled"
_KMS = {SSE: "aws:kms"}
_TARGET = "/bucket/k?encryption"
_VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


def wanting(content: str, namespace: str = f' xmlns="{NAMESPACE[1:-1]}"') -> bytes:
    """
    A document that asks for an encryption.
    """
    return f"<ObjectEncryption{namespace}>{content}</ObjectEncryption>".encode()


def kms(key_id: str, more: str = "") -> bytes:
    """
    One that asks for a master key.
    """
    return wanting(f"<SSE-KMS><KMSKeyArn>{key_id}</KMSKeyArn>{more}</SSE-KMS>")


def digest(body: bytes) -> dict[str, str]:
    """
    The header that covers a body.
    """
    return {"Content-MD5": b64encode(md5(body).digest()).decode()}


class ReencryptionCase(FrontCase):
    """
    A test with a second master key ``new-key``.
    """

    def setUp(self) -> None:
        """
        Have the keys.
        """
        super().setUp()
        self.kms.keys["new-key"] = self.kms.with_default_key().keys["my-key"]

    def update(self, body: bytes, target: str = _TARGET, *, status: int = 200) -> Answer:
        """
        Ask for another encryption.
        """
        return self.send("PUT", target, body, digest(body), status=status)

    def begin(self, body: bytes) -> RawClient:
        """
        Ask for another encryption while the key service takes its time.
        """
        self.kms.pause = Deferred()
        client = self.harness.connect()
        lines = signed("PUT", _TARGET, digest(body), body)
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        head += f"Host: kypello.test\r\nContent-Length: {len(body)}\r\n\r\n"
        client.send(f"PUT {_TARGET} HTTP/1.1\r\n{head}".encode() + body)
        return client

    def not_updated(self, status: int, code: str, body: bytes, target: str = _TARGET) -> str:
        """
        Ask for an encryption that is refused; give the words.
        """
        tree = self.refused("PUT", target, status, code, body=body, headers=digest(body))
        return tree.findtext("Message") or ""


class UpdateTests(SecureCase, ReencryptionCase):
    """
    Other master keys for objects as they are.
    """

    def test_answer(self) -> None:
        """
        The encryption changes, and nothing else: not the content, ETag, time, checksum, metadata
        or tags.
        """
        for first in ({SSE: "AES256"}, _KMS, {**_KMS, _SHARED: "true"}):
            headers = {**first, "x-amz-meta-a": "b", "x-amz-tagging": "c=d"}
            headers["x-amz-checksum-crc32"] = b64encode(crc32(b"content").to_bytes(4)).decode()
            self.send("PUT", "/bucket/k", b"content", headers, status=200)
            asking = {"x-amz-checksum-mode": "ENABLED"}
            before = self.send("GET", "/bucket/k", headers=asking, status=200)
            self.clock.advance(100)
            self.assertEqual(self.update(kms("new-key")).body, b"")
            after = self.send("GET", "/bucket/k", headers=asking, status=200)
            self.assertEqual(after.body, b"content")
            for name in (
                "ETag",
                "Last-Modified",
                "Content-Length",
                "x-amz-meta-a",
                "x-amz-checksum-crc32",
                "x-amz-tagging-count",
            ):
                self.assertIsNotNone(after.header(name), name)
                self.assertEqual(after.header(name), before.header(name))
            self.assertEqual(after.header(SSE), "aws:kms")
            self.assertEqual(after.header(_KEY_ID), "new-key")
            self.assertIsNone(after.header(_SHARED))

    def test_spellings(self) -> None:
        """
        A master key may be named in each form, and is told in the same; data keys are shared if
        that is asked for; and there is a way back.
        """
        self.put("k", **{SSE: "AES256"})
        for key_id in (
            "new-key",
            "arn:aws:kms:new-key",
            "arn:aws:kms:us-east-1:123456789012:key/new-key",
        ):
            for more, shared in (
                ("", None),
                ("<BucketKeyEnabled>false</BucketKeyEnabled>", None),
                ("<BucketKeyEnabled>true</BucketKeyEnabled>", "true"),
            ):
                self.update(kms(key_id, more))
                answer = self.send("GET", "/bucket/k", status=200)
                told = (answer.header(_KEY_ID), answer.header(_SHARED), answer.body)
                self.assertEqual(told, (key_id, shared, b"content"))
        self.update(wanting("<SSE-S3/>"))
        answer = self.send("GET", "/bucket/k", status=200)
        self.assertEqual((answer.header(SSE), answer.body), ("AES256", b"content"))

    def test_context(self) -> None:
        """
        What the client has bound the key to stays; with SSE-S3 nothing is.
        """
        context = b64encode(b'{"team":"red"}').decode()
        self.put("k", **{SSE: "aws:kms", f"{SSE}-context": context})
        self.update(kms("new-key"))
        told = self.successResultOf(Deferred.fromCoroutine(self.store.head("bucket", "k")))
        self.assertEqual(told.metadata.sealing.context, {"team": "red"})
        self.update(wanting("<SSE-S3/>"))
        self.assertEqual(self.send("GET", "/bucket/k").body, b"content")

    def test_versions(self) -> None:
        """
        Each version is encrypted by itself; what is none is told.
        """
        self.send("PUT", "/bucket?versioning", _VERSIONING, status=200)
        old, new = (
            self.put("k", content, **_KMS).header("x-amz-version-id")
            for content in (b"old", b"new")
        )
        self.update(kms("new-key"), f"{_TARGET}&versionId={old}")
        for version, told in ((old, "new-key"), (new, "arn:aws:kms:my-key")):
            answer = self.send("GET", f"/bucket/k?versionId={version}", status=200)
            self.assertEqual(answer.header(_KEY_ID), told)
        marker = self.send("DELETE", "/bucket/k", status=204).header("x-amz-version-id")
        for query, status, code in (
            ("", 404, "NoSuchKey"),
            (f"&versionId={marker}", 405, "MethodNotAllowed"),
            (f"&versionId={'0' * 32}", 404, "NoSuchVersion"),
            ("&versionId=..", 400, "InvalidArgument"),
        ):
            self.not_updated(status, code, kms("new-key"), _TARGET + query)
        self.not_updated(404, "NoSuchKey", kms("new-key"), "/bucket/absent?encryption")
        self.not_updated(404, "NoSuchBucket", kms("new-key"), "/absent/k?encryption")

    def test_protected(self) -> None:
        """
        What a retention or a legal hold protects keeps its encryption until that ends, as in AWS.
        """
        locked = {"x-amz-bucket-object-lock-enabled": "true"}
        self.send("PUT", "/locked", headers=locked, status=200)
        hold = {"x-amz-object-lock-legal-hold": "ON"}
        ends = xml_date(int(self.clock.seconds() + 100) * 10**9)
        retention = {
            "x-amz-object-lock-mode": "COMPLIANCE",
            "x-amz-object-lock-retain-until-date": ends,
        }
        for key, lock in (("hold", hold), ("retention", retention)):
            target = f"/locked/{key}?encryption"
            self.send("PUT", f"/locked/{key}", b"content", {**_KMS, **lock}, status=200)
            told = self.not_updated(403, "AccessDenied", kms("new-key"), target)
            self.assertIn("Object Lock", told)
        self.clock.advance(200)
        self.update(kms("new-key"), "/locked/retention?encryption")
        self.not_updated(403, "AccessDenied", kms("new-key"), "/locked/hold?encryption")
        lifted = b"<LegalHold><Status>OFF</Status></LegalHold>"
        target = "/locked/hold?legal-hold"
        self.send("PUT", target, lifted, digest(lifted), status=200)
        self.update(kms("new-key"), "/locked/hold?encryption")

    def test_sources(self) -> None:
        """
        What is not encrypted, or with a key of its client, is refused and stays.
        """
        self.put("k")
        self.assertIn("unencrypted", self.not_updated(400, "InvalidRequest", kms("new-key")))
        self.send("PUT", "/bucket/k", b"content", customer(), status=200)
        self.assertIn("SSE-C", self.not_updated(400, "InvalidRequest", kms("new-key")))
        got = self.send("GET", "/bucket/k", headers=customer(), status=200)
        self.assertEqual(got.body, b"content")

    def test_malformed(self) -> None:
        """
        What asks for nothing that there is is refused, and never taken for content.
        """
        self.put("k", **_KMS)
        for code, body in (
            ("MalformedXML", b"text"),
            ("MalformedXML", b"<Other/>"),
            ("InvalidRequest", wanting("")),
            ("InvalidRequest", wanting("text")),
            ("InvalidRequest", wanting("<SSE-C/>")),
            ("InvalidRequest", wanting("<DSSE-KMS/>")),
            ("InvalidRequest", wanting("<SSE-S3/><SSE-S3/>")),
            ("MalformedXML", wanting("<SSE-S3>x</SSE-S3>")),
            ("InvalidRequest", wanting("<SSE-KMS/>")),
            ("InvalidRequest", kms("")),
            ("InvalidRequest", kms("a b")),
            ("InvalidRequest", kms("ü")),
            ("InvalidRequest", kms("arn:aws:s3:::x")),
            ("InvalidRequest", kms("new-key", "<BucketKeyEnabled>yes</BucketKeyEnabled>")),
            ("MalformedXML", kms("new-key", "<Other/>")),
            ("MalformedXML", kms("new-key", "<KMSKeyArn>new-key</KMSKeyArn>")),
            ("MalformedXML", wanting("<SSE-S3/>", ' xmlns="urn:other"')),
        ):
            self.not_updated(400, code, body)
        self.not_updated(400, "kms:KeyNotFound", kms("absent"))
        answer = self.send("GET", "/bucket/k", status=200)
        self.assertEqual((answer.body, answer.header(_KEY_ID)), (b"content", "arn:aws:kms:my-key"))

    def test_covered(self) -> None:
        """
        The body must be whole, and the signature of version 4.
        """
        self.put("k", **_KMS)
        body = kms("new-key")
        headers = {"Content-MD5": "A" * 22 + "=="}
        self.refused("PUT", _TARGET, 400, "BadDigest", body=body, headers=headers)
        for presign, status, code in (
            (presigned, 400, "InvalidRequest"),
            (presigned_plainly, 403, "AccessDenied"),
        ):
            target = presign("PUT", "/bucket/k?encryption=")
            answer = self.plainly("PUT", target, [("Host", "kypello.test")], body)
            self.assert_refused(answer, status, code)

    def test_outage(self) -> None:
        """
        Without the key service it is refused, with a time to try again.
        """
        self.put("k", **_KMS)
        self.kms.down = True
        answer = self.send("PUT", _TARGET, kms("new-key"), digest(kms("new-key")))
        self.assertEqual(answer.status, 503)
        self.assertIsNotNone(answer.header("Retry-After"))

    def test_meanwhile(self) -> None:
        """
        What others change of the object while the key service is asked, tags, its encryption, or
        both, is no conflict: the last request counts.  Other content is.
        """
        tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
        changes = {
            "tags": lambda: self.send("PUT", "/bucket/k?tagging", tags, digest(tags), status=200),
            "encryption": lambda: self.update(wanting("<SSE-S3/>")),
            "both": lambda: (changes["encryption"](), changes["tags"]()),
            "content": lambda: self.put("k", b"other", **_KMS),
        }
        for name, change in changes.items():
            self.put("k", **_KMS)
            self.send("GET", "/bucket/k", status=200)
            client = self.begin(kms("new-key"))
            pause, self.kms.pause = self.kms.pause, None
            assert pause is not None
            change()
            self.assertEqual(client.received, b"")
            pause.callback(None)
            status = 409 if name == "content" else 200
            self.assertIn(b"HTTP/1.1 %d " % status, client.received, name)
            answer = self.send("GET", "/bucket/k", status=200)
            key, content = ("my-key", b"other") if status == 409 else ("new-key", b"content")
            self.assertEqual(answer.body, content)
            self.assertIn(key, answer.header(_KEY_ID) or "")
            tagged = "1" if name in ("tags", "both") else None
            self.assertEqual(answer.header("x-amz-tagging-count"), tagged)
        self.assertIn(b"OperationAborted", client.received)

    def test_not_configured(self) -> None:
        """
        Without a KMS there is nothing to encrypt with.
        """
        self.serve(encrypts=False)
        self.put("k")
        self.not_updated(501, "NotImplemented", kms("new-key"))


class RightsTests(AuthorizationCase, ReencryptionCase):
    """
    Who may change an encryption.
    """

    def test_anonymous(self) -> None:
        """
        Without a signature nobody can, whatever the bucket allows.
        """
        self.put("k", **_KMS)
        body = kms("new-key")
        lines = [("Host", "kypello.test"), *digest(body).items()]
        answer = self.plainly("PUT", _TARGET, lines, body)
        self.assertIn("Version 4", answer.body.decode())
        self.assert_refused(answer, 400, "InvalidRequest")

    def test_rights_meanwhile(self) -> None:
        """
        When another encryption came since rights were asked for, those to it are asked for, too.
        """
        self.put("k", **_KMS)
        self.send("GET", "/bucket/k", status=200)
        self.kms.keys["third"] = self.kms.keys["new-key"]
        client = self.begin(kms("new-key"))
        pause, self.kms.pause = self.kms.pause, None
        assert pause is not None
        self.update(kms("third"))
        self.forbidden_keys = {("kms:Decrypt", "third")}
        pause.callback(None)
        self.assertIn(b"HTTP/1.1 403 ", client.received)
        self.assertEqual(self.send("HEAD", "/bucket/k").header(_KEY_ID), "third")

    def test_rights(self) -> None:
        """
        It takes the right to change it and to write it, to open what is under the old key, and to
        use the new one.
        """
        self.put("k", **_KMS)
        self.put("s3", **{SSE: "AES256"})
        for forbidden, keys in (
            ({("s3:UpdateObjectEncryption", "bucket/k")}, set()),
            ({("s3:PutObject", "bucket/k")}, set()),
            (set(), {("kms:Decrypt", "my-key")}),
            (set(), {("kms:GenerateDataKey", "new-key")}),
        ):
            self.forbidden, self.forbidden_keys = forbidden, keys
            self.not_updated(403, "AccessDenied", kms("arn:aws:kms:new-key"))
        self.forbidden_keys = {("kms:Decrypt", "my-key"), ("kms:GenerateDataKey", "my-key")}
        self.update(kms("new-key"), "/bucket/s3?encryption")
        self.update(wanting("<SSE-S3/>"), "/bucket/s3?encryption")
        self.forbidden_keys = {("kms:Decrypt", "new-key")}
        self.update(kms("new-key"))
        self.not_updated(403, "AccessDenied", wanting("<SSE-S3/>"))
