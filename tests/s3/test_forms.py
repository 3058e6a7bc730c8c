# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.forms``, over the wire, with forms that botocore signs.
"""

import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import md5
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree.ElementTree import fromstring

from attrs import evolve
from botocore.auth import HmacV1PostAuth, S3SigV4PostAuth
from botocore.awsrequest import AWSRequest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from kypello.interfaces import IBodySource, IObjectStore
from kypello.model import ObjectInfo
from kypello.s3.root import S3Resource
from kypello.testing.harness import Answer, Harness, RawClient
from tests.s3.front import CREDENTIALS, FrontCase, at, signed
from tests.s3.rules import Rule
from tests.s3.secure import SecureCase, customer
from tests.s3.test_formdata import BOUNDARY, form, part

_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"

Fields = Mapping[str, str]


def sign(fields: Fields, conditions: Sequence[object], *, version: int = 4, life: int = 600) -> Any:
    """
    The fields of a form with a signed policy.

    :param version: Of the signature.
    :param life: How long the policy is good, in seconds.
    """
    request = AWSRequest("POST", "http://kypello.test/bucket")
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + life))
    request.context["s3-presign-post-fields"] = dict(fields)
    request.context["s3-presign-post-policy"] = {
        "expiration": expiration,
        "conditions": list(conditions),
    }
    if version == 4:
        S3SigV4PostAuth(CREDENTIALS, "s3", "us-east-1").add_auth(request)
    else:
        HmacV1PostAuth(CREDENTIALS).add_auth(request)
    return request.context["s3-presign-post-fields"]


def exactly(fields: Fields) -> list[object]:
    """
    Conditions that fields have just these values.
    """
    return [{name: value} for name, value in fields.items()]


class FormCase(FrontCase):
    """
    A test that sends forms.
    """

    def post(
        self,
        fields: Fields,
        content: bytes = b"content",
        filename: str | None = "name.txt",
        *,
        headers: Sequence[tuple[str, str]] = (),
        target: str = "/bucket",
    ) -> Answer:
        """
        Send a form.
        """
        parts = [part(name, value.encode()) for name, value in fields.items()]
        body = form(*parts, part("file", content, filename))
        return self.plainly("POST", target, [("Content-Type", _TYPE), *headers], body)

    def upload(
        self,
        fields: Fields,
        content: bytes = b"content",
        *,
        version: int = 4,
        status: int = 204,
        more: Sequence[object] = (),
    ) -> Answer:
        """
        Send a form whose policy wants just these fields.
        """
        signed_fields = sign(fields, [*exactly(fields), *more], version=version)
        answer = self.post(signed_fields, content)
        self.assertEqual(answer.status, status, answer.body)
        return answer

    def deny(self, answer: Answer, detail: str) -> None:
        """
        See that the policy forbids something.
        """
        tree = self.assert_refused(answer, 403, "AccessDenied")
        self.assertEqual(
            tree.findtext("Message"), f"Invalid according to Policy: {detail}", answer.body
        )

    def assert_nothing(self) -> None:
        """
        See that nothing was stored.
        """
        self.assertNotIn(b"<Contents>", self.send("GET", "/bucket", status=200).body)


class UploadTests(FormCase):
    """
    Forms that store something.
    """

    def test_both_versions(self) -> None:
        """
        Forms signed with either version store their file.
        """
        for version in (2, 4):
            for content in (b"", b"content", b"\r\n--" * 300_000):
                key = f"k{version}"
                answer = self.upload({"key": key}, content, version=version)
                etag = f'"{md5(content).hexdigest()}"'
                self.assertEqual(answer.header("ETag"), etag)
                self.assertEqual(answer.body, b"")
                self.assertEqual(answer.header("Location"), f"http://kypello.test/bucket/{key}")
                got = self.send("GET", f"/bucket/{key}", status=200)
                self.assertEqual((got.body, got.header("ETag")), (content, etag))

    def test_fields_as_headers(self) -> None:
        """
        Fields are what headers are to a PUT; the type is that of the field, not of the part.
        """
        fields = {
            "key": "k",
            "acl": "public-read",
            "Content-Type": "image/x-test",
            "Cache-Control": "no-store",
            "Content-Disposition": 'attachment; filename="é"',
            "Content-Encoding": "gzip",
            "Content-Language": "de",
            "Expires": "never",
            "x-amz-meta-Colour": "blue",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-server-side-encryption": "AES256",
            "x-amz-website-redirect-location": "/other",
            "Content-MD5": b64encode(md5(b"content").digest()).decode(),
        }
        answer = self.upload(fields)
        self.assertEqual(answer.header("x-amz-server-side-encryption"), "AES256")
        head = self.send("HEAD", "/bucket/k", status=200)
        for name, value in fields.items():
            if name not in ("key", "acl", "Content-MD5"):
                self.assertEqual(head.header(name), value, name)

    def test_defaults(self) -> None:
        """
        A form without a type stores none, whatever the part of the file says.
        """
        self.upload({"key": "k"})
        head = self.send("HEAD", "/bucket/k", status=200)
        self.assertEqual(head.header("Content-Type"), "binary/octet-stream")

    def test_checksum(self) -> None:
        """
        A checksum is verified, kept and told.
        """
        fields = {"key": "k", "x-amz-checksum-crc32": "DUoRhQ=="}
        answer = self.upload(fields, b"hello world")
        self.assertEqual(answer.header("x-amz-checksum-crc32"), "DUoRhQ==")
        refused = self.upload({**fields, "key": "other"}, b"other", status=400)
        self.assert_refused(refused, 400, "BadDigest")
        self.send("GET", "/bucket/other", status=404)

    def test_filename(self) -> None:
        """
        ``${filename}`` stands for the last part of the name of the file, before the policy is
        asked.
        """
        fields = sign({"key": "up/${filename}"}, [["starts-with", "$key", "up/"]])
        for filename, key in (
            ("name.txt", "up/name.txt"),
            (r"C:\dir\name 2.txt", "up/name 2.txt"),
            ("/home/me/n3", "up/n3"),
            ("é", "up/é"),
        ):
            self.assertEqual(self.post(fields, filename=filename).status, 204)
            self.send("HEAD", at("bucket", key), status=200)
        chosen = sign({"key": "${filename}"}, [["eq", "$key", "good"]])
        self.assertEqual(self.post(chosen, filename="good").status, 204)
        self.assertEqual(self.post(chosen, filename="bad").status, 403)

    def test_tags(self) -> None:
        """
        A field holds the tags as a document.
        """
        tagging = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1</Value></Tag></TagSet></Tagging>"
        self.upload({"key": "k", "tagging": tagging})
        shown = self.send("GET", "/bucket/k?tagging", status=200)
        self.assertIn(b"<Tag><Key>a b</Key><Value>1</Value></Tag>", shown.body)
        answer = self.upload({"key": "k2", "tagging": "<Tagging/>"}, status=400)
        self.assert_refused(answer, 400, "MalformedXML")

    def test_status(self) -> None:
        """
        The form chooses between three answers.
        """
        for stated, status in (("200", 200), ("201", 201), ("204", 204), ("404", 204), ("", 204)):
            fields = {"key": "dir/a b&c", "success_action_status": stated}
            answer = self.upload(fields, status=status)
            self.assertEqual(answer.header("Location"), "http://kypello.test/bucket/dir/a%20b%26c")
            if status != 201:
                self.assertEqual(answer.body, b"")
                continue
            self.assertEqual(answer.header("Content-Type"), "application/xml")
            tree = fromstring(answer.body)
            self.assertEqual(tree.tag, "PostResponse")
            self.assertEqual(
                {element.tag: element.text for element in tree},
                {
                    "Location": "http://kypello.test/bucket/dir/a%20b%26c",
                    "Bucket": "bucket",
                    "Key": "dir/a b&c",
                    "ETag": f'"{md5(b"content").hexdigest()}"',
                },
            )

    def test_redirect(self) -> None:
        """
        A page that the form names is told what was stored; it counts more than the status.
        """
        for name in ("success_action_redirect", "redirect"):
            fields = {
                "key": "a b/é",
                name: "https://x.test/p?q=1#f",
                "success_action_status": "201",
            }
            answer = self.upload(fields, status=303)
            parts = urlsplit(answer.header("Location") or "")
            self.assertEqual((parts.netloc, parts.path, parts.fragment), ("x.test", "/p", "f"))
            self.assertEqual(
                parse_qs(parts.query),
                {
                    "q": ["1"],
                    "bucket": ["bucket"],
                    "key": ["a b/é"],
                    "etag": [f'"{md5(b"content").hexdigest()}"'],
                },
            )

    def test_bad_redirect(self) -> None:
        """
        What is no page of the web is ignored.
        """
        for page in (
            "javascript:alert(1)",
            "/relative",
            "http://",
            "http://x/\r\nA: b",
            "http://[x",
        ):
            self.upload({"key": "k", "success_action_redirect": page})

    def test_ignored(self) -> None:
        """
        Fields that mean nothing need no condition, and those after the file do not count.
        """
        fields = sign({"key": "k"}, [{"key": "k"}])
        parts = [part(name, value.encode()) for name, value in fields.items()]
        body = form(
            *parts, part("x-ignore-this", b"?"), part("file", b"x"), part("x-amz-meta-a", b"b")
        )
        answer = self.plainly("POST", "/bucket", [("Content-Type", _TYPE)], body)
        self.assertEqual(answer.status, 204, answer.body)
        self.assertIsNone(self.send("HEAD", "/bucket/k").header("x-amz-meta-a"))

    def test_trailing_slash(self) -> None:
        """
        The path of the bucket may end in a slash.
        """
        self.assertEqual(
            self.post(sign({"key": "k"}, [{"key": "k"}]), target="/bucket/").status, 204
        )

    def test_virtual_host(self) -> None:
        """
        The host may name the bucket.
        """
        self.serve(domains=("s3.test",))
        fields = sign({"key": "k"}, [{"key": "k"}, {"bucket": "bucket"}])
        answer = self.post(fields, headers=[("Host", "bucket.s3.test")], target="/")
        self.assertEqual(answer.status, 204, answer.body)
        self.assertEqual(answer.header("Location"), "http://bucket.s3.test/k")

    def test_key_of_the_kms(self) -> None:
        """
        A form may ask for a key of the KMS; the answer says so.
        """
        fields = {"key": "k", "x-amz-server-side-encryption": "aws:kms"}
        answer = self.upload(fields)
        self.assertEqual(answer.header("x-amz-server-side-encryption"), "aws:kms")
        got = self.send("GET", "/bucket/k", status=200)
        self.assertEqual((got.body, got.header("ETag")), (b"content", answer.header("ETag")))

    def test_storage_class(self) -> None:
        """
        The label of the storage class is kept, if it is one that is accepted.
        """
        self.serve(storage_classes=frozenset({"ONEZONE_IA"}))
        self.upload({"key": "k", "x-amz-storage-class": "ONEZONE_IA"})
        head = self.send("HEAD", "/bucket/k", status=200)
        self.assertEqual(head.header("x-amz-storage-class"), "ONEZONE_IA")

    def test_large(self) -> None:
        """
        A large file passes without being held.
        """
        content = bytes(range(256)) * 16 * 1024
        self.upload({"key": "k"}, content)
        got = self.send("GET", "/bucket/k", status=200)
        self.assertEqual(got.body, content)
        part_of = self.send("GET", "/bucket/k", headers={"Range": "bytes=1000-1999"}, status=206)
        self.assertEqual(part_of.body, content[1000:2000])


class SignatureTests(FormCase):
    """
    Who may send a form.
    """

    def test_anonymous(self) -> None:
        """
        A form that nobody signed is anonymous, and so refused.
        """
        self.assert_refused(self.post({"key": "k"}), 403, "AccessDenied")
        self.assert_nothing()

    def test_forged(self) -> None:
        """
        Policy, key and signature belong together.
        """
        for version, signature in ((4, "x-amz-signature"), (2, "signature")):
            fields = sign({"key": "k"}, [{"key": "k"}], version=version)
            other = sign({"key": "k"}, [["starts-with", "$key", ""]], version=version)
            for changed in (
                {**fields, signature: "0" * 64},
                {**fields, "policy": other["policy"]},
                {**fields, signature: other[signature]},
            ):
                self.assert_refused(self.post(changed), 403, "SignatureDoesNotMatch")
            name = "x-amz-credential" if version == 4 else "AWSAccessKeyId"
            unknown = {**fields, name: fields[name].replace("root-user", "nobody")}
            self.assert_refused(self.post(unknown), 403, "InvalidAccessKeyId")
        self.assert_nothing()

    def test_incomplete(self) -> None:
        """
        Each field of a signature is needed.
        """
        for version in (4, 2):
            fields = sign({"key": "k"}, [{"key": "k"}], version=version)
            for name in fields.keys() - {"key"}:
                missing = {other: value for other, value in fields.items() if other != name}
                tree = self.assert_refused(self.post(missing), 400, "InvalidArgument")
                shown = (tree.findtext("Message") or "").lower()
                self.assertIn(f"must contain a field named '{name.lower()}'", shown)
        for change in (
            {"x-amz-algorithm": "AWS4-HMAC-SHA1"},
            {"x-amz-date": "today"},
            {"x-amz-date": "20200101T000000Z"},
            {"x-amz-credential": "root-user"},
            {"x-amz-credential": "root-user/20200101/us-east-1/ec2/aws4_request"},
            {"AWSAccessKeyId": "root-user"},
        ):
            answer = self.post({**sign({"key": "k"}, [{"key": "k"}]), **change})
            self.assert_refused(answer, 400, "InvalidArgument")

    def test_token(self) -> None:
        """
        A session token belongs to nobody here.
        """
        fields = {"key": "k", "x-amz-security-token": "token"}
        self.assert_refused(self.upload(fields, status=400), 400, "InvalidToken")

    def test_two_ways(self) -> None:
        """
        A form that is signed by its headers, too, is signed twice.
        """
        fields = sign({"key": "k"}, [{"key": "k"}])
        parts = [part(name, value.encode()) for name, value in fields.items()]
        body = form(*parts, part("file", b"x"))
        lines = signed("POST", "/bucket", {"Content-Type": _TYPE}, body)
        answer = self.plainly("POST", "/bucket", lines, body)
        self.assert_refused(answer, 400, "InvalidArgument")
        self.assert_nothing()

    def test_version_2_off(self) -> None:
        """
        Version 2 can be turned off.
        """
        self.serve(signature_v2=False)
        self.assert_refused(self.upload({"key": "k"}, version=2, status=400), 400, "InvalidRequest")
        self.upload({"key": "k"})

    def test_refused_early(self) -> None:
        """
        Who may not upload need not send all of the file.
        """
        fields = sign({"key": "k"}, [{"key": "k"}], life=-1)
        head = b"".join(part(name, value.encode()) for name, value in fields.items())
        client = self.harness.connect()
        client.send(
            b"POST /bucket HTTP/1.1\r\nHost: kypello.test\r\nContent-Length: %d\r\n"
            b"Content-Type: %b\r\n\r\n" % (10**9, _TYPE.encode())
        )
        client.send(head + part("file", b"x" * 2_000_000)[:-2])
        answer = client.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 403 "), answer)
        self.assertIn(b"Policy expired", answer)

    def test_not_allowed(self) -> None:
        """
        Who signed must be allowed to put the object.
        """
        forbidden = ["s3:PutObjectTagging"]
        asked = []

        def authorize(identity: object, action: str, resource: str) -> bool:
            asked.append((action, resource))
            return action not in forbidden

        self.harness = Harness(
            S3Resource(evolve(self.front, authorizer=Rule(authorize)), self.health.probe),
            access_log=False,
        )
        tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value/></Tag></TagSet></Tagging>"
        self.upload({"key": "a b"})
        self.upload({"key": "a b", "tagging": tagging}, status=403)
        forbidden.append("s3:PutObject")
        self.upload({"key": "a b"}, status=403)
        put = ("s3:PutObject", "bucket/a b")
        self.assertEqual(asked, [put, put, ("s3:PutObjectTagging", put[1]), put])


class PolicyTests(FormCase):
    """
    What a policy allows.
    """

    def test_expired(self) -> None:
        """
        A policy has an end.
        """
        answer = self.post(sign({"key": "k"}, [{"key": "k"}], life=-1))
        self.deny(answer, "Policy expired.")
        self.assert_nothing()

    def test_conditions(self) -> None:
        """
        Each condition must hold, and a field that it names must be there.
        """
        fields = {"key": "k", "Content-Type": "image/png", "x-amz-meta-a": "One"}
        for condition, shown in (
            ({"key": "x"}, '["eq", "$key", "x"]'),
            (["eq", "$KEY", "K"], '["eq", "$key", "K"]'),
            (["starts-with", "$key", "x"], '["starts-with", "$key", "x"]'),
            ({"bucket": "other"}, '["eq", "$bucket", "other"]'),
            (
                ["starts-with", "$Content-Type", "text/"],
                '["starts-with", "$content-type", "text/"]',
            ),
            ({"x-amz-meta-a": "one"}, '["eq", "$x-amz-meta-a", "one"]'),
            ({"acl": "private"}, '["eq", "$acl", "private"]'),
        ):
            answer = self.post(sign(fields, [*exactly(fields), condition]))
            self.deny(answer, f"Policy Condition failed: {shown}")
        for condition in (
            {"BUCKET": "bucket"},
            ["EQ", "$Key", "k"],
            ["Starts-With", "$key", ""],
            ["starts-with", "$content-type", "image/"],
        ):
            self.upload(fields, more=[condition])

    def test_extra_fields(self) -> None:
        """
        A field that no condition names is refused, whatever it is.
        """
        for name in ("acl", "x-amz-meta-a", "success_action_redirect", "anything", "tagging"):
            answer = self.post(sign({"key": "k", name: "v"}, [{"key": "k"}]))
            self.deny(answer, f"Extra input fields: {name}")
        self.deny(self.post(sign({"key": "k"}, [])), "Extra input fields: key")
        self.assert_nothing()

    def test_sizes(self) -> None:
        """
        The size of the file may be bounded on both sides, bounds included.
        """
        sizes = ["content-length-range", 3, "5"]
        for size in (3, 5):
            self.upload({"key": f"k{size}"}, b"x" * size, more=[sizes])
        for size, code in (
            (2, "EntityTooSmall"),
            (6, "EntityTooLarge"),
            (200_000, "EntityTooLarge"),
        ):
            answer = self.upload({"key": "bad"}, b"x" * size, more=[sizes], status=400)
            self.assert_refused(answer, 400, code)
        self.send("GET", "/bucket/bad", status=404)
        nothing = ["content-length-range", 0, 0]
        self.upload({"key": "empty"}, b"", more=[nothing])
        self.upload({"key": "bad"}, b"x", more=[nothing], status=400)

    def test_limit(self) -> None:
        """
        No policy allows more than the server does.
        """
        self.serve(max_object=10)
        more = ["content-length-range", 0, 100]
        answer = self.upload({"key": "k"}, b"x" * 11, more=[more], status=400)
        self.assert_refused(answer, 400, "EntityTooLarge")
        self.upload({"key": "k"}, b"x" * 10)

    def test_no_policy(self) -> None:
        """
        What is signed must be a policy.
        """
        fields = sign({"key": "k"}, ["nonsense"])
        self.assert_refused(self.post(fields), 400, "InvalidPolicyDocument")


class RefusedTests(FormCase):
    """
    Forms that cannot be taken.
    """

    def test_public_list(self) -> None:
        """
        A form that asks for a public list is refused where the bucket blocks these.
        """
        block = (
            '<PublicAccessBlockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            "<BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>"
        )
        self.send("PUT", "/bucket?publicAccessBlock", block.encode(), status=200)
        for name in ("acl", "x-amz-acl"):
            fields = {"key": "k", name: "public-read"}
            self.upload(fields, status=403)
        self.assert_nothing()
        self.upload({"key": "k", "acl": "private"})

    def test_kind(self) -> None:
        """
        A POST to a bucket is a form, or a list of objects to delete.
        """
        for kind in ("application/x-www-form-urlencoded", "multipart/mixed; boundary=x", ""):
            answer = self.plainly("POST", "/bucket", [("Content-Type", kind)], b"x")
            self.assert_refused(answer, 412, "PreconditionFailed")
        answer = self.plainly("POST", "/bucket", [("Content-Type", "multipart/form-data")], b"x")
        self.assert_refused(answer, 400, "MalformedPOSTRequest")

    def test_broken(self) -> None:
        """
        What is broken off stores nothing, wherever that is.
        """
        fields = sign({"key": "k"}, [{"key": "k"}])
        whole = form(
            *(part(name, value.encode()) for name, value in fields.items()),
            part("file", b"content" * 10),
        )
        for stop in (0, 10, 500, len(whole) - 60, len(whole) - 6):
            answer = self.plainly("POST", "/bucket", [("Content-Type", _TYPE)], whole[:stop])
            self.assert_refused(answer, 400, "MalformedPOSTRequest")
        self.assert_nothing()

    def test_two_files(self) -> None:
        """
        A second file is one too many.
        """
        fields = sign({"key": "k"}, [{"key": "k"}])
        whole = form(
            *(part(name, value.encode()) for name, value in fields.items()),
            part("file", b"content"),
            part("file", b"content"),
        )
        answer = self.plainly("POST", "/bucket", [("Content-Type", _TYPE)], whole)
        self.assert_refused(answer, 400, "InvalidArgument")
        self.assert_nothing()

    def test_key(self) -> None:
        """
        The key is needed, and must be one.
        """
        self.assert_refused(self.post(sign({}, [])), 400, "InvalidArgument")
        for key, code in (
            ("", "InvalidArgument"),
            ("x" * 1025, "KeyTooLongError"),
            ("../x", "InvalidURI"),
            ("a\0b", "InvalidURI"),
        ):
            self.assert_refused(self.upload({"key": key}, status=400), 400, code)

    def test_bucket(self) -> None:
        """
        The bucket must exist.
        """
        fields = sign({"key": "k"}, [{"key": "k"}])
        answer = self.post(fields, target="/absent")
        self.assert_refused(answer, 404, "NoSuchBucket")

    def test_fields(self) -> None:
        """
        Fields that would be lost, or could be no header, are refused.
        """
        for name, value, status, code in (
            ("x-amz-copy-source", "bucket/other", 400, "InvalidArgument"),
            ("x-amz-tagging", "a=b", 400, "InvalidArgument"),
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD", 400, "InvalidArgument"),
            ("x-minio-fanout-list", "[]", 400, "InvalidArgument"),
            ("x-minio-internal-x", "1", 400, "InvalidArgument"),
            ("x-amz-meta-a", "a\r\nb: c", 400, "InvalidArgument"),
            ("x-amz-meta-a b", "c", 400, "InvalidArgument"),
            ("Content-Type", "a\0b", 400, "InvalidArgument"),
            ("x-amz-storage-class", "GLACIER", 400, "InvalidStorageClass"),
            ("x-amz-object-lock-mode", "GOVERNANCE", 400, "InvalidRequest"),
            ("x-amz-server-side-encryption", "AES128", 400, "InvalidArgument"),
            ("x-amz-meta-a", "x" * 2049, 400, "MetadataTooLarge"),
            ("Content-MD5", "short", 400, "InvalidDigest"),
            ("Content-MD5", b64encode(bytes(16)).decode(), 400, "BadDigest"),
            ("x-amz-checksum-crc32", "AAAAAA", 400, "BadDigest"),
        ):
            answer = self.upload({"key": "k", name: value}, status=status)
            self.assert_refused(answer, status, code)
        self.assert_nothing()

    def test_customer_key(self) -> None:
        """
        Nobody's key goes over the wire in clear.
        """
        key = b"k" * 32
        fields = {
            "key": "k",
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
            "x-amz-server-side-encryption-customer-key": b64encode(key).decode(),
            "x-amz-server-side-encryption-customer-key-MD5": b64encode(md5(key).digest()).decode(),
        }
        tree = self.assert_refused(self.upload(fields, status=400), 400, "InvalidRequest")
        self.assertIn("secure connection", tree.findtext("Message") or "")
        self.assert_nothing()

    def test_length(self) -> None:
        """
        How long a form is must be known.
        """
        client = self.harness.connect()
        client.send(
            b"POST /bucket HTTP/1.1\r\nHost: kypello.test\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: %b\r\n\r\n0\r\n\r\n" % _TYPE.encode()
        )
        self.assertIn(b"<Code>MissingContentLength</Code>", client.take())

    def test_too_large(self) -> None:
        """
        Fields have a limit.
        """
        fields = {"key": "k", **{f"x-amz-meta-{n}": "x" * 1000 for n in range(21)}}
        answer = self.upload(fields, status=400)
        self.assert_refused(answer, 400, "MaxPostPreDataLengthExceeded")


class SecureTests(SecureCase, FormCase):
    """
    Forms over TLS.
    """

    def test_customer_key(self) -> None:
        """
        A form may bring a key along, which reading needs again.
        """
        answer = self.upload({"key": "k", **customer()})
        name = "x-amz-server-side-encryption-customer-algorithm"
        self.assertEqual(answer.header(name), "AES256")
        self.assertTrue((answer.header("Location") or "").startswith("https://"))
        got = self.send("GET", "/bucket/k", headers=customer(), status=200)
        self.assertEqual(got.body, b"content")
        self.refused("GET", "/bucket/k", 400, "InvalidRequest")

    def test_blocked(self) -> None:
        """
        A bucket that takes no such objects takes none from forms.
        """
        body = (
            b"<ServerSideEncryptionConfiguration><Rule><BlockedEncryptionTypes>"
            b"<EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes></Rule>"
            b"</ServerSideEncryptionConfiguration>"
        )
        self.send("PUT", "/bucket?encryption", body, status=200)
        answer = self.upload({"key": "k", **customer()}, status=403)
        self.assert_refused(answer, 403, "AccessDenied")
        self.assert_nothing()


class _StuckStore:
    """
    A store that takes one block of an object, and then waits.

    :ivar taken: How many bytes it has taken.
    :ivar waiting: Who waits.
    """

    def __init__(self, store: IObjectStore) -> None:
        """
        Do the rest as *store*.
        """
        self._store = store
        self.taken = 0
        self.waiting: Deferred[None] = Deferred()

    def __getattr__(self, name: str) -> Any:
        """
        Be the other store.
        """
        return getattr(self._store, name)

    async def put(self, bucket: str, key: str, body: IBodySource, *rest: Any) -> ObjectInfo:
        """
        Begin.
        """
        self.taken += len(await body.read())
        await self.waiting
        info = await self._store.put(bucket, key, body, *rest)
        assert isinstance(info, ObjectInfo)
        return info


class StreamTests(FormCase):
    """
    The file on its way.
    """

    def begin(self, size: int) -> RawClient:
        """
        Send all of a form but its end.

        :param size: Of the file.
        """
        fields = sign({"key": "k"}, [{"key": "k"}])
        start = b"".join(part(name, value.encode()) for name, value in fields.items())
        start += part("file", b"")[:-2]
        self.end = b"\r\n--%b--\r\n" % BOUNDARY
        client = self.harness.connect()
        client.send(
            b"POST /bucket HTTP/1.1\r\nHost: kypello.test\r\nContent-Length: %d\r\n"
            b"Content-Type: %b\r\n\r\n" % (len(start) + size + len(self.end), _TYPE.encode())
        )
        client.send(start)
        client.send(b"x" * size)
        return client

    def test_pressure(self) -> None:
        """
        While the store is busy the client has to wait: little of the file is held.
        """
        store = _StuckStore(self.store)
        front = evolve(self.front, store=store)
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)
        size = 30_000_000
        client = self.begin(size)
        self.assertGreater(store.taken, 0)
        self.assertGreater(client.transport.waiting, size - 6_000_000)
        client.send(self.end)
        store.waiting.callback(None)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 204 "))

    def test_gone(self) -> None:
        """
        A client that goes away leaves nothing behind.
        """
        client = self.begin(3_000_000)
        client.go_away()
        self.assert_nothing()
        client = self.begin(3_000_000)
        client.send(self.end)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 204 "))
        self.send("HEAD", "/bucket/k", status=200)


class AnyFormTests(FormCase):
    """
    Whatever else is sent.
    """

    @given(
        st.lists(
            st.sampled_from(
                [
                    part("key", b"k"),
                    part("key", b""),
                    part("policy", b"e30="),
                    part("policy", b"\xe9"),
                    part("x-amz-signature", b"0"),
                    part("x-amz-algorithm", b"AWS4-HMAC-SHA256"),
                    part("x-amz-date", b"20200101T000000Z"),
                    part("x-amz-credential", b"root-user/20200101/r/s3/aws4_request"),
                    part("awsaccesskeyid", b"root-user"),
                    part("signature", b"0"),
                    part("file", b"content", "${filename}"),
                    b"--" + BOUNDARY + b"\r\n\r\n",
                    b"\r\n",
                    b"\0",
                ]
            ),
            max_size=10,
        )
    )
    @settings(deadline=None, max_examples=50)
    def test_no_internal_error(self, pieces: list[bytes]) -> None:
        """
        Nothing that a client sends is an error of the server, or stored without a signature.
        """
        lines = [("Content-Type", _TYPE)]
        answer = self.plainly("POST", "/bucket", lines, form(*pieces))
        self.assertIn(answer.status, (400, 403), answer.body)
