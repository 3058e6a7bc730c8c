# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.admin.rotation``, and the command that asks it.
"""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from kypello.account_cli import parser
from kypello.admin.root import AdminResource
from kypello.admincli.screen import Screen
from kypello.admincli.target import CommandError
from kypello.admincli.work import Inputs, Work
from kypello.adminclient import Access, AdminClient, CallRefused
from kypello.crypto.sse import SETTING, ServerSideEncryption
from kypello.events.queue import SPACE, waiting_keys
from kypello.events.sealing import Kept, pack
from kypello.iam.ledger import accounts_key
from kypello.model import (
    SSE_C,
    CustomerKey,
    EncryptionRequest,
    ObjectInfo,
    ObjectMetadata,
    UploadInfo,
    Write,
)
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.objects.keyusage import KeyUsage
from kypello.objects.rewrapping import Rewrapping
from kypello.testing.fakes import BytesSource, InlineLane
from kypello.testing.harness import Harness
from tests.admin.front import ROOT, AdminCase, Signer, policy
from tests.objects.case import assembling

_S3 = EncryptionRequest("AES256")
_KMS = EncryptionRequest("aws:kms")


class Terminal(io.StringIO):
    """
    An output that takes itself for a terminal.
    """

    def isatty(self) -> bool:
        """
        Called by who writes.
        """
        return True


class RotationCase(AdminCase):
    """
    A test with an encrypting store, two buckets and a second master key.
    """

    def setUp(self) -> None:
        """
        Serve them.
        """
        super().setUp()
        self.done(self.kms.create_key("new-key"))
        self.below = self.store
        self.store = self.process()
        keys = DataKeys(self.kms, self.clock)
        rewrapping = Rewrapping(self.below, keys, os.urandom)
        self.front = evolve(self.front, store=self.store, rewrapping=rewrapping)
        self.harness = Harness(AdminResource(self.front), access_log=False)
        for bucket in ("one", "two"):
            self.done(self.store.create_bucket(bucket, {}))

    def process(self) -> EncryptedStore:
        """
        A process that has opened nothing.
        """
        return EncryptedStore(self.below, DataKeys(self.kms, self.clock), os.urandom)

    def put(
        self, key: str, kind: EncryptionRequest | None = _S3, bucket: str = "one"
    ) -> ObjectInfo:
        """
        Store an object.
        """
        known = ObjectMetadata("9a0364b9e99bb480dd25e1f0284c8555")
        body = BytesSource([b"content"])
        info: ObjectInfo = self.done(self.store.put(bucket, key, body, lambda _size: known, kind))
        return info

    def key_of(self, key: str, bucket: str = "one") -> str:
        """
        What an object tells of its master key, to a process that has opened nothing.
        """
        sealing = self.done(self.process().head(bucket, key)).metadata.sealing
        return "" if sealing is None else str(sealing.key_id)

    def ask(self, operation: str, *, status: int = 200, by: Signer = ROOT, **asked: object) -> Any:
        """
        Ask for something.
        """
        body = json.dumps(asked).encode()
        answer = self.send("POST", f"encryption/{operation}", body, by=by, status=status)
        return json.loads(answer.body) if status == 200 else answer


class RouteTests(RotationCase):
    """
    What the server does when it is asked.
    """

    def test_objects(self) -> None:
        """
        A page tells what became of it, and where the next one begins.
        """
        for key, kind in (("a", _S3), ("b", _KMS), ("c", None)):
            self.put(key, kind)
        wanted = {"bucket": "one", "keyName": "arn:aws:kms:new-key"}
        told = self.ask("rotate-objects", **wanted, limit=2, dryRun=True)
        self.assertEqual((told["seen"], told["changed"]), (2, 2))
        self.assertEqual(self.key_of("a"), "my-key")
        told = self.ask("rotate-objects", **wanted, limit=2)
        self.assertEqual(told["next"], {"key": "b", "versionId": "null"})
        told = self.ask(
            "rotate-objects", **wanted, afterKey="b", afterVersion="null", prefix="", limit=2
        )
        self.assertEqual((told["seen"], told["plain"], told["next"]), (1, 1, None))
        self.assertEqual([self.key_of(key) for key in "ab"], ["new-key", "arn:aws:kms:new-key"])

    def test_default_key(self) -> None:
        """
        Without a name the master key is the default one.
        """
        self.put("a", EncryptionRequest("aws:kms", "new-key"))
        self.assertEqual(self.ask("rotate-objects", bucket="one")["changed"], 1)
        self.assertEqual(self.key_of("a"), "arn:aws:kms:my-key")

    def test_keys(self) -> None:
        """
        The key of a bucket's metadata changes once, and tells what it was.
        """
        wanted = {"bucket": "one", "keyName": "new-key"}
        self.assertEqual(self.ask("rotate-key", **wanted)["before"], "")
        self.put("a")
        for changed, before, dry in (
            (True, "my-key", True),
            (True, "my-key", False),
            (False, "new-key", False),
        ):
            told = self.ask("rotate-key", **wanted, dryRun=dry)
            self.assertEqual((told["changed"], told["before"]), (changed, before))
        self.assertTrue(self.ask("rotate-key", **wanted, again=True)["changed"])
        self.assertEqual(self.key_of("a"), "my-key")

    def test_accounts(self) -> None:
        """
        So does that of the accounts, which go on to sign, in processes that know them, too.
        """
        self.assertEqual(self.ask("rotate-key", keyName="new-key")["before"], "")
        alice = self.make_user("alice", policy("admin:ServerInfo"))
        self.send("GET", "info", by=alice)
        told = self.ask("rotate-key", keyName="new-key")
        self.assertEqual((told["changed"], told["before"]), (True, "my-key"))
        del self.kms.keys["my-key"]
        self.clock.advance(400)
        self.send("GET", "info", by=alice)
        self.make_user("bob", policy("admin:ServerInfo"))
        self.assertFalse(self.ask("rotate-key", keyName="new-key")["changed"])

    def test_default_encryption(self) -> None:
        """
        It is told which master key what is new still needs.
        """
        setting = ServerSideEncryption("aws:kms", "alias/my-key").to_bytes()
        self.done(self.store.change_bucket("one", lambda _: {SETTING: setting}))
        for bucket, source, default in (
            ("one", "", "my-key"),
            ("one", "my-key", "my-key"),
            ("one", "third", ""),
            ("two", "", ""),
            ("", "", "my-key"),
        ):
            told = self.ask("rotate-key", bucket=bucket, keyName="new-key", source=source)
            self.assertEqual(told["default"], default)
        told = self.ask("rotate-key", bucket="one", keyName="my-key", again=True)
        self.assertEqual(told["default"], "")

    def test_refused(self) -> None:
        """
        What makes no sense is refused, and what cannot be now, with the reason.
        """
        self.put("a")
        for asked in ({}, {"bucket": "one", "limit": 0}, {"bucket": "one", "limit": 1001}):
            self.ask("rotate-objects", status=400, **asked)
        for asked in ({"unknown": 1}, {"algorithm": "AES128"}, {"keyName": "a b"}):
            self.ask("rotate-objects", status=400, bucket="one", **asked)
        self.ask("rotate-objects", status=404, bucket="absent")
        self.ask("rotate-key", status=404, bucket="absent")
        self.ask("rotate-objects", status=404, bucket="one", keyName="absent")
        self.ask("rotate-key", status=404, bucket="one", keyName="absent")
        self.kms.down = True
        answer = self.ask("rotate-objects", status=503, bucket="one", keyName="new-key")
        self.assertIsNotNone(answer.header("Retry-After"))
        self.front = evolve(self.front, rewrapping=None)
        self.harness = Harness(AdminResource(self.front), access_log=False)
        self.ask("rotate-objects", status=501, bucket="one")

    def test_rights(self) -> None:
        """
        It takes the right to start jobs.
        """
        self.put("a")
        for action, status in (("admin:ServerInfo", 403), ("admin:StartBatchJob", 200)):
            by = self.make_user(f"user{status}", policy(action))
            for operation in ("rotate-objects", "rotate-uploads", "rotate-key"):
                self.ask(operation, status=status, by=by, bucket="one")


class CommandTests(RotationCase):
    """
    ``kypello encrypt rotate``.
    """

    def start(
        self,
        *arguments: str,
        people: bool = False,
        terminal: bool = False,
        by: Signer = ROOT,
    ) -> Any:
        """
        Begin a command; what it prints is kept.
        """
        options = parser().parse_args(("encrypt", "rotate", *arguments))
        self.out, self.err = io.StringIO(), Terminal() if terminal else io.StringIO()
        access = Access("http://kypello.test", by.access_key, by.secret_key)
        agent = self.harness.agent()
        client = AdminClient(access, agent, self.clock, InlineLane(), os.urandom)
        work = Work(client, options, Inputs(), Screen(self.out, self.err, json=not people))
        return Deferred.fromCoroutine(options.run(work))

    def run_command(self, *arguments: str, code: int = 0) -> list[Mapping[str, Any]]:
        """
        Run a command to its end; give what scripts get.
        """
        self.assertEqual(self.successResultOf(self.start(*arguments)), code)
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    def fill(self) -> None:
        """
        Store objects in both buckets.
        """
        for bucket in ("one", "two"):
            for number in range(5):
                self.put(f"photos/{number}", (_S3, _KMS)[number % 2], bucket)
            self.put("other", None, bucket)

    def test_all(self) -> None:
        """
        All that the server keeps moves to another master key; the old one can be deleted, and all
        is read.
        """
        self.fill()
        alice = self.make_user("alice", policy("admin:ServerInfo"))
        (told,) = self.run_command("--all", "--to", "new-key", "--dry-run")
        self.assertEqual((told["dry_run"], told["changed"]), (True, 10))
        (told,) = self.run_command("--all", "--to", "new-key")
        self.assertEqual((told["seen"], told["changed"], told["plain"]), (12, 10, 2))
        self.assertTrue(told["complete"])
        self.assertIn("new under my-key", self.err.getvalue())
        del self.kms.keys["my-key"]
        self.clock.advance(400)
        for bucket in ("one", "two"):
            for number in range(5):
                self.assertIn("new-key", self.key_of(f"photos/{number}", bucket))
        self.send("GET", "info", by=alice)
        (told,) = self.run_command("--all", "--to", "new-key")
        self.assertEqual(told["changed"], 0)

    def test_unseen(self) -> None:
        """
        All are the buckets of the server, also those that who asks has no right to see; one that
        is removed meanwhile is left out.
        """
        self.fill()
        self.done(self.store.create_bucket("three", {}))
        by = self.make_user("alice", policy("admin:StartBatchJob"))
        for terminal in (False, True):
            waiting = self.start("--all", "--again", "--rate", "6", terminal=terminal, by=by)
            self.assertNoResult(waiting)
            if not terminal:
                self.done(self.store.delete_bucket("three"))
            for _ in range(4):
                self.clock.advance(1)
            self.assertEqual(self.successResultOf(waiting), 0)
            told = json.loads(self.out.getvalue())
            self.assertEqual((told["seen"], told["changed"], told["plain"]), (12, 10, 2))

    def test_one(self) -> None:
        """
        One bucket may be meant, and a prefix, and a master key.
        """
        self.fill()
        (told,) = self.run_command("one/photos/1", "--to", "new-key", "--from", "my-key")
        self.assertEqual((told["seen"], told["changed"]), (1, 1))
        (told,) = self.run_command("one", "--to", "new-key", "--type", "sse-kms")
        self.assertEqual((told["seen"], told["changed"]), (6, 4))
        (told,) = self.run_command("one", "--to", "new-key", "--context", '{"a":"b"}')
        self.assertEqual(told["changed"], 5)
        (told,) = self.run_command("one", "--to", "new-key", "--again")
        self.assertEqual(told["changed"], 5)
        (told,) = self.run_command("one", "--to", "new-key", "--encrypt-plain")
        self.assertEqual((told["changed"], told["encrypted"], told["plain"]), (1, 1, 0))
        self.assertEqual(self.key_of("photos/0", "two"), "my-key")

    def test_wrong(self) -> None:
        """
        What cannot be meant is told.
        """
        context = ("one", "--context")
        for arguments in ((), ("one", "--all"), (*context, "[]"), (*context, "x")):
            self.failureResultOf(self.start(*arguments), CommandError)
        self.failureResultOf(self.start("absent"), CallRefused)
        self.put("k")
        self.failureResultOf(self.start("one", "--to", "absent"), CallRefused)

    def test_failed(self) -> None:
        """
        What cannot be changed is told, the rest is, and the command ends with 1; so it is with
        uploads.
        """
        self.put("a")
        self.put("b", EncryptionRequest("aws:kms", "new-key"))
        del self.kms.keys["new-key"]
        self.done(self.kms.create_key("third"))
        self.front = evolve(
            self.front,
            rewrapping=Rewrapping(self.below, DataKeys(self.kms, self.clock), os.urandom),
        )
        self.harness = Harness(AdminResource(self.front), access_log=False)
        failed, told = self.run_command("one", "--to", "third", code=1)
        self.assertEqual(failed["failed"]["key"], "b")
        self.assertIn("'new-key'", failed["failed"]["reason"])
        self.assertEqual((told["failed"], told["changed"], told["complete"]), (1, 1, False))
        lost = EncryptionRequest("aws:kms", "third")
        began = self.done(self.store.create_upload("two", "u", ObjectMetadata(), "", lost))
        del self.kms.keys["third"]
        self.clock.advance(400)
        failed, told = self.run_command("two", "--to", "my-key", code=1)
        self.assertEqual(failed["failed"]["uploadId"], began.upload_id)
        self.assertEqual((told["failed"], told["uploads"], told["uploads_changed"]), (1, 1, 0))
        failed, told = self.run_people("two", "--to", "my-key", code=1)
        self.assertIn(f"FAILED two/u (upload {began.upload_id}): ", failed)

    def test_uploads(self) -> None:
        """
        Unfinished uploads are changed before versions, counted apart, and completed afterwards
        without the old key; so no run finds anything to be changed.
        """
        self.fill()
        kinds = (_S3, _KMS, EncryptionRequest(SSE_C, customer_key=CustomerKey(bytes(32), "x")))
        began = [
            self.done(self.store.create_upload("one", f"u/{number}", ObjectMetadata(), "", kind))
            for number, kind in enumerate(kinds)
        ]
        for upload in began[:2]:
            self.send_part(upload)
        expected = {"uploads": 3, "uploads_changed": 2, "uploads_customers": 1}
        for arguments in (("--dry-run",), ()):
            (told,) = self.run_command("one", "--to", "new-key", *arguments)
            self.assertEqual({name: told[name] for name in expected}, expected)
            self.assertEqual((told["seen"], told["changed"]), (6, 5))
        self.done(self.rewrapped("two"))
        del self.kms.keys["my-key"]
        self.clock.advance(400)
        for upload in began[:2]:
            where = upload.bucket, upload.key, upload.upload_id
            self.done(self.process().complete_upload(*where, b"", assembling(1)))
            self.assertIn("new-key", self.key_of(upload.key))
        told, said = self.run_people("one/u", "--to", "new-key")[0], self.err.getvalue()
        self.assertEqual(
            told,
            "2 versions seen, 0 got other keys; 1 unfinished uploads seen;"
            " 1 of these have keys of their clients.",
            said,
        )

    def test_events(self) -> None:
        """
        Events that wait for their targets under another master key are told, and left, until they
        are sent.
        """
        self.fill()
        usage = KeyUsage(
            self.below,
            self.index,
            lambda: accounts_key(self.index),
            lambda: waiting_keys(self.index),
            self.kms.default_key,
        )
        self.front = evolve(self.front, key_usage=usage)
        self.harness = Harness(AdminResource(self.front), access_log=False)
        kept = [
            Kept("s", b"content", name, b"sealed" if name else b"", bytes(12))
            for name in ("my-key", "my-key", "new-key", "")
        ]
        events = [Write(b"hook\0%d" % number, pack(one)) for number, one in enumerate(kept)]
        self.done(self.index.commit(SPACE, events, {}, ()))
        (told,) = self.run_command("--all", "--to", "new-key", code=1)
        self.assertEqual((told["events"], told["complete"]), (2, False))
        self.assertIn("2 events that wait for their targets", self.err.getvalue())
        (told,) = self.run_command("one", "--to", "new-key")
        self.assertEqual(told["events"], 0)
        (told,) = self.run_command("--all", "--to", "new-key", "--again")
        self.assertEqual((told["events"], told["complete"]), (3, True))
        self.done(self.index.commit(SPACE, [Write(one.key, None) for one in events], {}, ()))
        (told,) = self.run_command("--all", "--to", "new-key")
        self.assertEqual((told["events"], told["complete"]), (0, True))

    async def rewrapped(self, bucket: str) -> None:
        """
        Have the key of a bucket sealed anew.
        """
        assert self.front.rewrapping is not None
        await self.front.rewrapping.rewrap_bucket(bucket, "new-key")

    def send_part(self, upload: UploadInfo) -> None:
        """
        Store a part.
        """
        where = upload.bucket, upload.key, upload.upload_id
        body = BytesSource([b"content"])
        known = ObjectMetadata("9a0364b9e99bb480dd25e1f0284c8555")
        self.done(self.store.put_part(*where, 1, body, lambda _size: known))

    def run_people(self, *arguments: str, code: int = 0) -> list[str]:
        """
        Run a command to its end; give what people get.
        """
        self.assertEqual(self.successResultOf(self.start(*arguments, people=True)), code)
        return self.out.getvalue().splitlines()

    def test_resume_uploads(self) -> None:
        """
        A run that is ended among the uploads goes on there, and counts all; a file that tells of
        versions only is understood.
        """
        self.fill()
        for number in range(4):
            self.done(self.store.create_upload("one", f"u/{number}", ObjectMetadata(), "", _KMS))
        path = Path(self.mktemp())
        common = ("one", "--to", "new-key", "--again", "--resume", str(path))
        waiting = self.start(*common, "--rate", "1", terminal=True)
        self.assertNoResult(waiting)
        self.assertIn("counting: 10", self.err.getvalue())
        self.assertIn("10 %", self.err.getvalue())
        self.clock.advance(1)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        told = json.loads(path.read_bytes())
        self.assertEqual((told["position"][1], told["position"][3]), ("u/1", "uploads"))
        waiting = self.start(*common, terminal=True)
        self.assertEqual(self.successResultOf(waiting), 0)
        self.assertIn("100 %", self.err.getvalue())
        self.assertIn("counting: 8", self.err.getvalue())
        (told,) = [json.loads(line) for line in self.out.getvalue().splitlines()]
        self.assertEqual((told["uploads"], told["uploads_changed"]), (4, 4))
        self.assertEqual((told["seen"], told["changed"]), (6, 5))
        earlier = {"wanted": None, "position": ["one", "photos/2", "null"], "counts": {"seen": 3}}
        waiting = self.start(*common, "--rate", "1")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        earlier["wanted"] = json.loads(path.read_bytes())["wanted"]
        path.write_text(json.dumps(earlier))
        (told,) = self.run_command(*common)
        self.assertEqual((told["seen"], told["changed"], told["uploads"]), (5, 2, 0))

    def test_rate(self) -> None:
        """
        No more is changed in a second than is wanted.
        """
        self.fill()
        waiting = self.start("one", "--to", "new-key", "--rate", "2")
        moved = []
        for _ in range(3):
            moved.append(sum("new" in self.key_of(f"photos/{number}") for number in range(5)))
            self.assertNoResult(waiting)
            self.clock.advance(1)
        self.assertEqual(moved, [1, 3, 5])
        self.assertEqual(self.successResultOf(waiting), 0)

    def test_outage(self) -> None:
        """
        While the server, or its key service, is away, it is asked again.
        """
        self.fill()
        self.kms.down = True
        waiting = self.start("one", "--to", "new-key")
        self.assertNoResult(waiting)
        self.assertIn("trying again in 1 s", self.err.getvalue())
        self.kms.down = False
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(waiting), 0)
        self.kms.down = True
        waiting = self.start("one", "--to", "my-key")
        for _ in range(8):
            self.assertNoResult(waiting)
            self.clock.advance(30)
        self.failureResultOf(waiting, CallRefused)

    def test_resume(self) -> None:
        """
        A run that is ended goes on where it was, and counts all; the file of another run is not
        taken.
        """
        self.fill()
        path = Path(self.mktemp())
        common = ("--all", "--to", "new-key", "--again", "--resume", str(path))
        waiting = self.start(*common, "--rate", "2")
        self.assertNoResult(waiting)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        told = json.loads(path.read_bytes())
        self.assertEqual(told["position"], ["one", "photos/0", "null", "objects"])
        asked = ("two", "--to", "new-key", "--resume", str(path))
        error = self.failureResultOf(self.start(*asked), CommandError).value
        self.assertIn("something else", str(error))
        (told,) = self.run_command(*common)
        self.assertEqual((told["seen"], told["changed"], told["plain"]), (12, 10, 2))
        self.assertFalse(path.exists())
        for broken in (b"", b"{}", b"[]"):
            path.write_bytes(broken)
            error = self.failureResultOf(self.start(*common), CommandError).value
            self.assertIn("does not tell", str(error))

    def test_terminal(self) -> None:
        """
        On a terminal a bar is shown; otherwise a line now and then; people get a sentence.
        """
        self.fill()
        waiting = self.start("one", "--to", "new-key", "--rate", "2", people=True, terminal=True)
        self.assertIn("counting: 6", self.err.getvalue())
        self.assertIn("] ", self.err.getvalue())
        self.assertIn("33 %", self.err.getvalue())
        for _ in range(3):
            self.clock.advance(1)
        self.successResultOf(waiting)
        self.assertIn("100 %", self.err.getvalue())
        sentence = "6 versions seen, 5 got other keys; 1 are not encrypted.\n"
        self.assertEqual(self.out.getvalue(), sentence)
        waiting = self.start("two", "--to", "new-key", "--rate", "0.1", people=True)
        for _ in range(6):
            self.clock.advance(10)
        self.successResultOf(waiting)
        self.assertIn("3 seen, 2 changed: two/photos/1", self.err.getvalue())
