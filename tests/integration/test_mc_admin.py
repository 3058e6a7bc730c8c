# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
An administrator's day with ``mc admin`` against a real server of two workers.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.integration.test_everyday import MCCase
from tests.integration.test_faults import wait_until

_READING = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::bucket/*"]}
    ],
}

#: How long a server may take to end, in seconds.
_PATIENCE = 20.0


def refusal_of(url: str) -> int:
    """
    The status with which a request of nobody is refused.
    """
    try:
        with urlopen(url, timeout=20):
            return 200
    except HTTPError as error:
        error.close()
        return error.code


class AdminCase(MCCase):
    """
    A test with an administrator, and users that ``mc`` knows as aliases.
    """

    def document(self, name: str, value: Any) -> Path:
        """
        A file with a JSON document.
        """
        return self.write(name, json.dumps(value).encode())

    def admin(self, *words: str | Path, fails: str = "") -> str:
        """
        Run a command of ``mc admin``, whose subject ``k`` is the server.

        :param fails: What it has to say when it fails; empty when it must not.
        """
        printed = self.mc("admin", *words, fails=bool(fails)).decode()
        self.assertIn(fails, printed)
        return printed

    def alias(self, name: str, access_key: str, secret_key: str) -> None:
        """
        Introduce the server to ``mc`` as somebody else sees it.
        """
        self.mc("alias", "set", name, self.server.endpoint, access_key, secret_key)

    def reads(self, alias: str) -> bool:
        """
        Whether somebody may read the object of the test.
        """
        done = self.mc_status("cat", f"{alias}/bucket/object")
        return done == 0

    def mc_status(self, *words: str) -> int:
        """
        The exit code of a command.
        """
        try:
            self.mc(*words)
        except self.failureException:
            return 1
        return 0


class UserTests(AdminCase):
    """
    Users, groups and policies.
    """

    def test_user(self) -> None:
        """
        A user gets in by a policy, and is kept out by each way to do so.
        """
        self.mc("pipe", f"{self.bucket}/object", given=b"content")
        self.admin("user", "add", "k", "alice", "alice-secret")
        self.alias("alice", "alice", "alice-secret")
        self.assertFalse(self.reads("alice"))
        reading = self.document("reading.json", _READING)
        self.admin("policy", "create", "k", "reading", reading)
        self.admin("policy", "attach", "k", "reading", "--user", "alice")
        self.assertTrue(self.reads("alice"))
        self.mc("pipe", "alice/bucket/object", given=b"other", fails=True)
        self.admin("user", "disable", "k", "alice")
        self.assertFalse(self.reads("alice"))
        self.admin("user", "enable", "k", "alice")
        self.assertTrue(self.reads("alice"))
        self.admin("policy", "remove", "k", "reading", fails="in use")
        self.admin("policy", "detach", "k", "reading", "--user", "alice")
        self.assertFalse(self.reads("alice"))
        self.admin("policy", "remove", "k", "reading")
        self.admin("user", "remove", "k", "alice")
        self.admin("user", "info", "k", "alice", fails="does not exist")

    def test_region(self) -> None:
        """
        A policy may tell in which region buckets are made.
        """
        self.admin("user", "add", "k", "alice", "alice-secret")
        self.alias("alice", "alice", "alice-secret")
        condition = {"StringEquals": {"s3:LocationConstraint": "eu-west-1"}}
        statement = {
            "Effect": "Allow",
            "Action": ["s3:CreateBucket"],
            "Resource": ["arn:aws:s3:::*"],
            "Condition": condition,
        }
        document = {"Version": "2012-10-17", "Statement": [statement]}
        self.admin("policy", "create", "k", "making", self.document("making.json", document))
        self.admin("policy", "attach", "k", "making", "--user", "alice")
        self.mc("mb", "alice/other", fails=True)
        self.mc("mb", "--region", "us-west-2", "alice/other", fails=True)
        self.mc("mb", "--region", "eu-west-1", "alice/other")

    def test_told(self) -> None:
        """
        Users, groups and policies are told as they were made.
        """
        for name in ("alice", "bob"):
            self.admin("user", "add", "k", name, f"{name}-secret")
        self.admin("group", "add", "k", "staff", "alice", "bob")
        self.admin("policy", "attach", "k", "readonly", "--group", "staff")
        self.admin("policy", "attach", "k", "writeonly", "--user", "alice")
        users = {one["accessKey"]: one for one in self.told("admin", "user", "list", "k")}
        self.assertEqual(users["alice"]["policyName"], "writeonly")
        self.assertEqual(users["alice"]["memberOf"][0]["name"], "staff")
        (group,) = self.told("admin", "group", "info", "k", "staff")
        self.assertEqual((group["members"], group["groupPolicy"]), (["alice", "bob"], "readonly"))
        shown = self.admin("policy", "entities", "k", "--user", "alice")
        self.assertIn("readonly, writeonly", shown)
        self.assertIn("s3:PutObject", self.admin("user", "policy", "k", "alice"))
        self.assertIn('"Action":', self.admin("policy", "info", "k", "readonly"))
        self.assertIn("diagnostics", self.admin("policy", "list", "k"))
        self.admin("group", "disable", "k", "staff")
        self.assertIn("disabled", self.admin("group", "info", "k", "staff"))
        self.admin("group", "remove", "k", "staff", fails="not empty")
        self.admin("group", "remove", "k", "staff", "alice", "bob")
        self.admin("group", "remove", "k", "staff")
        self.assertEqual(self.admin("group", "list", "k").strip(), "")

    def test_refused(self) -> None:
        """
        What cannot be done is refused, and people are told why.
        """
        self.admin("user", "add", "k", "al", "alice-secret", fails="between 3 and 20")
        self.admin("user", "add", "k", "alice", "short", fails="between 8 and 40")
        self.admin("user", "disable", "k", "nobody", fails="does not exist")
        self.admin("policy", "attach", "k", "readonly", "--user", "nobody", fails="not exist")
        self.admin("policy", "info", "k", "nothing", fails="does not exist")
        statement = {**_READING["Statement"][0], "Effect": "Maybe"}  # type: ignore[dict-item]  # it is a mapping
        wrong = self.document("wrong.json", {**_READING, "Statement": [statement]})
        self.admin("policy", "create", "k", "wrong", wrong, fails="invalid Effect Maybe")

    def test_without_rights(self) -> None:
        """
        Who has no right of administration is kept out of it, and sees their own account.
        """
        self.admin("user", "add", "k", "alice", "alice-secret")
        self.alias("alice", "alice", "alice-secret")
        for words in (
            ("user", "list", "alice"),
            ("user", "add", "alice", "mallory", "mallory-secret"),
            ("policy", "attach", "alice", "consoleAdmin", "--user", "alice"),
            ("info", "alice"),
            ("config", "get", "alice", "region"),
            ("kms", "key", "list", "alice"),
            ("service", "stop", "alice"),
        ):
            self.admin(*words, fails="Access Denied")
        self.assertIn("enabled", self.admin("user", "info", "alice", "alice"))

    def test_wrong_secret(self) -> None:
        """
        An alias with a wrong secret key gets nowhere.
        """
        config = self.work / "mc" / "config.json"
        told = json.loads(config.read_text())
        told["aliases"]["wrong"] = {**told["aliases"]["k"], "secretKey": "not-the-secret-key"}
        config.write_text(json.dumps(told))
        self.admin("user", "list", "wrong", fails="signature we calculated does not match")


class AccessKeyTests(AdminCase):
    """
    Service accounts.
    """

    def test_life(self) -> None:
        """
        A user makes an access key, limits it, and removes it.
        """
        self.mc("pipe", f"{self.bucket}/object", given=b"content")
        self.admin("user", "add", "k", "alice", "alice-secret")
        self.admin("policy", "attach", "k", "readwrite", "--user", "alice")
        self.alias("alice", "alice", "alice-secret")
        pair = ("--access-key", "robot-key", "--secret-key", "robot-secret")
        self.admin("accesskey", "create", "alice", *pair, "--name", "robot")
        self.alias("robot", "robot-key", "robot-secret")
        self.assertTrue(self.reads("robot"))
        self.mc("pipe", "robot/bucket/object", given=b"more")
        reading = self.document("reading.json", _READING)
        self.admin("accesskey", "edit", "alice", "robot-key", "--policy", reading)
        self.assertTrue(self.reads("robot"))
        self.mc("pipe", "robot/bucket/object", given=b"even more", fails=True)
        shown = self.admin("accesskey", "info", "alice", "robot-key")
        self.assertIn("Name: robot", shown)
        self.assertIn("Policy: embedded", shown)
        self.assertIn("robot-key", self.admin("accesskey", "list", "k", "--all"))
        self.assertIn("robot-key", self.admin("user", "svcacct", "list", "alice", "alice"))
        self.admin("accesskey", "edit", "robot", "robot-key", "--name", "other", fails="Denied")
        self.admin("accesskey", "disable", "alice", "robot-key")
        self.assertFalse(self.reads("robot"))
        self.admin("accesskey", "enable", "alice", "robot-key")
        self.assertTrue(self.reads("robot"))
        self.admin("accesskey", "remove", "alice", "robot-key")
        self.assertFalse(self.reads("robot"))
        self.admin("user", "svcacct", "info", "alice", "robot-key", fails="not found")

    def test_of_others(self) -> None:
        """
        An administrator makes access keys for a user; other users neither see nor change them.
        """
        for name in ("alice", "bob"):
            self.admin("user", "add", "k", name, f"{name}-secret")
            self.alias(name, name, f"{name}-secret")
        pair = ("--access-key", "robot-key", "--secret-key", "robot-secret")
        self.admin("user", "svcacct", "add", "k", "alice", *pair)
        self.admin("user", "svcacct", "info", "bob", "robot-key", fails="Access Denied")
        self.admin("accesskey", "remove", "bob", "robot-key", fails="Access Denied")
        self.admin("accesskey", "create", "bob", "alice", fails="Access Denied")
        self.admin("accesskey", "create", "bob", *pair, fails="access key is in use")


class ServerTests(AdminCase):
    """
    The server, its settings and its keys.
    """

    environment = {**MCCase.environment, "MINIO_SCANNER_SPEED": "fastest"}  # noqa: RUF012

    def test_info(self) -> None:
        """
        ``info`` shows the server, and what it holds.
        """
        self.mc("pipe", f"{self.bucket}/object", given=b"content")
        self.assertIn(f"127.0.0.1:{self.server.port}", self.admin("info", "k"))
        # What it holds is counted from time to time.
        wait_until(lambda: "7 B Used, 1 Bucket, 1 Object" in self.admin("info", "k"), 60)

    def test_settings(self) -> None:
        """
        Settings are read, and to set them is refused with the place where they are set.
        """
        self.assertEqual(self.admin("config", "get", "k", "region"), "region name= \n")
        self.assertIn("site", self.admin("config", "get", "k"))
        self.assertIn("subnet", self.admin("config", "export", "k"))
        self.admin("config", "set", "k", "region", "name=x", fails="in the environment")

    def test_common_questions(self) -> None:
        """
        What there is none of is told so, and what is not offered is refused with the reason.
        """
        self.assertIn("not enabled", self.admin("replicate", "info", "k"))
        self.assertIn("No active healing", self.admin("heal", "k"))
        self.mc("admin", "heal", "-r", "k")
        self.mc("ilm", "tier", "ls", "k")
        self.mc("batch", "list", "k")
        self.mc("idp", "openid", "ls", "k")
        self.mc("stat", self.bucket)

    def test_quota(self) -> None:
        """
        A bucket takes as much as its quota allows, and more when that is removed.
        """
        self.mc("quota", "info", self.bucket)
        self.mc("pipe", f"{self.bucket}/one", given=bytes(60_000))
        self.mc("quota", "set", self.bucket, "--size", "100KiB")
        self.assertIn(b"100 KiB", self.mc("quota", "info", self.bucket))
        printed = self.mc("pipe", f"{self.bucket}/two", given=bytes(60_000), fails=True)
        self.assertIn(b"Bucket quota exceeded", printed)
        self.mc("rm", f"{self.bucket}/one")
        self.mc("pipe", f"{self.bucket}/two", given=bytes(60_000))
        self.mc("quota", "clear", self.bucket)
        self.mc("pipe", f"{self.bucket}/three", given=bytes(60_000))

    def test_freeze(self) -> None:
        """
        A frozen server lets requests wait, in all workers, and answers them when it is thawed.
        """
        self.mc("pipe", f"{self.bucket}/object", given=b"content")
        self.admin("service", "freeze", "k")
        url = f"{self.server.endpoint}/bucket/object"
        with ThreadPoolExecutor(4) as threads:
            waiting = [threads.submit(refusal_of, url) for _ in range(4)]
            self.assertEqual(wait(waiting, timeout=1).done, set())
            self.assertIn("Uptime", self.admin("info", "k"))
            self.admin("service", "unfreeze", "k")
            self.assertEqual([each.result(20) for each in waiting], [403] * 4)

    def test_stop(self) -> None:
        """
        ``service stop`` ends all of the server.
        """
        self.assertIn("Stopped", self.admin("service", "stop", "k"))
        deadline = time.monotonic() + _PATIENCE
        while self.server.running and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertFalse(self.server.running, self.server.log)


class KeyTests(AdminCase):
    """
    Master keys of the key server inside.
    """

    environment = {}  # noqa: RUF012

    def test_keys(self) -> None:
        """
        Keys are made, listed and tried.
        """
        self.admin("kms", "key", "create", "k", "new-key")
        self.admin("kms", "key", "create", "k", "new-key", fails="already")
        self.assertIn("new-key", self.admin("kms", "key", "list", "k"))
        for words in ((), ("new-key",)):
            self.assertIn("Decryption ✔", self.admin("kms", "key", "status", "k", *words))
        self.assertIn("Encryption ✗", self.admin("kms", "key", "status", "k", "nothing"))
