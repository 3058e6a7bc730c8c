# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Versions with ``mc`` and boto3, against a real server.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.integration.test_clients import ClientCase, boto3_client
from tests.integration.test_everyday import MCCase


class MCVersionsTests(MCCase):
    """
    ``mc`` in a bucket with versions.
    """

    def setUp(self) -> None:
        """
        Enable versioning.
        """
        super().setUp()
        self.mc("version", "enable", self.bucket)

    def state(self) -> str:
        """
        What is told of the versioning.
        """
        (told,) = self.told("version", "info", self.bucket)
        status: str = told["versioning"].get("status", "")
        return status

    def versions(self, key: str = "") -> list[tuple[str, str, bool]]:
        """
        Keys, ids and whether they are delete markers, the newest first.
        """
        found = self.told("ls", "--versions", "-r", f"{self.bucket}/{key}")
        return [(one["key"], one["versionId"], one.get("isDeleteMarker", False)) for one in found]

    def pipe(self, key: str, content: bytes) -> None:
        """
        Store an object.
        """
        self.mc("pipe", f"{self.bucket}/{key}", given=content)

    def test_state(self) -> None:
        """
        Versioning is enabled, suspended and told, with what is excluded.
        """
        self.assertEqual(self.state(), "Enabled")
        self.mc("version", "suspend", self.bucket)
        self.assertEqual(self.state(), "Suspended")
        excluded = ("--excluded-prefixes", "tmp/,jobs/*/x", "--exclude-folders")
        self.mc("version", "enable", *excluded, self.bucket)
        self.assertIn(b"jobs/*/x", self.mc("--json", "version", "info", self.bucket))
        for _ in range(2):
            self.pipe("tmp/k", b"x")
            self.pipe("jobs/1/x/k", b"x")
        self.assertEqual({version_id for _, version_id, _ in self.versions()}, {"null"})

    def test_versions(self) -> None:
        """
        Each version is listed, read and removed by its id.
        """
        for content in (b"one", b"two", b"three"):
            self.pipe("k", content)
        self.mc("rm", f"{self.bucket}/k")
        self.assertEqual(self.keys(), [])
        found = self.versions()
        self.assertEqual([marker for _, _, marker in found], [True, False, False, False])
        contents = [
            self.mc("cat", "--version-id", version_id, f"{self.bucket}/k")
            for _, version_id, _ in found[1:]
        ]
        self.assertEqual(contents, [b"three", b"two", b"one"])
        (told,) = self.told("stat", "--version-id", found[2][1], f"{self.bucket}/k")
        self.assertEqual((told["versionID"], told["size"]), (found[2][1], 3))
        self.mc("rm", "--version-id", found[2][1], f"{self.bucket}/k")
        self.assertEqual(self.versions(), [found[0], found[1], found[3]])
        self.mc("rm", "--version-id", found[0][1], f"{self.bucket}/k")
        self.assertEqual(self.mc("cat", f"{self.bucket}/k"), b"three")
        target = f"{self.bucket}/copy"
        self.mc("cp", "--version-id", found[3][1], f"{self.bucket}/k", target)
        self.assertEqual(self.mc("cat", target), b"one")

    def test_undo(self) -> None:
        """
        The last change of an object, or the last few, can be undone.
        """
        for content in (b"one", b"two"):
            self.pipe("k", content)
        self.mc("rm", f"{self.bucket}/k")
        self.mc("undo", f"{self.bucket}/k")
        self.assertEqual(self.mc("cat", f"{self.bucket}/k"), b"two")
        self.mc("undo", f"{self.bucket}/k")
        self.assertEqual(self.mc("cat", f"{self.bucket}/k"), b"one")
        for content in (b"2", b"3"):
            self.pipe("k", content)
        self.mc("undo", "--last", "2", "--force", f"{self.bucket}/k")
        self.assertEqual(self.mc("cat", f"{self.bucket}/k"), b"one")

    def test_removal(self) -> None:
        """
        All versions can be removed at once, with the bucket or without.
        """
        for key in ("a", "d/b", "d/c"):
            for content in (b"one", b"two"):
                self.pipe(key, content)
        self.mc("rm", f"{self.bucket}/d/c")
        self.mc("rm", "-r", "--force", "--versions", f"{self.bucket}/d/")
        self.assertEqual([key for key, _, _ in self.versions()], ["a", "a"])
        self.mc("rb", self.bucket, fails=True)
        self.mc("rb", "--force", self.bucket)
        self.mc("mb", self.bucket)
        self.assertEqual((self.versions(), self.state()), ([], ""))

    def test_tags(self) -> None:
        """
        Tags are set, told and removed, by version too.
        """
        self.pipe("k", b"one")
        self.pipe("k", b"two")
        (_, newest, _), (_, older, _) = self.versions()
        self.mc("tag", "set", f"{self.bucket}/k", "a=1&b=2")
        self.mc("tag", "set", "--version-id", older, f"{self.bucket}/k", "old=yes")
        (told,) = self.told("tag", "list", f"{self.bucket}/k")
        self.assertEqual(told["tagset"], {"a": "1", "b": "2"})
        (told,) = self.told("tag", "list", "--version-id", older, f"{self.bucket}/k")
        self.assertEqual(told["tagset"], {"old": "yes"})
        self.mc("tag", "remove", f"{self.bucket}/k")
        self.assertIn(b"No tags found", self.mc("tag", "list", f"{self.bucket}/k"))
        self.assertEqual([version_id for _, version_id, _ in self.versions()], [newest, older])


class Boto3VersionsTests(ClientCase):
    """
    boto3 in a bucket with versions, on a server of two processes.
    """

    environment = {**ClientCase.environment, "MINIO_WORKERS": "2"}  # noqa: RUF012

    def setUp(self) -> None:
        """
        Enable versioning.
        """
        super().setUp()
        self.s3: Any = boto3_client(self.server, max_pool_connections=16)
        self.s3.create_bucket(Bucket="bucket")
        enabled = {"Status": "Enabled"}
        self.s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration=enabled)

    def put(self, key: str, body: bytes) -> str:
        """
        Store a version.
        """
        made = self.s3.put_object(
            Bucket="bucket", Key=key, Body=body, ServerSideEncryption="AES256"
        )
        version_id: str = made["VersionId"]
        return version_id

    def listed(self) -> list[tuple[str, str]]:
        """
        Keys with ids, in order of pages of a few.
        """
        pages = self.s3.get_paginator("list_object_versions").paginate(
            Bucket="bucket", PaginationConfig={"PageSize": 3}
        )
        return [(one["Key"], one["VersionId"]) for page in pages for one in page["Versions"]]

    def test_versions(self) -> None:
        """
        Versions, delete markers and tags, from the first write to an empty bucket.
        """
        status = self.s3.get_bucket_versioning(Bucket="bucket")["Status"]
        self.assertEqual(status, "Enabled")
        ids = [self.put("k", body) for body in (b"one", b"two" * 50_000)]
        self.assertEqual(self.listed(), [("k", ids[1]), ("k", ids[0])])
        got = self.s3.get_object(Bucket="bucket", Key="k", VersionId=ids[0])
        self.assertEqual((got["Body"].read(), got["VersionId"]), (b"one", ids[0]))
        tags = {"TagSet": [{"Key": "a", "Value": "1"}]}
        self.s3.put_object_tagging(Bucket="bucket", Key="k", VersionId=ids[0], Tagging=tags)
        told = self.s3.get_object_tagging(Bucket="bucket", Key="k", VersionId=ids[0])
        self.assertEqual((told["TagSet"], told["VersionId"]), (tags["TagSet"], ids[0]))
        source = {"Bucket": "bucket", "Key": "k", "VersionId": ids[0]}
        copied = self.s3.copy_object(Bucket="bucket", Key="k", CopySource=source)
        self.assertEqual(copied["CopySourceVersionId"], ids[0])
        self.assertEqual(self.s3.get_object(Bucket="bucket", Key="k")["Body"].read(), b"one")
        marker = self.s3.delete_object(Bucket="bucket", Key="k")
        self.assertTrue(marker["DeleteMarker"])
        with self.assertRaises(self.s3.exceptions.NoSuchKey):
            self.s3.get_object(Bucket="bucket", Key="k")
        page = self.s3.list_object_versions(Bucket="bucket")
        self.assertEqual(page["DeleteMarkers"][0]["VersionId"], marker["VersionId"])
        every = [*page["Versions"], *page["DeleteMarkers"]]
        entries = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in every]
        removed = self.s3.delete_objects(Bucket="bucket", Delete={"Objects": entries})
        self.assertEqual(len(removed["Deleted"]), 4)
        page = self.s3.list_object_versions(Bucket="bucket")
        self.assertNotIn("Versions", page)
        self.assertNotIn("DeleteMarkers", page)
        self.s3.delete_bucket(Bucket="bucket")

    def test_at_once(self) -> None:
        """
        Of many who write one key at once, through several processes, each makes a version.
        """
        with ThreadPoolExecutor(12) as pool:
            bodies = [b"%d" % number * (1 + number % 3 * 20_000) for number in range(48)]
            made = list(pool.map(lambda body: (self.put("k", body), body), bodies))
        listed = [version_id for _, version_id in self.listed()]
        self.assertEqual(sorted(listed), sorted(version_id for version_id, _ in made))
        for version_id, body in made:
            got = self.s3.get_object(Bucket="bucket", Key="k", VersionId=version_id)
            self.assertEqual(got["Body"].read(), body)
        current = self.s3.head_object(Bucket="bucket", Key="k")["VersionId"]
        self.assertEqual(current, listed[0])

    def test_restarted(self) -> None:
        """
        Versions, and that there are some, survive a restart.
        """
        first = self.put("k", b"one")
        marker = self.s3.delete_object(Bucket="bucket", Key="k")["VersionId"]
        self.server.stop()
        self.server.start()
        self.s3 = boto3_client(self.server)
        second = self.put("k", b"two")
        self.assertEqual(self.listed(), [("k", second), ("k", first)])
        page = self.s3.list_object_versions(Bucket="bucket")
        self.assertEqual([one["VersionId"] for one in page["DeleteMarkers"]], [marker])
        self.assertFalse(page["IsTruncated"])
