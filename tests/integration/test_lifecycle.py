# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Lifecycles with ``mc`` and boto3 against a real server of two workers, whose days have two seconds.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.integration.server import ACCESS_KEY, SECRET_KEY, STATIC_KEY, base_environment
from tests.integration.test_clients import boto3_client
from tests.integration.test_everyday import MCCase

#: How long to wait for what happens in the background, in seconds.
_PATIENCE = 60.0


class _LifecycleCase(MCCase):
    """
    A server that works hard in the background.
    """

    environment = {  # noqa: RUF012
        "MINIO_KMS_SECRET_KEY": STATIC_KEY,
        "MINIO_KMS_AUTO_ENCRYPTION": "on",
        "KYPELLO_LIFECYCLE_DAY": "2s",
        "MINIO_SCANNER_SPEED": "fastest",
    }

    def until(self, done: Callable[[], Any]) -> Any:
        """
        Wait until something is true, and give it.
        """
        end = time.monotonic() + _PATIENCE
        while not (found := done()):
            if time.monotonic() > end:
                self.fail(f"it never becomes true\n{self.server.log}")
            time.sleep(0.1)
        return found


class MCLifecycleTests(_LifecycleCase):
    """
    ``mc ilm`` and what ``mc`` tells of usage.
    """

    def rules(self) -> list[dict[str, Any]]:
        """
        What ``mc`` sees.
        """
        (told,) = self.told("ilm", "rule", "ls", self.bucket)
        found: list[dict[str, Any]] = told["config"]["Rules"]
        return found

    def test_rules(self) -> None:
        """
        Rules are added, listed, edited, exported, imported and removed.
        """
        add = ("ilm", "rule", "add", self.bucket)
        self.mc(*add, "--prefix", "tmp/", "--expire-days", "10000")
        self.mc(*add, "--tags", "a=b&c=d", "--expire-days", "20000")
        self.mc(*add, "--noncurrent-expire-newer", "3")
        self.mc(*add, "--noncurrent-expire-days", "30000", "--size-lt", "1MiB", "--size-gt", "1KiB")
        self.mc(*add, "--expire-delete-marker")
        self.mc(*add, "--prefix", "all/", "--expire-all-object-versions", "--expire-days", "9999")
        rules = self.rules()
        self.assertEqual([rule["Status"] for rule in rules], ["Enabled"] * 6)
        self.assertEqual(rules[0]["Filter"], {"Prefix": "tmp/"})
        self.assertEqual(rules[2]["NoncurrentVersionExpiration"], {"NewerNoncurrentVersions": 3})
        self.assertTrue(rules[5]["Expiration"]["ExpiredObjectAllVersions"])
        edit = ("ilm", "rule", "edit", self.bucket, "--id", rules[0]["ID"])
        self.mc(*edit, "--expire-days", "12345")
        self.assertEqual(self.rules()[0]["Expiration"]["Days"], 12345)
        exported = self.mc("ilm", "rule", "export", self.bucket)
        self.mc("ilm", "rule", "rm", self.bucket, "--id", rules[1]["ID"])
        self.assertEqual(len(self.rules()), 5)
        self.mc("ilm", "rule", "import", self.bucket, given=exported)
        self.assertEqual(self.rules(), json.loads(exported)["Rules"])
        refused = self.mc(*add, "--transition-days", "3", "--transition-tier", "COLD", fails=True)
        self.assertIn(b"no other storage", refused)
        self.mc("ilm", "rule", "rm", self.bucket, "--all", "--force")
        self.mc("ilm", "rule", "ls", self.bucket, fails=True)

    def test_expiry(self) -> None:
        """
        Objects go in their time, and ``mc`` tells when that is.
        """
        self.mc("ilm", "rule", "add", self.bucket, "--prefix", "tmp/", "--expire-days", "1")
        for key in ("tmp/a", "tmp/b", "kept"):
            self.mc("pipe", f"{self.bucket}/{key}", given=b"content")
        (told,) = self.told("stat", "--no-list", f"{self.bucket}/tmp/a")
        self.assertTrue(told["expirationRuleID"])
        self.until(lambda: self.keys() == ["kept"])

    def test_versions(self) -> None:
        """
        All versions of a key go, one step after the other.
        """
        self.mc("version", "enable", self.bucket)
        for content in (b"one", b"two"):
            self.mc("pipe", f"{self.bucket}/k", given=content)
        add = ("ilm", "rule", "add", self.bucket)
        self.mc(*add, "--expire-days", "1")
        self.mc(*add, "--noncurrent-expire-days", "1")
        self.until(lambda: self.told("ls", "--versions", "-r", self.bucket) == [])

    def test_usage(self) -> None:
        """
        What there is is counted, for both workers, and told by ``mc``.
        """
        self.mc("version", "enable", self.bucket)
        for content in (b"12345", b"1234567"):
            self.mc("pipe", f"{self.bucket}/k", given=content)
        self.mc("pipe", f"{self.bucket}/gone", given=b"1")
        self.mc("rm", f"{self.bucket}/gone")

        def counted() -> bool:
            (told,) = self.told("admin", "info", "k")
            info = told["info"]
            numbers = [info[name].get("count") for name in ("objects", "versions", "deletemarkers")]
            return numbers == [1, 3, 1] and info["usage"] == {"size": 13}

        self.until(counted)
        (told,) = self.told("stat", self.bucket)
        self.assertEqual(told["Usage"]["size"], 13)
        self.assertEqual(told["Usage"]["objectsCount"], 1)

    def test_told_before(self) -> None:
        """
        ``kypello bucket expiring`` tells what would go, and nothing goes.
        """
        self.mc("ilm", "rule", "add", self.bucket, "--expire-days", "20000")
        self.mc("pipe", f"{self.bucket}/k", given=b"content")
        command = (sys.executable, "-m", "kypello.cli", "bucket", "expiring", "bucket", "--json")
        environment = {
            **base_environment(),
            "KYPELLO_ENDPOINT": self.server.endpoint,
            "KYPELLO_ROOT_USER": ACCESS_KEY,
            "KYPELLO_ROOT_PASSWORD": SECRET_KEY,
        }
        for arguments, expected in (((), []), (("--at", "2099-01-01"), ["k"])):
            done = subprocess.run(
                [*command, *arguments], env=environment, capture_output=True, check=True, timeout=60
            )
            found = [json.loads(line)["key"] for line in done.stdout.splitlines()]
            self.assertEqual(found, expected)
        self.assertEqual(self.keys(), ["k"])


class BotoLifecycleTests(_LifecycleCase):
    """
    boto3.
    """

    def setUp(self) -> None:
        """
        Connect.
        """
        super().setUp()
        self.s3 = boto3_client(self.server)

    def put(self, *rules: dict[str, Any]) -> None:
        """
        Set rules.
        """
        self.s3.put_bucket_lifecycle_configuration(
            Bucket="bucket", LifecycleConfiguration={"Rules": list(rules)}
        )

    def test_configuration(self) -> None:
        """
        Rules are told as they were set, and can be removed.
        """
        rules = [
            {
                "ID": "tagged",
                "Status": "Enabled",
                "Filter": {
                    "And": {
                        "Prefix": "p/",
                        "Tags": [{"Key": "k", "Value": "v"}],
                        "ObjectSizeGreaterThan": 100,
                    }
                },
                "Expiration": {"Days": 20000},
            },
            {
                "ID": "old",
                "Status": "Disabled",
                "Prefix": "x",
                "NoncurrentVersionExpiration": {
                    "NoncurrentDays": 20000,
                    "NewerNoncurrentVersions": 2,
                },
            },
            {
                "ID": "uploads",
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 20000},
            },
        ]
        self.put(*rules)
        told = self.s3.get_bucket_lifecycle_configuration(Bucket="bucket")
        self.assertEqual(told["Rules"], rules)
        self.assertEqual(told["TransitionDefaultMinimumObjectSize"], "all_storage_classes_128K")
        self.s3.delete_bucket_lifecycle(Bucket="bucket")
        with self.assertRaises(self.s3.exceptions.ClientError) as caught:
            self.s3.get_bucket_lifecycle_configuration(Bucket="bucket")
        code = caught.exception.response["Error"]["Code"]
        self.assertEqual(code, "NoSuchLifecycleConfiguration")

    def test_expiry(self) -> None:
        """
        What a rule is about goes, by tags and size, uploads as well, and the rest stays.
        """
        self.put(
            {
                "ID": "a rule",
                "Status": "Enabled",
                "Filter": {
                    "And": {"Tags": [{"Key": "k", "Value": "v"}], "ObjectSizeGreaterThan": 5}
                },
                "Expiration": {"Days": 1},
            },
            {
                "ID": "uploads",
                "Status": "Enabled",
                "Filter": {"Prefix": "u/"},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
            },
        )
        for key, tags, body in (
            ("large", "k=v", b"larger"),
            ("small", "k=v", b"small"),
            ("other", "k=w", b"larger"),
        ):
            answer = self.s3.put_object(Bucket="bucket", Key=key, Tagging=tags, Body=body)
            self.assertEqual('rule-id="a%20rule"' in answer.get("Expiration", ""), key == "large")
        for key in ("u/k", "v/k"):
            self.s3.create_multipart_upload(Bucket="bucket", Key=key)

        def left() -> tuple[list[str], list[str]]:
            objects = self.s3.list_objects_v2(Bucket="bucket").get("Contents", [])
            uploads = self.s3.list_multipart_uploads(Bucket="bucket").get("Uploads", [])
            return [one["Key"] for one in objects], [one["Key"] for one in uploads]

        self.until(lambda: left() == (["other", "small"], ["v/k"]))

    def test_overwritten(self) -> None:
        """
        Objects that are over are stored anew while they are removed, and what is not over is there
        afterwards.
        """
        self.put(
            {
                "ID": "r",
                "Status": "Enabled",
                "Filter": {"Tag": {"Key": "k", "Value": "v"}},
                "Expiration": {"Date": "2020-01-01T00:00:00Z"},
            }
        )
        keys = [f"k{number}" for number in range(300)]

        def replace(key: str) -> None:
            self.s3.put_object(Bucket="bucket", Key=key, Body=b"over", Tagging="k=v")
            self.s3.put_object(Bucket="bucket", Key=key, Body=b"kept")

        for _ in range(3):
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(replace, keys))
        found = self.s3.list_objects_v2(Bucket="bucket")["Contents"]
        self.assertEqual([one["Key"] for one in found], sorted(keys))
        self.s3.put_object(Bucket="bucket", Key="k0", Body=b"over", Tagging="k=v")

        def count() -> int:
            return len(self.s3.list_objects_v2(Bucket="bucket")["Contents"])

        self.until(lambda: count() == len(keys) - 1)
        for key in keys[1:]:
            self.assertEqual(self.s3.get_object(Bucket="bucket", Key=key)["Body"].read(), b"kept")
