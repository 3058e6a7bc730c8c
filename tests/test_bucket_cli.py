# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello bucket``, and what it asks the server for.
"""

from datetime import UTC, datetime

from kypello.lifecycle.rules import SETTING, Lifecycle, Rule
from kypello.model import ListQuery, ObjectMetadata
from kypello.testing.fakes import BytesSource
from tests.admin.front import policy
from tests.test_account_cli import CommandCase


class BucketTests(CommandCase):
    """
    ``kypello bucket``.
    """

    def test_expiring(self) -> None:
        """
        What is over is told, by now and by another time, and nothing is removed.
        """
        rule = Rule("three days", True, days=3, abort_days=1)
        setting = Lifecycle((rule,), 0, "").to_bytes()
        self.done(self.store.create_bucket("b", {SETTING: setting}))
        for key in ("one", "two"):
            body = BytesSource([b"content"])
            self.done(self.store.put("b", key, body, lambda _size: ObjectMetadata("e")))
        self.done(self.store.create_upload("b", "three", ObjectMetadata()))
        nothing = self.run_command("bucket", "expiring", "b", people=True)
        self.assertIn("Nothing is over.", nothing)
        later = datetime.fromtimestamp(self.clock.seconds() + 5 * 86400, UTC)
        for text in (later.isoformat(), later.isoformat().removesuffix("+00:00")):
            found = self.run_command("bucket", "expiring", "b", "--at", text)
            self.assertEqual(
                [(one["key"], one["what"], one["becomes"], one["rule"]) for one in found],
                [
                    ("one", "version", "expires", "three days"),
                    ("two", "version", "expires", "three days"),
                    ("three", "upload", "is aborted", "three days"),
                ],
            )
        self.assertEqual(len(self.done(self.store.list("b", ListQuery())).objects), 2)
        self.assertIn("no time", self.failed("bucket", "expiring", "b", "--at", "soon"))
        self.failed("bucket", "expiring", "absent")

    def test_many(self) -> None:
        """
        More than one answer holds is told, each once.
        """
        setting = Lifecycle((Rule("r", True, date=0),), 0, "").to_bytes()
        self.done(self.store.create_bucket("b", {SETTING: setting}))
        for number in range(2300):
            body = BytesSource([b"x"])
            put = self.store.put("b", f"k{number:04}", body, lambda _size: ObjectMetadata("e"))
            self.done(put)
        found = self.run_command("bucket", "expiring", "b")
        self.assertEqual([one["key"] for one in found], [f"k{number:04}" for number in range(2300)])

    def test_rights(self) -> None:
        """
        Who may not see the versions of a bucket is not told what becomes of them.
        """
        self.done(self.store.create_bucket("b", {}))
        user = self.make_user("watcher", policy("admin:DataUsageInfo"))
        self.assertIn("AccessDenied", self.failed("bucket", "expiring", "b", by=user))

    def test_wrong_time(self) -> None:
        """
        What is no time is refused by the server, too.
        """
        self.done(self.store.create_bucket("b", {}))
        for text in ("soon", "nan", "-1", "1e300"):
            answer = self.send("GET", f"expiring?bucket=b&at={text}", status=400)
            self.refused(answer, "XMinioAdminInvalidArgument")
