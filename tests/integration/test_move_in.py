# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Accounts of a real MinIO move in, and ours move there: the same clients with the same keys may do
the same afterwards, and are refused the same.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.iam.archives import EMBEDDED, TEAM
from tests.integration.minio import OLD_ROOT, OLD_SECRET, MinIOProcess
from tests.integration.server import ACCESS_KEY, SECRET_KEY, base_environment
from tests.integration.test_everyday import MCCase

_BUCKET = "projects"
_DENIED: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]},
        {
            "Effect": "Deny",
            "Action": ["s3:DeleteObject", "s3:PutObject"],
            "Resource": ["arn:aws:s3:::projects/keep/*"],
        },
    ],
}

#: Secret keys by access key: of users, then of service accounts.
_USERS = {
    "alice": "alice-secret-1",
    "bob": "bob-secret-12",
    "carol": "carol-secret",
    "dave": "dave-secret-1",
}
_KEYS = {
    "ALICEKEY000000000001": "alicekeysecretalicekeysecretalicekeysecr",
    "BOBKEY0000000000001": "bobkeysecretbobkeysecret",
    "ROOTKEY0000000000001": "rootkeysecretrootkeysecret",
}
_WRONG = "a-wrong-secret"
_CLIENTS = (*_USERS.items(), *_KEYS.items(), ("alice", _WRONG))

#: What each of them tries, in this order.
_CALLS: Mapping[str, Callable[[Any], object]] = {
    "buckets": lambda s3: [each["Name"] for each in s3.list_buckets()["Buckets"]],
    "list": lambda s3: s3.list_objects_v2(Bucket=_BUCKET)["KeyCount"],
    "get": lambda s3: s3.get_object(Bucket=_BUCKET, Key="alice/a")["Body"].read(),
    "get kept": lambda s3: s3.get_object(Bucket=_BUCKET, Key="keep/k")["Body"].read(),
    "get other": lambda s3: s3.get_object(Bucket="other", Key="o")["Body"].read(),
    "put": lambda s3: s3.put_object(Bucket=_BUCKET, Key="alice/a", Body=b"a").get("Error"),
    "put bob": lambda s3: s3.put_object(Bucket=_BUCKET, Key="bob/b", Body=b"b").get("Error"),
    "put kept": lambda s3: s3.put_object(Bucket=_BUCKET, Key="keep/k", Body=b"k").get("Error"),
    "delete": lambda s3: s3.delete_object(Bucket="other", Key="none").get("Error"),
    "delete kept": lambda s3: s3.delete_object(Bucket=_BUCKET, Key="keep/none").get("Error"),
    "policy": lambda s3: s3.get_bucket_policy(Bucket=_BUCKET),
}


def outcomes(endpoint: str) -> dict[tuple[str, str, str], object]:
    """
    What becomes of all calls of all clients.
    """
    found = {}
    for access_key, secret_key in _CLIENTS:
        s3 = client(endpoint, access_key, secret_key)
        for name, call in _CALLS.items():
            try:
                outcome = call(s3)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                # MinIO looks at the rights of who puts before it looks at the signature.
                outcome = "refused" if secret_key == _WRONG else code
            found[access_key, secret_key, name] = outcome
    return found


def client(endpoint: str, access_key: str, secret_key: str) -> Any:
    """
    A client of S3 that tries once.
    """
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def set_up(s3: Any) -> dict[tuple[str, str], Any]:
    """
    How the buckets of a server are set up.
    """
    found = {}
    for bucket in (_BUCKET, "locked"):
        for name, asked, element in (
            ("versioning", s3.get_bucket_versioning, "Status"),
            ("lock", s3.get_object_lock_configuration, "ObjectLockConfiguration"),
            ("tags", s3.get_bucket_tagging, "TagSet"),
            ("lifecycle", s3.get_bucket_lifecycle_configuration, "Rules"),
            ("policy", s3.get_bucket_policy, "Policy"),
        ):
            try:
                told = asked(Bucket=bucket).get(element)
            except ClientError as error:
                told = error.response["Error"]["Code"]
            if name == "tags" and isinstance(told, list):
                told = sorted(told, key=str)
            if name == "policy" and told.startswith("{"):
                told = json.loads(told, object_hook=_in_order)
            found[bucket, name] = told
    return found


def _in_order(element: dict[str, Any]) -> dict[str, Any]:
    # MinIO writes down actions, resources and principals in another order each time.
    return {
        name: sorted(told) if isinstance(told, list) and name != "Statement" else told
        for name, told in element.items()
    }


class MoveCase(MCCase):
    """
    A test with Kypello as ``k`` and MinIO as ``old``, both with the same objects.
    """

    def setUp(self) -> None:
        """
        Start both, and fill them.
        """
        super().setUp()
        self.minio = MinIOProcess((self.work / "minio").absolute())
        self.addCleanup(self.minio.stop)
        self.minio.start()
        self.mc("alias", "set", "old", self.minio.endpoint, OLD_ROOT, OLD_SECRET)
        self.mc("rb", self.bucket)
        for endpoint, access_key, secret_key in (
            (self.server.endpoint, ACCESS_KEY, SECRET_KEY),
            (self.minio.endpoint, OLD_ROOT, OLD_SECRET),
        ):
            s3 = client(endpoint, access_key, secret_key)
            for bucket, keys in ((_BUCKET, ("alice/a", "bob/b", "keep/k")), ("other", ("o",))):
                s3.create_bucket(Bucket=bucket)
                for key in keys:
                    s3.put_object(Bucket=bucket, Key=key, Body=key[-1:].encode())

    def command(self, *arguments: str | Path, code: int = 0, given: str = "") -> str:
        """
        Run ``kypello`` for the server of the test, and give what it printed.

        :param given: What it reads.
        """
        settings = {
            "KYPELLO_ENDPOINT": self.server.endpoint,
            "KYPELLO_ROOT_USER": ACCESS_KEY,
            "KYPELLO_ROOT_PASSWORD": SECRET_KEY,
        }
        done = subprocess.run(
            [sys.executable, "-m", "kypello.cli", *arguments],
            env={**base_environment(), **settings},
            cwd=self.work,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def details(self, *arguments: str | Path, code: int = 0) -> dict[str, set[str]]:
        """
        What an import did: the names of things by what became of them.
        """
        [line] = self.command("iam", "import", "--json", *arguments, code=code).splitlines()
        found: dict[str, set[str]] = {}
        for one in json.loads(line)["details"]:
            found.setdefault(one["outcome"], set()).add(f"{one['kind']} {one['name']}")
        return found

    def document(self, name: str, content: Mapping[str, Any]) -> str:
        """
        A file with a policy.
        """
        (self.work / name).write_text(json.dumps(content))
        return name


class MoveInTests(MoveCase):
    """
    From MinIO.
    """

    def make_accounts(self) -> None:
        """
        Make accounts of all kinds with ``mc``, as their owners did.
        """
        for user, secret in _USERS.items():
            self.mc("admin", "user", "add", "old", user, secret)
        for name, content in (("team", TEAM), ("careful", _DENIED)):
            self.mc("admin", "policy", "create", "old", name, self.document(name, content))
        self.mc("admin", "group", "add", "old", "staff", "alice", "bob")
        self.mc("admin", "group", "add", "old", "gone", "dave")
        self.mc("admin", "policy", "attach", "old", "team", "--group", "staff")
        self.mc("admin", "policy", "attach", "old", "readwrite", "--group", "gone")
        self.mc("admin", "group", "disable", "old", "gone")
        self.mc("admin", "policy", "attach", "old", "careful", "readonly", "--user", "bob")
        self.mc("admin", "policy", "attach", "old", "readwrite", "--user", "carol")
        self.mc("admin", "user", "disable", "old", "carol")
        limit = self.document("limit", EMBEDDED)
        for key, options in (
            ("ALICEKEY000000000001", ("alice", "--name", "laptop")),
            ("BOBKEY0000000000001", ("bob", "--policy", limit, "--expiry-duration", "240h")),
            ("ROOTKEY0000000000001", ()),
        ):
            pair = ("--access-key", key, "--secret-key", _KEYS[key])
            self.mc("admin", "accesskey", "create", "old", *options, *pair)

    def test_moved(self) -> None:
        """
        A dry run tells what would come; then all of it is here, and every client meets what it
        met there.
        """
        self.make_accounts()
        expected = outcomes(self.minio.endpoint)
        # They differ, or nothing would be shown.
        self.assertEqual(expected["alice", _USERS["alice"], "get"], b"a")
        self.assertEqual(expected["alice", _USERS["alice"], "get other"], "AccessDenied")
        self.assertEqual(expected["bob", _USERS["bob"], "put kept"], "AccessDenied")
        self.assertEqual(
            {outcome for each, outcome in expected.items() if each[1] == _WRONG}, {"refused"}
        )
        self.mc("admin", "cluster", "iam", "export", "old")
        archive = "old-iam-info.zip"
        found = self.details("--dry-run", archive, code=1)
        self.assertEqual(found["left-out"], {"key ROOTKEY0000000000001"})
        self.assertEqual(self.command("user", "ls", "--json"), "")
        added = found["added"]
        found = self.details("--old-root", OLD_ROOT, archive)
        self.assertEqual(found["added"], added | {"key ROOTKEY0000000000001"})
        self.assertNotIn("failed", found)
        self.assertEqual(outcomes(self.server.endpoint), expected)
        self.assertEqual(self.details("--old-root", OLD_ROOT, archive).keys(), {"unchanged"})

    def test_original_client(self) -> None:
        """
        ``mc`` imports, too, and tells what failed.
        """
        self.make_accounts()
        self.mc("admin", "cluster", "iam", "export", "old")
        printed = self.mc("admin", "cluster", "iam", "import", "k", "old-iam-info.zip").decode()
        self.assertIn("Added users: alice, bob, carol, dave", printed)
        self.assertIn("Skipped service accounts: ROOTKEY0000000000001", printed)
        users = self.told("admin", "user", "list", "k")
        self.assertEqual(
            {one["accessKey"]: one["userStatus"] for one in users},
            {name: "disabled" if name == "carol" else "enabled" for name in _USERS},
        )

    def test_buckets(self) -> None:
        """
        How buckets are set up comes over, and goes there and back.
        """
        old, new = (
            client(endpoint, *credentials)
            for endpoint, *credentials in (
                (self.minio.endpoint, OLD_ROOT, OLD_SECRET),
                (self.server.endpoint, ACCESS_KEY, SECRET_KEY),
            )
        )
        self.mc("mb", "--with-lock", "old/locked")
        self.mc("retention", "set", "--default", "governance", "5d", "old/locked")
        self.mc("version", "enable", f"old/{_BUCKET}")
        self.mc("tag", "set", f"old/{_BUCKET}", "team=a&place=b")
        self.mc("quota", "set", f"old/{_BUCKET}", "--size", "1GiB")
        self.mc("ilm", "rule", "add", f"old/{_BUCKET}", "--expire-days", "5", "--prefix", "tmp/")
        self.mc("ilm", "rule", "add", f"old/{_BUCKET}", "--noncurrent-expire-days", "3")
        self.mc("anonymous", "set", "download", f"old/{_BUCKET}")
        expected = set_up(old)
        self.assertEqual(expected["locked", "lock"]["Rule"]["DefaultRetention"]["Days"], 5)
        self.mc("admin", "cluster", "bucket", "export", "old")
        printed = self.mc("admin", "cluster", "bucket", "import", "k", "old-bucket-metadata.zip")
        self.assertIn(b"3/3 buckets were imported", printed)
        self.assertEqual(set_up(new), expected)
        self.assertIn(b"1.0 GiB", self.mc("quota", "info", f"k/{_BUCKET}"))
        self.mc("admin", "cluster", "bucket", "export", "k")
        for bucket in (_BUCKET, "locked"):
            self.mc("rb", "--force", f"old/{bucket}")
        printed = self.mc("admin", "cluster", "bucket", "import", "old", "k-bucket-metadata.zip")
        self.assertIn(b"2/2 buckets were imported", printed)
        self.assertEqual(set_up(old), expected)


class MoveOutTests(MoveCase):
    """
    To MinIO.
    """

    def test_moved(self) -> None:
        """
        MinIO takes what we export, and every client meets there what it met here.
        """
        for user, secret in _USERS.items():
            self.command("user", "add", user, "--secret-file", "-", given=secret)
        for name, content in (("team", TEAM), ("careful", _DENIED)):
            self.command("policy", "create", name, self.document(name, content))
        self.command("group", "add", "staff", "alice", "bob")
        self.command("policy", "attach", "team", "--group", "staff")
        self.command("policy", "attach", "careful", "readonly", "--user", "bob")
        self.command("policy", "attach", "readwrite", "--user", "carol")
        self.command("user", "disable", "carol")
        limit = self.document("limit", EMBEDDED)
        for key, options in (
            ("ALICEKEY000000000001", ("--user", "alice", "--name", "laptop")),
            ("BOBKEY0000000000001", ("--user", "bob", "--policy", limit)),
            ("ROOTKEY0000000000001", ()),
        ):
            secret = ("--access-key", key, "--secret-file", "-")
            self.command("key", "create", *options, *secret, given=_KEYS[key])
        expected = outcomes(self.server.endpoint)
        self.assertEqual(expected["bob", _USERS["bob"], "put kept"], "AccessDenied")
        self.command("iam", "export", "accounts.zip")
        self.assertEqual((self.work / "accounts.zip").stat().st_mode & 0o777, 0o600)
        self.mc("admin", "cluster", "iam", "import", "old", "accounts.zip")
        found = outcomes(self.minio.endpoint)
        # There, nobody is the root user of here.
        unknown = {each for each in expected if each[0] == "ROOTKEY0000000000001"}
        self.assertEqual(
            {each: found[each] for each in found.keys() - unknown},
            {each: expected[each] for each in expected.keys() - unknown},
        )
