# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Object lock with ``mc`` and boto3, against a real server.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.integration.test_clients import ClientCase, boto3_client
from tests.integration.test_everyday import MCCase


class MCLockTests(MCCase):
    """
    ``mc`` in a bucket with object lock.
    """

    bucket = "k/locked"

    def setUp(self) -> None:
        """
        Make the bucket anew, with object lock.
        """
        super().setUp()
        self.mc("rb", self.bucket)
        self.mc("mb", "--with-lock", self.bucket)

    def pipe(self, key: str, content: bytes = b"content") -> None:
        """
        Store an object.
        """
        self.mc("pipe", f"{self.bucket}/{key}", given=content)

    def versions(self) -> list[str]:
        """
        The ids of all versions, the newest first.
        """
        return [one["versionId"] for one in self.told("ls", "--versions", "-r", self.bucket)]

    def test_default(self) -> None:
        """
        The default retention of a bucket is set, told and cleared, and objects get it.
        """
        (told,) = self.told("retention", "info", "--default", self.bucket)
        self.assertEqual(told["enabled"], "Enabled")
        self.mc("retention", "set", "--default", "governance", "3d", self.bucket)
        (told,) = self.told("retention", "info", "--default", self.bucket)
        self.assertEqual((told["mode"], told["validity"]), ("GOVERNANCE", "3DAYS"))
        self.pipe("k")
        (told,) = self.told("retention", "info", f"{self.bucket}/k")
        self.assertEqual(told["mode"], "GOVERNANCE")
        self.mc("retention", "clear", "--default", self.bucket)
        self.pipe("other")
        self.assertNotIn(
            b"GOVERNANCE", self.mc("--json", "retention", "info", f"{self.bucket}/other")
        )
        self.mc("version", "suspend", self.bucket, fails=True)

    def test_retention(self) -> None:
        """
        The retention of an object is set, made longer and told; it keeps the version, and nothing
        but the bypass makes it shorter.
        """
        target = f"{self.bucket}/k"
        self.pipe("k")
        self.mc("retention", "set", "governance", "2d", target)
        self.mc("retention", "set", "governance", "3d", target)
        self.mc("retention", "set", "governance", "1d", target, fails=True)
        self.mc("retention", "set", "--bypass", "governance", "1d", target)
        self.mc("retention", "clear", target)
        told = self.mc("--json", "retention", "info", target)
        self.assertNotIn(b"GOVERNANCE", told)
        self.mc("retention", "set", "governance", "1d", target)
        (told,) = self.told("stat", target)
        self.assertIn("GOVERNANCE", json.dumps(told))
        (version_id,) = self.versions()
        self.mc("rm", "--version-id", version_id, target, fails=True)
        self.assertEqual(self.versions(), [version_id])
        self.mc("rm", "--bypass", "--version-id", version_id, target)
        self.assertEqual(self.versions(), [])

    def test_compliance(self) -> None:
        """
        A version in the mode ``COMPLIANCE`` is kept whatever is tried, and so is its bucket.
        """
        target = f"{self.bucket}/k"
        self.pipe("k")
        self.mc("retention", "set", "compliance", "1d", target)
        (version_id,) = self.versions()
        self.mc("retention", "set", "--bypass", "governance", "2d", target, fails=True)
        self.mc("retention", "clear", target, fails=True)
        self.mc("rm", "--bypass", "--version-id", version_id, target, fails=True)
        self.mc("rm", "-r", "--force", "--versions", "--bypass", self.bucket, fails=True)
        self.mc("rb", self.bucket, fails=True)
        self.mc("rb", "--force", self.bucket, fails=True)
        self.assertIn(version_id, self.versions())
        content = self.mc("cat", "--version-id", version_id, target)
        self.assertEqual(content, b"content")

    def test_legal_hold(self) -> None:
        """
        A hold is set, told and lifted, and keeps the version while it is on.
        """
        target = f"{self.bucket}/k"
        self.pipe("k")
        self.mc("legalhold", "set", target)
        (told,) = self.told("legalhold", "info", target)
        self.assertEqual(told["legalhold"], "ON")
        (version_id,) = self.versions()
        self.mc("rm", "--bypass", "--version-id", version_id, target, fails=True)
        self.mc("legalhold", "clear", target)
        (told,) = self.told("legalhold", "info", target)
        self.assertEqual(told["legalhold"], "OFF")
        self.mc("rm", "--version-id", version_id, target)
        self.assertEqual(self.versions(), [])

    def test_copied_with_lock(self) -> None:
        """
        ``mc cp`` stores with a retention and a hold, small objects and those in parts.
        """
        small, large = self.work / "small", self.work / "large"
        small.write_bytes(b"small")
        large.write_bytes(b"large" * 8_000_000)
        options = ("--retention-mode", "compliance", "--retention-duration", "1d")
        for path in (small, large):
            target = f"{self.bucket}/{path.name}"
            self.mc("cp", *options, "--legal-hold", "on", path, target)
            (told,) = self.told("retention", "info", target)
            self.assertEqual(told["mode"], "COMPLIANCE")
            (told,) = self.told("legalhold", "info", target)
            self.assertEqual(told["legalhold"], "ON")


class Boto3LockTests(ClientCase):
    """
    boto3 in a bucket with object lock, on a server of two processes.
    """

    environment = {**ClientCase.environment, "MINIO_WORKERS": "2"}  # noqa: RUF012

    def setUp(self) -> None:
        """
        Make the bucket.
        """
        super().setUp()
        self.s3: Any = boto3_client(self.server, max_pool_connections=16)
        self.s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        self.until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)

    def put(self, **arguments: Any) -> str:
        """
        Store a version of ``k``, and give its id.
        """
        made = self.s3.put_object(Bucket="locked", Key="k", Body=b"data", **arguments)
        version_id: str = made["VersionId"]
        return version_id

    def refused(self, code: str, call: Any, **arguments: Any) -> None:
        """
        Make a call that must be refused.
        """
        with self.assertRaises(self.s3.exceptions.ClientError) as caught:
            call(Bucket="locked", **arguments)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)

    def test_bucket(self) -> None:
        """
        The lock of a bucket is told and set; without one that is told by its code.
        """
        told = self.s3.get_object_lock_configuration(Bucket="locked")
        self.assertEqual(told["ObjectLockConfiguration"], {"ObjectLockEnabled": "Enabled"})
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 1}}
        wanted = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        self.s3.put_object_lock_configuration(Bucket="locked", ObjectLockConfiguration=wanted)
        told = self.s3.get_object_lock_configuration(Bucket="locked")
        self.assertEqual(told["ObjectLockConfiguration"], wanted)
        head = self.s3.head_object(Bucket="locked", Key="k", VersionId=self.put())
        self.assertEqual(head["ObjectLockMode"], "COMPLIANCE")
        self.assertGreater(head["ObjectLockRetainUntilDate"], self.until + timedelta(days=360))
        self.s3.create_bucket(Bucket="other")
        with self.assertRaises(self.s3.exceptions.ClientError) as caught:
            self.s3.get_object_lock_configuration(Bucket="other")
        code = caught.exception.response["Error"]["Code"]
        self.assertEqual(code, "ObjectLockConfigurationNotFoundError")
        suspended = {"Status": "Suspended"}
        call = self.s3.put_bucket_versioning
        self.refused("InvalidBucketState", call, VersioningConfiguration=suspended)

    def test_object(self) -> None:
        """
        Retention and hold are set with an object or later, told, and keep it.
        """
        version_id = self.put(ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=self.until)
        named = {"Key": "k", "VersionId": version_id}
        told = self.s3.get_object_retention(Bucket="locked", **named)["Retention"]
        self.assertEqual(told, {"Mode": "GOVERNANCE", "RetainUntilDate": self.until})
        self.refused("AccessDenied", self.s3.delete_object, **named)
        shorter = {"Mode": "GOVERNANCE", "RetainUntilDate": self.until - timedelta(hours=1)}
        self.refused("AccessDenied", self.s3.put_object_retention, Retention=shorter, **named)
        self.s3.put_object_retention(
            Bucket="locked", Retention=shorter, BypassGovernanceRetention=True, **named
        )
        self.refused("NoSuchObjectLockConfiguration", self.s3.get_object_legal_hold, **named)
        self.s3.put_object_legal_hold(Bucket="locked", LegalHold={"Status": "ON"}, **named)
        told = self.s3.get_object_legal_hold(Bucket="locked", **named)["LegalHold"]
        self.assertEqual(told, {"Status": "ON"})
        head = self.s3.head_object(Bucket="locked", **named)
        self.assertEqual(head["ObjectLockLegalHoldStatus"], "ON")
        entries = {"Objects": [named]}
        removed = self.s3.delete_objects(
            Bucket="locked", Delete=entries, BypassGovernanceRetention=True
        )
        self.assertEqual([each["Code"] for each in removed["Errors"]], ["AccessDenied"])
        self.s3.put_object_legal_hold(Bucket="locked", LegalHold={"Status": "OFF"}, **named)
        removed = self.s3.delete_objects(
            Bucket="locked", Delete=entries, BypassGovernanceRetention=True
        )
        self.assertEqual([each["VersionId"] for each in removed["Deleted"]], [version_id])

    def test_survives(self) -> None:
        """
        What is locked stays so when the server is killed and starts again.
        """
        version_id = self.put(ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=self.until)
        named = {"Key": "k", "VersionId": version_id}
        self.s3.put_object_legal_hold(Bucket="locked", LegalHold={"Status": "ON"}, **named)
        self.server.kill()
        self.server.start()
        self.s3 = boto3_client(self.server)
        head = self.s3.head_object(Bucket="locked", **named)
        self.assertEqual(
            (head["ObjectLockRetainUntilDate"], head["ObjectLockLegalHoldStatus"]),
            (self.until, "ON"),
        )
        self.refused("AccessDenied", self.s3.delete_object, **named)

    def test_at_once(self) -> None:
        """
        Of a hold and a removal that come at once to both processes, one wins: what a client was
        told is held is there.
        """
        found = self.s3.exceptions.ClientError

        def held(version_id: str) -> bool:
            """
            Put a hold on a version, if it is there.
            """
            try:
                self.s3.put_object_legal_hold(
                    Bucket="locked", Key="k", VersionId=version_id, LegalHold={"Status": "ON"}
                )
            except found as error:
                self.assertEqual(error.response["Error"]["Code"], "NoSuchVersion")
                return False
            return True

        def removed(version_id: str) -> bool:
            """
            Remove a version, if it is not held.
            """
            try:
                self.s3.delete_object(Bucket="locked", Key="k", VersionId=version_id)
            except found as error:
                self.assertEqual(error.response["Error"]["Code"], "AccessDenied")
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            for number in range(20):
                ids = [self.put() for _ in range(4)]
                calls = (held, removed) if number % 2 else (removed, held)
                first, second = (
                    [pool.submit(call, version_id) for version_id in ids] for call in calls
                )
                results = [[each.result() for each in group] for group in (first, second)]
                holds = results[0] if number % 2 else results[1]
                removals = results[1] if number % 2 else results[0]
                page = self.s3.list_object_versions(Bucket="locked")
                left = {one["VersionId"] for one in page.get("Versions", [])}
                for version_id, was_held, was_removed in zip(ids, holds, removals, strict=True):
                    self.assertEqual(was_held, not was_removed)
                    self.assertEqual(version_id in left, was_held)
                self.lift(left)

    def lift(self, version_ids: set[str]) -> None:
        """
        Lift the holds of versions, and remove them.
        """
        for version_id in version_ids:
            named = {"Bucket": "locked", "Key": "k", "VersionId": version_id}
            self.s3.put_object_legal_hold(LegalHold={"Status": "OFF"}, **named)
            self.s3.delete_object(**named)
