# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello kms usage``, over the administration front in memory.
"""

import io
import json
import os
from typing import Any

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from kypello.admincli.arguments import parser
from kypello.admincli.kms import count
from kypello.admincli.screen import Screen
from kypello.admincli.target import CommandError
from kypello.admincli.work import Inputs, Work
from kypello.adminclient import Access, AdminClient, CallRefused
from kypello.testing.fakes import InlineLane
from tests.admin.front import ROOT, Signer
from tests.admin.test_keyusage import UsageCase
from tests.cases import SyncCase


class CommandTests(UsageCase):
    """
    What is printed.
    """

    def client(self, signer: Signer = ROOT) -> AdminClient:
        """
        A client of the front of this test.
        """
        access = Access("http://kypello.test", signer.access_key, signer.secret_key)
        return AdminClient(access, self.harness.agent(), self.clock, InlineLane(), os.urandom)

    def printed(self, *arguments: str, as_json: bool = False) -> str:
        """
        What the command prints.
        """
        options = parser().parse_args(["kms", "usage", *arguments])
        out = io.StringIO()
        work = Work(self.client(), options, Inputs(), Screen(out, out, json=as_json))
        self.assertEqual(self.done(options.run(work)), 0)
        return out.getvalue()

    def test_people(self) -> None:
        """
        People get a table of buckets, and a sentence for each key.
        """
        self.make_user("alice")
        heading, row, sentence = self.printed().splitlines()
        self.assertEqual(heading.split()[:3], ["KEY", "BUCKET", "OBJECTS"])
        self.assertEqual(row.split(), ["my-key", "b", "1", "1", "0", "0", "yes", "no"])
        for words in ("1 objects, 1 versions", "and the accounts", "default key of the server"):
            self.assertIn(words, sentence)

    def test_unused(self) -> None:
        """
        Of a key that nothing needs it is told that it can go.
        """
        self.assertIn("other: 0 objects", self.printed("other"))
        self.assertIn("It can be deleted", self.printed("other"))

    def test_progress(self) -> None:
        """
        A long count shows how far it is, to people alone.
        """
        for number in range(20):
            self.done(self.objects.create_bucket(f"bucket-{number}", {}))
        self.assertIn("of 21", self.printed().splitlines()[0])
        (only,) = self.printed(as_json=True).splitlines()
        self.assertEqual(json.loads(only)["name"], "my-key")

    def test_refused(self) -> None:
        """
        Who may not count is told so.
        """
        user = self.make_user("alice")
        asking = Deferred.fromCoroutine(count(self.client(user)))
        self.assertIn("AccessDenied", str(self.failureResultOf(asking, CallRefused).value))


class _Says(Resource):
    """
    Answers the same to all.
    """

    isLeaf = True

    def __init__(self, content: bytes) -> None:
        """
        Answer *content*.
        """
        Resource.__init__(self)
        self._content = content

    def render_GET(self, _request: Any) -> bytes:
        """
        Called by Twisted.
        """
        return self._content


class BrokenTests(SyncCase):
    """
    Answers that are no count.
    """

    def test_incomplete(self) -> None:
        """
        A count without its end does not count, nor does anything else.
        """
        for content in (b'{"key": {}}\n', b'{"key": {}}\n{"end": 2}\n', b"[]\n", b"<html>\n", b""):
            agent = RequestTraversalAgent(_Says(content))
            access = Access("http://host", "me", "a-secret-key")
            client = AdminClient(access, agent, Clock(), InlineLane(), os.urandom)
            waiting = Deferred.fromCoroutine(count(client))
            agent.flush()
            self.failureResultOf(waiting, CommandError)
