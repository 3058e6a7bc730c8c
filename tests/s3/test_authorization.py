# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for who may do what: each operation asks for the right things.
"""

from attrs import evolve

from kypello.auth.request import RequestHead
from kypello.model import Identity
from kypello.s3.root import S3Resource
from kypello.s3.routes import BUCKET, OBJECT, SERVICE, Level, Operation, every_operation
from kypello.testing.harness import Harness
from tests.cases import SyncCase
from tests.s3.front import FrontCase, read_xml, texts
from tests.s3.rules import Rule

_KMS = {"x-amz-server-side-encryption": "aws:kms"}
_DUAL = {"x-amz-server-side-encryption": "aws:kms:dsse"}

#: Operations that ask for each thing that they touch.
_BY_THEMSELVES = {
    "CreateBucket",
    "DeleteObjects",
    "GetObjectInArchive",
    "HeadObjectInArchive",
    "ListBuckets",
}


class RoutingTests(SyncCase):
    """
    The table of operations.
    """

    def test_actions(self) -> None:
        """
        Every operation names what a policy must allow for it, or asks by itself.
        """
        operations = list(every_operation())
        self.assertGreater(len(operations), 60)
        unnamed = {one.name for one in operations if not one.action}
        self.assertEqual(unnamed, _BY_THEMSELVES)
        for one in operations:
            self.assertTrue(not one.action or one.action.startswith("s3:"), one)

    def test_versions(self) -> None:
        """
        To touch a version is another right than to touch what is current.
        """
        for method, subresource, expected in (
            ("GET", "", "s3:GetObjectVersion"),
            ("HEAD", "", "s3:GetObjectVersion"),
            ("DELETE", "", "s3:DeleteObjectVersion"),
            ("GET", "attributes", "s3:GetObjectVersionAttributes"),
            ("GET", "tagging", "s3:GetObjectVersionTagging"),
            ("PUT", "tagging", "s3:PutObjectVersionTagging"),
            ("DELETE", "tagging", "s3:DeleteObjectVersionTagging"),
        ):
            operation = OBJECT.routes[subresource][method]
            head = RequestHead(method, "/b/k", ((subresource, ""), ("versionId", "v")))
            self.assertEqual(operation.action_for(head), expected)
            plain = RequestHead(method, "/b/k", ((subresource, ""),))
            self.assertEqual(operation.action_for(plain), expected.replace("Version", ""))

    def test_levels(self) -> None:
        """
        What is listed is what is served.
        """
        names = {operation.name for operation in every_operation()}
        for level in (SERVICE, BUCKET, OBJECT):
            self.assertLessEqual(self.names(level), names)

    def names(self, level: Level) -> set[str]:
        """
        The names of the operations of a level.
        """
        found: list[Operation] = []
        for methods in level.routes.values():
            found.extend(methods.values())
        return {operation.name for operation in found}


class AuthorizationCase(FrontCase):
    """
    A test with a rule of its own.
    """

    def setUp(self) -> None:
        """
        Let everybody do everything but what the test forbids.
        """
        super().setUp()
        self.forbidden: set[tuple[str, str]] = set()
        self.forbidden_keys: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        front = evolve(
            self.front, authorizer=Rule(self.rule, self.key_rule), default_key=self.kms.default_key
        )
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)

    def rule(self, identity: Identity | None, action: str, resource: str) -> bool:
        """
        Decide by what is forbidden.
        """
        self.asked.append((action, resource))
        return not {(action, resource), (action, "*")} & self.forbidden

    def key_rule(self, identity: Identity | None, action: str, name: str) -> bool:
        """
        Decide about a master key.
        """
        self.asked.append((action, name))
        return (action, name) not in self.forbidden_keys


class ExistenceTests(AuthorizationCase):
    """
    Who learns what there is.
    """

    def test_absent_key(self) -> None:
        """
        That a key does not exist is for those who may list; others are just refused.
        """
        self.refused("GET", "/bucket/absent", 404, "NoSuchKey")
        self.forbidden.add(("s3:ListBucket", "bucket"))
        self.refused("GET", "/bucket/absent", 403, "AccessDenied")
        self.send("HEAD", "/bucket/absent", status=403)
        self.refused("GET", "/bucket/absent?tagging", 403, "AccessDenied")
        headers = {"x-amz-copy-source": "bucket/absent"}
        self.refused("PUT", "/bucket/k", 403, "AccessDenied", headers=headers)

    def test_forbidden_key(self) -> None:
        """
        Who may not read learns nothing, listing or not.
        """
        self.put("k")
        self.forbidden.add(("s3:GetObject", "*"))
        for key in ("k", "absent"):
            self.refused("GET", f"/bucket/{key}", 403, "AccessDenied")

    def test_absent_bucket(self) -> None:
        """
        Names of buckets are no secret: one that does not exist is told so.
        """
        self.forbidden.add(("s3:ListBucket", "*"))
        self.refused("GET", "/bucket", 403, "AccessDenied")
        self.refused("GET", "/absent", 404, "NoSuchBucket")
        self.send("HEAD", "/absent", status=404)
        self.send("HEAD", "/bucket", status=403)
        self.forbidden.add(("s3:CreateBucket", "*"))
        self.refused("PUT", "/absent", 403, "AccessDenied")


class BucketListTests(AuthorizationCase):
    """
    The list of buckets.
    """

    def names(self) -> list[str]:
        """
        Those that are listed.
        """
        return texts(read_xml(self.send("GET", "/", status=200)), "Buckets/Bucket/Name")

    def test_part(self) -> None:
        """
        Who may not list all buckets sees those that they may look into.
        """
        for name in ("other", "third"):
            self.send("PUT", f"/{name}", status=200)
        self.assertEqual(self.names(), ["bucket", "other", "third"])
        self.forbidden.update({("s3:ListAllMyBuckets", ""), ("s3:ListBucket", "bucket")})
        self.assertEqual(self.names(), ["bucket", "other", "third"])
        self.forbidden.update({("s3:GetBucketLocation", "bucket"), ("s3:ListBucket", "other")})
        self.assertEqual(self.names(), ["other", "third"])
        self.forbidden.update({("s3:ListBucket", "*"), ("s3:GetBucketLocation", "*")})
        self.refused("GET", "/", 403, "AccessDenied")


class CopyTests(AuthorizationCase):
    """
    Copies touch two objects.
    """

    def test_source(self) -> None:
        """
        The source is read with the rights of who copies it, also for a part, and also from
        another bucket.
        """
        self.send("PUT", "/other", status=200)
        self.send("PUT", "/other/s", b"content", status=200)
        copy = {"x-amz-copy-source": "other/s"}
        self.send("PUT", "/bucket/k", headers=copy, status=200)
        upload = read_xml(self.send("POST", "/bucket/k?uploads")).findtext("UploadId")
        part = f"/bucket/k?partNumber=1&uploadId={upload}"
        self.send("PUT", part, headers=copy, status=200)
        self.forbidden.add(("s3:GetObject", "other/s"))
        self.refused("PUT", "/bucket/k", 403, "AccessDenied", headers=copy)
        self.refused("PUT", part, 403, "AccessDenied", headers=copy)

    def test_each_deletion(self) -> None:
        """
        Of several objects those are removed that may be.
        """
        for key in ("a", "b"):
            self.put(key)
        self.forbidden.add(("s3:DeleteObject", "bucket/a"))
        body = b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>"
        tree = read_xml(self.send("POST", "/bucket?delete", body, status=200))
        self.assertEqual(texts(tree, "Deleted/Key"), ["b"])
        self.assertEqual(texts(tree, "Error/Key"), ["a"])
        self.assertEqual(texts(tree, "Error/Code"), ["AccessDenied"])


class VersionTests(AuthorizationCase):
    """
    Versions are other things than what is current.
    """

    def setUp(self) -> None:
        """
        Store two versions.
        """
        super().setUp()
        body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.send("PUT", "/bucket?versioning", body, status=200)
        self.first = self.put("k", x_amz_tagging="a=1").header("x-amz-version-id")
        self.put("k")

    def test_named(self) -> None:
        """
        Who may use the current version only may name none, not even the current one.
        """
        for method, query, action in (
            ("GET", "", "s3:GetObjectVersion"),
            ("HEAD", "", "s3:GetObjectVersion"),
            ("GET", "tagging&", "s3:GetObjectVersionTagging"),
            ("PUT", "tagging&", "s3:PutObjectVersionTagging"),
            ("DELETE", "tagging&", "s3:DeleteObjectVersionTagging"),
            ("DELETE", "", "s3:DeleteObjectVersion"),
        ):
            self.forbidden = {(action, "bucket/k")}
            for version_id in (self.first, "null"):
                target = f"/bucket/k?{query}versionId={version_id}"
                self.send(method, target, b"", status=403)
        self.forbidden = {("s3:ListBucketVersions", "bucket")}
        self.refused("GET", "/bucket?versions", 403, "AccessDenied")
        self.send("GET", "/bucket", status=200)

    def test_source(self) -> None:
        """
        A copy of a version needs the right to read that, and its tags.
        """
        headers = {"x-amz-copy-source": f"bucket/k?versionId={self.first}"}
        for action in ("s3:GetObjectVersion", "s3:GetObjectVersionTagging"):
            self.forbidden = {(action, "bucket/k")}
            self.refused("PUT", "/bucket/copy", 403, "AccessDenied", headers=headers)
        self.forbidden = {("s3:GetObject", "bucket/k"), ("s3:GetObjectTagging", "bucket/k")}
        self.send("PUT", "/bucket/copy", headers=headers, status=200)

    def test_deletion(self) -> None:
        """
        Each version of a list needs another right than an object that is only hidden.
        """
        entry = f"<Object><Key>k</Key><VersionId>{self.first}</VersionId></Object>"
        body = f"<Delete><Object><Key>k</Key></Object>{entry}</Delete>".encode()
        self.forbidden = {("s3:DeleteObjectVersion", "bucket/k")}
        tree = read_xml(self.send("POST", "/bucket?delete", body, status=200))
        self.assertEqual(texts(tree, "Error/VersionId"), [self.first])
        self.assertEqual(len(texts(tree, "Deleted/DeleteMarker")), 1)
        self.forbidden = {("s3:DeleteObject", "bucket/k")}
        tree = read_xml(self.send("POST", "/bucket?delete", body, status=200))
        self.assertEqual(texts(tree, "Deleted/VersionId"), [self.first])

    def test_hidden(self) -> None:
        """
        Who may not list is not told of delete markers, nor that there is no such version.
        """
        self.send("DELETE", "/bucket/k", status=204)
        self.forbidden = {("s3:ListBucket", "bucket")}
        answer = self.send("GET", "/bucket/k", status=403)
        self.assertIsNone(answer.header("x-amz-delete-marker"))
        self.refused("GET", f"/bucket/k?versionId={'0' * 32}", 403, "AccessDenied")


class KeyTests(AuthorizationCase):
    """
    Who may have master keys used.
    """

    def test_writes(self) -> None:
        """
        To write under a master key takes the right to have data keys made, wherever the key is
        named: by the request or by the bucket.
        """
        default, named = (
            ("kms:GenerateDataKey", self.kms.default_key),
            ("kms:GenerateDataKey", "named"),
        )
        self.forbidden_keys.update({default, named})
        arn = "arn:aws:kms:us-east-1:1:key/named"
        for headers in (
            _KMS,
            {**_KMS, "x-amz-server-side-encryption-aws-kms-key-id": "named"},
            {**_KMS, "x-amz-server-side-encryption-aws-kms-key-id": arn},
            _DUAL,
            {**_DUAL, "x-amz-server-side-encryption-aws-kms-key-id": "named"},
            {**_DUAL, "x-amz-server-side-encryption-aws-kms-key-id": arn},
        ):
            for method, target in (("PUT", "/bucket/k"), ("POST", "/bucket/k?uploads")):
                self.refused(method, target, 403, "AccessDenied", headers=headers)
        self.put("k")
        for algorithm in ("aws:kms", "aws:kms:dsse"):
            configuration = (
                "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
                f"<SSEAlgorithm>{algorithm}</SSEAlgorithm></ApplyServerSideEncryptionByDefault>"
                "</Rule></ServerSideEncryptionConfiguration>"
            )
            self.send("PUT", "/bucket?encryption", configuration.encode(), status=200)
            self.refused("PUT", "/bucket/k", 403, "AccessDenied", body=b"x")
        self.assertEqual(self.send("GET", "/bucket/k").body, b"content")
        self.forbidden_keys.clear()
        self.put("k")

    def test_parts(self) -> None:
        """
        Parts are written under the key that the upload began with.
        """
        for headers in (_KMS, _DUAL):
            self.forbidden_keys.clear()
            upload = read_xml(self.send("POST", "/bucket/k?uploads", headers=headers))
            target = f"/bucket/k?partNumber=1&uploadId={upload.findtext('UploadId')}"
            self.send("PUT", target, b"x", status=200)
            self.forbidden_keys.add(("kms:GenerateDataKey", self.kms.default_key))
            self.refused("PUT", target, 403, "AccessDenied", body=b"x")

    def test_reads(self) -> None:
        """
        To read, or to copy, takes the right to have data keys opened; to look does not.
        """
        for headers in (_KMS, _DUAL):
            self.forbidden_keys.clear()
            self.send("PUT", "/bucket/k", b"content", headers=headers, status=200)
            self.assertEqual(self.send("GET", "/bucket/k", status=200).body, b"content")
            self.forbidden_keys.add(("kms:Decrypt", self.kms.default_key))
            self.refused("GET", "/bucket/k", 403, "AccessDenied")
            copy = {"x-amz-copy-source": "bucket/k"}
            self.refused("PUT", "/bucket/c", 403, "AccessDenied", headers=copy)
            self.send("HEAD", "/bucket/k", status=200)

    def test_others(self) -> None:
        """
        What is encrypted for the server's own sake asks for no right.
        """
        self.forbidden_keys.update(
            {("kms:GenerateDataKey", self.kms.default_key), ("kms:Decrypt", self.kms.default_key)}
        )
        headers = {"x-amz-server-side-encryption": "AES256"}
        self.send("PUT", "/bucket/k", b"content", headers=headers, status=200)
        self.assertEqual(self.send("GET", "/bucket/k", status=200).body, b"content")
