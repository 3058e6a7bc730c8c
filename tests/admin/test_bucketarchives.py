# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for how buckets are set up by an archive: ``kypello.admin.bucketarchives`` and
``kypello.s3.bucketdocuments``.
"""

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from zipfile import ZipFile

from attrs import evolve

from kypello.admin.root import AdminResource
from kypello.archive import pack
from kypello.s3.bucketdocuments import BucketDocuments
from kypello.s3.call import Front
from kypello.testing.harness import Harness
from tests.admin.front import ROOT, AdminCase, Signer, policy

_VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
_LOCK = (
    b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>"
    b"<DefaultRetention><Mode>GOVERNANCE</Mode><Days>5</Days></DefaultRetention></Rule>"
    b"</ObjectLockConfiguration>"
)
_TAGS = b"<Tagging><TagSet><Tag><Key>team</Key><Value>a</Value></Tag></TagSet></Tagging>"
_LIFECYCLE = (
    b"<LifecycleConfiguration><Rule><ID>old</ID><Status>Enabled</Status><Filter><Prefix>tmp/"
    b"</Prefix></Filter><Expiration><Days>5</Days></Expiration></Rule>"
    b"<ExpiryUpdatedAt>2026-11-27T03:38:19.766660769Z</ExpiryUpdatedAt></LifecycleConfiguration>"
)
_CORS = (
    b"<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*"
    b"</AllowedOrigin></CORSRule></CORSConfiguration>"
)
_ENCRYPTION = (
    b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
    b"<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
    b"</ServerSideEncryptionConfiguration>"
)
_BLOCK = (
    b"<PublicAccessBlockConfiguration><BlockPublicPolicy>true</BlockPublicPolicy>"
    b"</PublicAccessBlockConfiguration>"
)
_NOTIFICATION = (
    b"<NotificationConfiguration><QueueConfiguration><Queue>arn:minio:sqs::1:webhook</Queue>"
    b"<Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>"
)
_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": ["*"]},
                "Action": ["s3:GetObject"],
                "Resource": ["arn:aws:s3:::photos/*"],
            }
        ],
    }
).encode()
_QUOTA = {"quota": 1 << 30, "size": 0, "rate": 0, "requests": 0, "quotatype": "hard"}

_ALL = {
    "photos/policy.json": _POLICY,
    "photos/notification.xml": b"<NotificationConfiguration></NotificationConfiguration>",
    "photos/lifecycle.xml": _LIFECYCLE,
    "photos/cors.xml": _CORS,
    "photos/bucket-encryption.xml": _ENCRYPTION,
    "photos/tagging.xml": _TAGS,
    "photos/quota.json": json.dumps(_QUOTA).encode(),
    "photos/object-lock.xml": _LOCK,
    "photos/versioning.xml": _VERSIONING,
    "photos/public-access-block.xml": _BLOCK,
    "photos/bucket-targets.json": b"<BucketTargets></BucketTargets>",
}


class BucketArchiveTests(AdminCase):
    """
    Buckets come and go with all that is set of them.
    """

    def setUp(self) -> None:
        """
        S3 is there, too.
        """
        super().setUp()
        self.s3 = Front(
            store=self.store,
            authenticator=self.front.authenticator,
            authorizer=self.accounts,
            lanes=self.front.lanes,
            region=None,
            clock=self.clock,
            encrypts=True,
        )
        self.front = evolve(self.front, documents=BucketDocuments(self.s3))
        self.harness = Harness(AdminResource(self.front), access_log=False)

    def bring(
        self, files: Mapping[str, bytes], target: str = "", *, by: Signer = ROOT
    ) -> dict[str, Any]:
        """
        Import files, and give what became of each bucket.
        """
        answer = self.send("PUT", f"import-bucket-metadata?bucket={target}", pack(files), by=by)
        told: dict[str, Any] = json.loads(answer.body)["buckets"]
        return told

    def exported(self, target: str = "", *, by: Signer = ROOT) -> dict[str, bytes]:
        """
        Export, and give the files.
        """
        answer = self.send("GET", f"export-bucket-metadata?bucket={target}", by=by)
        self.assertEqual(answer.header("Content-Type"), "application/zip")
        with ZipFile(BytesIO(answer.body)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def settings(self, bucket: str) -> Mapping[str, bytes]:
        """
        What is set of a bucket.
        """
        found: Mapping[str, bytes] = self.done(self.store.bucket(bucket)).settings
        return found

    def test_there_and_back(self) -> None:
        """
        What one server exports sets up the same buckets on another one, in whatever order.
        """
        told = self.bring(_ALL)
        self.assertEqual(
            told,
            {
                "photos": {
                    name: {"isSet": True}
                    for name in (
                        "versioning",
                        "olock",
                        "sse",
                        "tagging",
                        "cors",
                        "lifecycle",
                        "notification",
                        "policy",
                        "publicAccessBlock",
                        "quota",
                    )
                }
            },
        )
        files, settings = self.exported(), self.settings("photos")
        empty = {"photos/notification.xml", "photos/bucket-targets.json"}
        self.assertEqual(files.keys(), _ALL.keys() - empty)
        self.assertEqual(json.loads(files["photos/quota.json"])["quota"], 1 << 30)
        self.assertEqual(files["photos/policy.json"], _POLICY)
        self.done(self.store.delete_bucket("photos"))
        self.assertNotIn("error", self.bring(files)["photos"])
        self.assertEqual(self.settings("photos"), settings)
        self.assertEqual(self.exported(), files)

    def test_one_bucket(self) -> None:
        """
        A bucket may be named, both ways; what is empty is exported as nothing.
        """
        self.done(self.store.create_bucket("plain", {}))
        both = {"one/tagging.xml": _TAGS, "two/tagging.xml": _TAGS}
        self.assertEqual(self.bring(both, "two"), {"two": {"tagging": {"isSet": True}}})
        self.bring(both)
        self.assertEqual(self.exported("one").keys(), {"one/tagging.xml"})
        self.assertEqual(self.exported().keys(), both.keys())
        self.assertEqual(self.exported("plain"), {})
        self.refused(
            self.send("GET", "export-bucket-metadata?bucket=none", status=404), "NoSuchBucket"
        )

    def test_failures(self) -> None:
        """
        What cannot be set is told, and keeps nothing else from it.
        """
        told = self.bring(
            {
                "photos/tagging.xml": _TAGS,
                "photos/lifecycle.xml": b"<junk/>",
                "photos/notification.xml": _NOTIFICATION,
                "photos/replication.xml": b"<ReplicationConfiguration/>",
                "photos/quota.json": b'{"quota": 5, "quotatype": "fifo"}',
                "photos/other.txt": b"",
                "Not_A_Name/tagging.xml": _TAGS,
            }
        )
        self.assertEqual(told["Not_A_Name"], {"error": "The specified bucket is not valid."})
        photos = told["photos"]
        self.assertEqual(photos["tagging"], {"isSet": True})
        for name, text in (
            ("lifecycle", "not well-formed"),
            ("notification", "ARN"),
            ("replication", "not replicated"),
            ("quota", "hard quotas only"),
            ("other", "no such setting"),
        ):
            self.assertIn(text, photos[name]["error"])
            self.assertIn(photos[name]["error"], photos["error"])
        self.assertEqual(self.settings("photos").keys(), {"tags"})

    def test_malformed(self) -> None:
        """
        Something that is no archive of buckets sets nothing.
        """
        for content, text in (
            (b"junk", "it is not a zip archive"),
            (pack({"tagging.xml": _TAGS}), "tagging.xml is about no bucket"),
            (pack({"a-bucket/x/y": b""}), "a-bucket/x/y is about no bucket"),
        ):
            answer = self.send("PUT", "import-bucket-metadata", content, status=400)
            self.assertIn(text, self.refused(answer, "InvalidRequest"))
        self.assertEqual(self.done(self.store.buckets()), [])

    def test_rights(self) -> None:
        """
        Who may import sets nothing that they may not set, nor sees what they may not see.
        """
        who = self.make_user(
            "who",
            policy("admin:ImportBucketMetadata", "admin:ExportBucketMetadata"),
            policy("s3:CreateBucket", "s3:PutBucketTagging", "s3:GetBucketTagging"),
        )
        files = {name: _ALL[name] for name in _ALL if name != "photos/bucket-targets.json"}
        told = self.bring(files, by=who)["photos"]
        self.assertEqual(told.pop("tagging"), {"isSet": True})
        self.assertEqual(self.settings("photos").keys(), {"tags"})
        told.pop("error")
        for name, status in told.items():
            self.assertIn("Access Denied", status["error"], name)
        self.refused(self.send("GET", "export-bucket-metadata", by=who, status=403), "AccessDenied")
        other = self.make_user("other", policy("s3:*"))
        for method, route in (("GET", "export"), ("PUT", "import")):
            answer = self.send(method, f"{route}-bucket-metadata", by=other, status=403)
            self.refused(answer, "AccessDenied")
