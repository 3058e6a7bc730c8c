# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for the commands for accounts, and the client of the administration API, in memory.
"""

import io
import json
import os
from base64 import b64decode
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from kypello.account_cli import main
from kypello.admincli.arguments import GROUPS, parser
from kypello.admincli.screen import Screen
from kypello.admincli.target import CommandError, Surroundings, Wanted, find_access, make_agent
from kypello.admincli.work import Inputs, Work, gather
from kypello.adminclient import MAX_ANSWER, PATIENCE, Access, AdminClient, CallRefused, NoAnswer
from kypello.testing.fakes import InlineLane
from tests.admin.front import ROOT, AdminCase, Signer, policy
from tests.cases import SyncCase
from tests.iam.archives import key, minio_assets, zipped

_CONFIG = {
    "version": "10",
    "aliases": {
        "k": {
            "url": "https://s3.example.com/",
            "accessKey": "of-alias",
            "secretKey": "secret-of-alias",
            "api": "s3v4",
            "path": "auto",
        },
        "broken": {"url": "https://s3.example.com"},
    },
}


def around(
    variables: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    answers: list[str] | None = None,
) -> Surroundings:
    """
    A process with these variables and files, and a person who answers in this order.
    """
    said = iter(answers or ())
    ask = None if answers is None else lambda _prompt: next(said)
    return Surroundings(variables or {}, (files or {}).get, ask, Path("/home/somebody"))


class TargetTests(SyncCase):
    """
    Which server is asked, and in whose name.
    """

    def refused(self, wanted: Wanted, place: Surroundings) -> str:
        """
        Why it cannot be told.
        """
        with self.assertRaises(CommandError) as caught:
            find_access(wanted, place)
        return str(caught.exception)

    def test_environment(self) -> None:
        """
        The variables of Kypello and MinIO go before those of AWS.
        """
        amazon = {
            "AWS_ACCESS_KEY_ID": "of-aws",
            "AWS_SECRET_ACCESS_KEY": "secret-of-aws",
            "AWS_SESSION_TOKEN": "token",
        }
        self.assertEqual(
            find_access(Wanted(), around(amazon)),
            Access("http://127.0.0.1:9000", "of-aws", "secret-of-aws", "token"),
        )
        server = {"KYPELLO_ENDPOINT": "https://host:9000", "MINIO_ROOT_USER": "root"}
        found = find_access(
            Wanted(),
            around(
                {**amazon, **server, "KYPELLO_ROOT_PASSWORD_FILE": "/password"},
                {"/password": "of-root\n"},
            ),
        )
        self.assertEqual(found, Access("https://host:9000", "root", "of-root"))

    def test_alias(self) -> None:
        """
        An alias is that of ``mc``, wherever it keeps it; an endpoint that is given goes before.
        """
        files = {"/home/somebody/.mc/config.json": json.dumps(_CONFIG)}
        expected = Access("https://s3.example.com", "of-alias", "secret-of-alias")
        self.assertEqual(find_access(Wanted(alias="k"), around({}, files)), expected)
        elsewhere = around({"MC_CONFIG_DIR": "/mc"}, {"/mc/config.json": json.dumps(_CONFIG)})
        self.assertEqual(find_access(Wanted(alias="k"), elsewhere), expected)
        told = {"MC_HOST_k": "http://of-host:with%2Fsign:token@host:9000"}
        self.assertEqual(
            find_access(Wanted(alias="k"), around(told)),
            Access("http://host:9000", "of-host", "with/sign", "token"),
        )

    def test_bad_alias(self) -> None:
        """
        An alias that is not there, or makes no sense, is refused; no secret is repeated.
        """
        for name, files, part in (
            ("other", {"/home/somebody/.mc/config.json": json.dumps(_CONFIG)}, "no alias other"),
            ("broken", {"/home/somebody/.mc/config.json": json.dumps(_CONFIG)}, "no alias broken"),
            ("k", {"/home/somebody/.mc/config.json": "[1]"}, "not a configuration"),
            ("k", {"/home/somebody/.mc/config.json": "{"}, "not a configuration"),
            ("k", {}, "no such file"),
        ):
            self.assertIn(part, self.refused(Wanted(alias=name), around({}, files)))
        told = {"MC_HOST_k": "of-host:a-secret@host"}
        message = self.refused(Wanted(alias="k"), around(told))
        self.assertNotIn("a-secret", message)

    def test_given(self) -> None:
        """
        Who is named asks with a secret from a file, standard input or the terminal.
        """
        named = Wanted("http://[::1]:9000", access_key="me", secret_file="-")
        expected = Access("http://[::1]:9000", "me", "my secret")
        self.assertEqual(find_access(named, around({}, {"-": "my secret\n"})), expected)
        asked = Wanted("http://[::1]:9000", access_key="me")
        self.assertEqual(find_access(asked, around(answers=["my secret"])), expected)
        self.assertIn("no terminal", self.refused(asked, around()))
        self.assertIn("empty", self.refused(asked, around(answers=[""])))
        self.assertIn("one line", self.refused(named, around({}, {"-": "two\nlines"})))
        self.assertIn("goes with --as", self.refused(Wanted(secret_file="-"), around()))

    def test_nobody(self) -> None:
        """
        Without credentials it says where they can come from.
        """
        for variables in ({}, {"KYPELLO_ROOT_USER": "me"}, {"AWS_ACCESS_KEY_ID": "me"}):
            message = self.refused(Wanted(), around(variables))
            self.assertIn("KYPELLO_ROOT_USER", message)
            self.assertIn("--alias", message)

    def test_endpoints(self) -> None:
        """
        An endpoint is scheme, host and port; a default port is left out, as clients sign it.
        """
        variables = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}
        for given, expected in (
            ("http://host", "http://host"),
            ("http://host:80/", "http://host"),
            ("https://host:443", "https://host"),
            ("https://host:80", "https://host:80"),
        ):
            found = find_access(Wanted(given), around(variables))
            self.assertEqual(found.endpoint, expected)
        for given in (
            "host:9000",
            "ftp://host",
            "http://",
            "http://host/path",
            "http://host?a=b",
            "http://host:0",
            "http://host:port",
            "http://me:secret@host",
            "http://höst",
        ):
            message = self.refused(Wanted(given), around(variables))
            self.assertIn("is no endpoint", message)
            self.assertNotIn("secret", message)

    def test_in_clear(self) -> None:
        """
        Who sends secrets over a network without TLS is told by the endpoint.
        """
        for endpoint, expected in (
            ("http://host", True),
            ("http://192.0.2.1:9000", True),
            ("http://[2001:db8::1]:9000", True),
            ("https://host", False),
            ("http://localhost:9000", False),
            ("http://127.0.0.2:9000", False),
            ("http://[::1]:9000", False),
        ):
            self.assertIs(Access(endpoint, "me", "secret").in_clear, expected, endpoint)

    def test_repr(self) -> None:
        """
        What is shown holds no secret.
        """
        access = Access("http://host", "me", "a-secret", "a-token")
        shown = repr([access, around({"AWS_SECRET_ACCESS_KEY": "a-secret"}), Inputs("a-secret")])
        self.assertNotIn("a-secret", shown)
        self.assertNotIn("a-token", shown)

    def test_authorities(self) -> None:
        """
        A file with authorities that holds none is refused.
        """
        for text in ("", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"):
            with self.assertRaises(CommandError):
                make_agent(Clock(), "/ca", around({}, {"/ca": text}))
        with self.assertRaises(CommandError):
            make_agent(Clock(), None, around({"AWS_CA_BUNDLE": "/ca"}))


class GatherTests(SyncCase):
    """
    What a command reads before it runs.
    """

    def given(self, *arguments: str, place: Surroundings) -> Inputs:
        """
        What the command with these arguments gets.
        """
        return gather(parser().parse_args(arguments), place, bytes)

    def test_secrets(self) -> None:
        """
        A new secret is asked for twice, read, or made.
        """
        add = ("user", "add", "alice")
        self.assertEqual(self.given(*add, place=around(answers=["new", "new"])).secret, "new")
        with self.assertRaises(CommandError):
            self.given(*add, place=around(answers=["new", "other"]))
        with self.assertRaises(CommandError):
            self.given(*add, place=around())
        given = self.given(*add, "--secret-file", "f", place=around({}, {"f": "from a file\n"}))
        self.assertEqual(given.secret, "from a file")
        made = self.given(*add, "--generate", place=around()).secret
        assert made is not None
        self.assertEqual((len(made), b64decode(made)), (40, bytes(30)))
        self.assertIsNone(self.given("key", "create", place=around()).secret)
        self.assertIsNone(self.given("key", "edit", "KEY", place=around()).secret)

    def test_policies(self) -> None:
        """
        A policy is read from a file, and must be JSON.
        """
        create = ("policy", "create", "p", "-")
        self.assertEqual(self.given(*create, place=around({}, {"-": '{"a": 1}'})).policy, {"a": 1})
        with self.assertRaises(CommandError):
            self.given(*create, place=around({}, {"-": "{"}))
        with self.assertRaises(CommandError):
            self.given("policy", "create", "p", "none", place=around())

    def test_archive(self) -> None:
        """
        An archive that is not there is told.
        """
        with self.assertRaises(CommandError):
            self.given("iam", "import", self.mktemp(), place=around())


class ScreenTests(SyncCase):
    """
    What is printed.
    """

    def setUp(self) -> None:
        """
        Print to memory.
        """
        self.out, self.err = io.StringIO(), io.StringIO()

    def test_table(self) -> None:
        """
        A table has columns as wide as they need to be, and nothing that moves a cursor.
        """
        rows = [
            {"user": "alice", "groups": ["a", "b"], "on": True},
            {"user": "b\x1b[2J", "groups": [], "on": False},
        ]
        Screen(self.out, self.err).table(rows, "Nothing.")
        self.assertEqual(
            self.out.getvalue(), "USER   GROUPS  ON\nalice  a, b    yes\nb?[2J  -       no\n"
        )

    def test_nothing(self) -> None:
        """
        An empty table is said to people, and is nothing for scripts.
        """
        Screen(self.out, self.err).table([], "Nothing.")
        Screen(self.out, self.err, json=True).table([], "Nothing.")
        self.assertEqual((self.out.getvalue(), self.err.getvalue()), ("", "Nothing.\n"))

    def test_json(self) -> None:
        """
        For scripts, each thing is an object in a line.
        """
        screen = Screen(self.out, self.err, json=True)
        screen.table([{"user": "alice"}, {"user": "bob"}], "Nothing.")
        screen.facts({"user": "carol"})
        screen.done("It is done.", {"user": "dave"})
        screen.document({"Version": "2012-10-17"})
        told = [json.loads(line) for line in self.out.getvalue().splitlines()]
        self.assertEqual(
            told,
            [{"user": name} for name in ("alice", "bob", "carol", "dave")]
            + [{"Version": "2012-10-17"}],
        )


class ArgumentTests(SyncCase):
    """
    How commands are given.
    """

    def run_command(self, *arguments: str) -> tuple[int, str, str]:
        """
        Run a command: exit code, output, errors.
        """
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = main(arguments)
            except SystemExit as ended:
                code = int(str(ended.code))
        return code, out.getvalue(), err.getvalue()

    def test_help(self) -> None:
        """
        Each group says with examples what it can do, and where the server is named.
        """
        for group in GROUPS:
            code, out, _err = self.run_command(group, "--help")
            self.assertEqual(code, 0)
            self.assertIn(f"kypello {group} ", out)
            self.assertIn("Examples:", out)
            self.assertIn("KYPELLO_ENDPOINT", out)

    def test_wrong(self) -> None:
        """
        Arguments that make no command end with 2.
        """
        for arguments in (
            ("user",),
            ("user", "add"),
            ("group", "add", "staff"),
            ("policy", "attach", "p"),
            ("policy", "attach", "p", "--user", "u", "--group", "g"),
            ("user", "ls", "--alias", "a", "--endpoint", "http://h"),
            ("user", "add", "u", "--generate", "--secret-file", "f"),
        ):
            code, out, _err = self.run_command(*arguments)
            self.assertEqual((code, out), (2, ""), arguments)

    def test_impossible(self) -> None:
        """
        What cannot be done ends with 1 and says why.
        """
        code, out, err = self.run_command("user", "ls", "--endpoint", "nowhere")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("Error: nowhere is no endpoint", err)


class CommandCase(AdminCase):
    """
    A test of commands over the whole administration front.
    """

    def client(self, signer: Signer = ROOT) -> AdminClient:
        """
        A client of the front of this test.
        """
        access = Access("http://kypello.test", signer.access_key, signer.secret_key)
        return AdminClient(access, self.harness.agent(), self.clock, InlineLane(), os.urandom)

    def run_command(
        self,
        *arguments: str,
        inputs: Inputs | None = None,
        by: Signer = ROOT,
        code: int = 0,
        people: bool = False,
    ) -> Any:
        """
        Run a command.

        :param people: Give the text that it prints for people, in place of what scripts get.
        """
        options = parser().parse_args(arguments)
        out, err = io.StringIO(), io.StringIO()
        screen = Screen(out, err, json=not people)
        work = Work(self.client(by), options, inputs or Inputs(), screen)
        self.assertEqual(self.done(options.run(work)), code)
        if people:
            return out.getvalue() + err.getvalue()
        return [json.loads(line) for line in out.getvalue().splitlines()]

    def failed(self, *arguments: str, by: Signer = ROOT, inputs: Inputs | None = None) -> str:
        """
        Why a command fails.
        """
        options = parser().parse_args(arguments)
        screen = Screen(io.StringIO(), io.StringIO())
        work = Work(self.client(by), options, inputs or Inputs(), screen)
        waiting = Deferred.fromCoroutine(options.run(work))
        error = self.failureResultOf(waiting, CallRefused, CommandError).value
        return str(error)


class CommandTests(CommandCase):
    """
    Commands for accounts.
    """

    def add_user(self, name: str) -> Signer:
        """
        Make a user by the command.
        """
        self.run_command("user", "add", name, inputs=Inputs(f"{name}-secret"))
        return Signer(name, f"{name}-secret")

    def test_users(self) -> None:
        """
        A user is made, told, switched off and on, and removed.
        """
        self.assertEqual(self.run_command("user", "ls"), [])
        told = self.run_command("user", "add", "alice", inputs=Inputs("alice-secret"))
        self.assertEqual(told, [{"user": "alice"}])
        alice = {"user": "alice", "status": "enabled", "policies": [], "groups": []}
        self.assertEqual(self.run_command("user", "ls"), [alice])
        self.run_command("user", "disable", "alice")
        self.assertEqual(
            self.run_command("user", "info", "alice"), [{**alice, "status": "disabled"}]
        )
        self.run_command("user", "enable", "alice")
        self.assertEqual(self.run_command("user", "info", "alice"), [alice])
        identity = self.done(self.accounts.identity("alice"))
        self.assertEqual(identity.secret_key, "alice-secret")
        self.run_command("user", "rm", "alice")
        self.assertIn("does not exist", self.failed("user", "info", "alice"))

    def test_generated(self) -> None:
        """
        A secret that was made is shown.
        """
        told = self.run_command("user", "add", "--generate", "alice", inputs=Inputs("made-secret"))
        self.assertEqual(told, [{"user": "alice", "secret_key": "made-secret"}])

    def test_groups(self) -> None:
        """
        A group is made of users, told, switched off and on, and removed when it is empty.
        """
        self.add_user("alice")
        self.add_user("bob")
        self.run_command("group", "add", "staff", "alice", "bob")
        self.assertEqual(self.run_command("group", "ls"), [{"group": "staff"}])
        self.run_command("group", "disable", "staff")
        staff = {"group": "staff", "status": "disabled", "members": ["alice", "bob"]}
        told = self.run_command("group", "info", "staff")
        self.assertEqual(told, [{**staff, "policies": []}])
        self.run_command("group", "enable", "staff")
        self.assertIn("not empty", self.failed("group", "rm", "staff"))
        self.run_command("group", "rm", "staff", "alice", "bob")
        self.run_command("group", "rm", "staff")
        self.assertEqual(self.run_command("group", "ls"), [])
        self.assertIn("does not exist", self.failed("group", "add", "staff", "nobody"))

    def test_policies(self) -> None:
        """
        A policy is kept, given, told with who has it, taken, and removed.
        """
        self.add_user("alice")
        self.run_command("group", "add", "staff", "alice")
        kept = json.loads(policy("s3:GetObject"))
        self.run_command("policy", "create", "reading", "-", inputs=Inputs(policy=kept))
        self.assertIn({"policy": "reading"}, self.run_command("policy", "ls"))
        self.assertEqual(self.run_command("policy", "info", "reading"), [kept])
        told = self.run_command("policy", "attach", "reading", "readwrite", "--user", "alice")
        self.assertEqual(told, [{"user": "alice", "policies": ["reading", "readwrite"]}])
        told = self.run_command("policy", "attach", "reading", "--user", "alice")
        self.assertEqual(told, [{"user": "alice", "policies": []}])
        self.run_command("policy", "attach", "writeonly", "--group", "staff")
        rows = [
            {"kind": "user", "name": "alice", "policies": ["reading", "readwrite"]},
            {"kind": "group", "name": "staff", "policies": ["writeonly"]},
        ]
        self.assertEqual(self.run_command("policy", "entities", "--user", "alice"), rows)
        told = self.run_command("policy", "entities", "--policy", "reading")
        self.assertEqual(told, [{**rows[0], "policies": ["reading"]}])
        [merged] = self.run_command("user", "policy", "alice")
        actions = [action for each in merged["Statement"] for action in each["Action"]]
        self.assertEqual(sorted(actions), ["s3:*", "s3:GetObject", "s3:PutObject"])
        self.run_command("group", "disable", "staff")
        [merged] = self.run_command("user", "policy", "alice")
        self.assertEqual(len(merged["Statement"]), 2)
        self.assertIn("in use", self.failed("policy", "rm", "reading"))
        self.run_command("policy", "detach", "reading", "--user", "alice")
        self.run_command("policy", "rm", "reading")
        self.assertNotIn({"policy": "reading"}, self.run_command("policy", "ls"))

    def test_bad_policy(self) -> None:
        """
        What is wrong with a policy is told as the server tells it.
        """
        broken = Inputs(policy={"Version": "2012-10-17", "Statement": {}})
        message = self.failed("policy", "create", "broken", "-", inputs=broken)
        self.assertIn("XMinioMalformedIAMPolicy", message)

    def test_keys(self) -> None:
        """
        A key is made, told, changed, switched off and on, and removed.
        """
        alice = self.add_user("alice")
        options = ("--name", "laptop", "--expires", self.soon())
        [made] = self.run_command("key", "create", "--user", "alice", *options)
        key = made["access_key"]
        self.assertEqual((len(key), len(made["secret_key"])), (20, 40))
        row = {
            "access_key": key,
            "user": "alice",
            "status": "enabled",
            "expires": self.soon(),
            "name": "laptop",
            "description": "",
        }
        self.assertEqual(self.run_command("key", "ls", "alice"), [row])
        self.assertEqual(self.run_command("key", "ls", by=alice), [row])
        self.assertEqual(self.run_command("key", "ls"), [])
        [told] = self.run_command("key", "ls", "--all")
        self.assertEqual((told["access_key"], told["user"]), (key, "alice"))
        limit = Inputs("another-secret", json.loads(policy("s3:GetObject")))
        self.run_command("key", "edit", key, "--description", "for the road", inputs=limit)
        self.run_command("key", "disable", key)
        row |= {"status": "disabled", "description": "for the road"}
        self.assertEqual(self.run_command("key", "info", key), [{**row, "inherits": False}])
        self.assertIn("s3:GetObject", self.run_command("key", "info", key, people=True))
        self.run_command("key", "enable", key)
        identity = self.done(self.accounts.identity(key))
        self.assertEqual((identity.enabled, identity.secret_key), (True, "another-secret"))
        self.run_command("key", "rm", key)
        self.assertEqual(self.run_command("key", "ls", "--all"), [])

    def test_own_key(self) -> None:
        """
        A user makes a key with access key and secret of their own choice.
        """
        alice = self.add_user("alice")
        chosen = ("key", "create", "--access-key", "my-key", "--policy", "-")
        limit = Inputs("my-secret-key", json.loads(policy("s3:GetObject")))
        told = self.run_command(*chosen, inputs=limit, by=alice)
        expected = {"access_key": "my-key", "secret_key": "my-secret-key", "expires": "never"}
        self.assertEqual(told, [expected])
        self.assertEqual(self.done(self.accounts.key("my-key")).parent, "alice")

    def test_moved(self) -> None:
        """
        What is exported is imported elsewhere: told before, done, and the same the next time.
        """
        self.add_user("alice")
        file = Path(self.mktemp())
        told = self.run_command("iam", "export", str(file))
        content = file.read_bytes()
        self.assertEqual(told, [{"file": str(file), "bytes": len(content)}])
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        self.assertIn("--force", self.failed("iam", "export", str(file)))
        self.assertEqual(file.read_bytes(), content)
        self.run_command("iam", "export", "--force", str(file))
        self.run_command("user", "rm", "alice")
        archive = Inputs(archive=content)
        command = ("iam", "import", str(file))
        text = self.run_command(*command, "--dry-run", inputs=archive, people=True)
        self.assertIn("user  alice  added", text)
        self.assertIn("The same already: 5.", text)
        self.assertIn("Nothing was changed", text)
        self.assertEqual(self.run_command("user", "ls"), [])
        [told] = self.run_command(*command, inputs=archive)
        self.assertIs(told["dry_run"], False)
        outcomes = {one["name"]: one["outcome"] for one in told["details"]}
        self.assertEqual(outcomes["alice"], "added")
        text = self.run_command(*command, inputs=archive, people=True)
        self.assertEqual(text.splitlines()[1:], ["The same already: 6."])
        self.assertIn("Warning: without TLS", text)

    def test_partly_moved(self) -> None:
        """
        What fails, or is left out, is told with the reason, and ends with 1.
        """
        assets = {"users": {"x": {"secretKey": "12345678"}}, "svcaccts": {"KEY": key("old")}}
        archive = Inputs(archive=zipped(assets))
        text = self.run_command("iam", "import", "f", inputs=archive, code=1, people=True)
        self.assertIn("--old-root", text)
        self.assertIn("FAILED", text)
        assets = {"svcaccts": {"KEY": key("old")}}
        archive = Inputs(archive=zipped(assets))
        self.run_command("iam", "import", "--old-root", "old", "f", inputs=archive)
        self.assertEqual(self.done(self.accounts.key("KEY")).parent, ROOT.access_key)
        message = self.failed("iam", "import", "f", inputs=Inputs(archive=b"junk"))
        self.assertIn("not a zip archive", message)

    def test_rights(self) -> None:
        """
        Exports and imports need their rights, and an import those of what it does; the keys of
        the root user come from nobody else, nor from a key of its own.
        """
        alice = self.make_user("alice", policy("admin:ImportIAM", "admin:CreateUser"))
        self.assertIn("may not do this", self.failed("iam", "export", self.mktemp(), by=alice))
        bob = self.make_user("bob", policy("admin:ExportIAM"))
        archive = Inputs(archive=zipped(minio_assets()))
        self.assertIn("may not do", self.failed("iam", "import", "f", by=bob, inputs=archive))
        assets = {
            "users": {"carol": {"secretKey": "carol-secret", "status": "enabled"}},
            "groups": {"staff": {"members": ["carol"]}},
        }
        archive = Inputs(archive=zipped(assets))
        [told] = self.run_command("iam", "import", "f", by=alice, inputs=archive, code=1)
        self.assertEqual([one["outcome"] for one in told["details"]], ["added", "failed"])
        self.assertIn("admin:AddUserToGroup", told["details"][1]["reason"])
        rooted = Inputs(archive=zipped({"svcaccts": {"KEY": key(ROOT.access_key)}}))
        own = self.make_key(ROOT)
        for signer in (self.make_user("dave", policy("admin:*")), own):
            [told] = self.run_command("iam", "import", "f", by=signer, inputs=rooted, code=1)
            self.assertEqual(told["details"][0]["outcome"], "failed")

    def test_wrong_secret(self) -> None:
        """
        A wrong secret, and an unknown key, are told plainly.
        """
        self.assertIn("wrong", self.failed("user", "ls", by=Signer(ROOT.access_key, "wrong-one")))
        self.assertIn("does not know", self.failed("user", "ls", by=Signer("nobody", "a-secret")))

    def soon(self) -> str:
        """
        A time in a few days, as commands take it.
        """
        moment = datetime.fromtimestamp(int(self.clock.seconds()) + 5 * 86400, UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class ClientTests(SyncCase):
    """
    A client in front of servers that are none.
    """

    def failed(self, status: int, content: bytes, sealed: bool = False) -> str:
        """
        What the client says of an answer.
        """
        found = Failing(status, content)
        agent = RequestTraversalAgent(found)
        access = Access("http://host", "me", "a-secret-key")
        client = AdminClient(access, agent, Clock(), InlineLane(), os.urandom)

        async def ask() -> object:
            """
            Make a call, and read the answer.
            """
            answer = await client.call("PUT", "add-user", [("accessKey", "a b/ü")], b"body")
            return await client.unseal(answer) if sealed else client.read(answer)

        waiting = Deferred.fromCoroutine(ask())
        agent.flush()
        failure = self.failureResultOf(waiting, CallRefused, NoAnswer)
        self.assertEqual(found.uri, b"/minio/admin/v3/add-user?accessKey=a%20b%2F%C3%BC")
        self.assertNotIn("a-secret-key", repr(failure.value) + str(failure.value))
        return str(failure.value)

    def test_errors(self) -> None:
        """
        Errors in JSON and XML are told in the words of the server, others by their status.
        """
        for status, content, expected in (
            (400, b'{"Code":"Odd","Message":"It is odd."}', "It is odd (Odd)"),
            (404, b"<Error><Code>C</Code><Message>M</Message></Error>", "M (C)"),
            (403, b'{"Code":"AccessDenied","Message":"No."}', "may not do this (AccessDenied)"),
            (426, b'{"Code":"X","Message":"Y"}', "does not know this call"),
            (502, b"<html>Bad Gateway", "status 502"),
            (500, b"[]", "status 500"),
            (500, b"", "status 500"),
            (500, b'<!DOCTYPE a [<!ENTITY b "c">]><Error><Code>&b;</Code></Error>', "status 500"),
        ):
            self.assertIn(expected, self.failed(status, content))

    def test_redirect(self) -> None:
        """
        A redirect is not followed: who is signed for one server does not go to another.
        """
        self.assertIn("status 307", self.failed(307, b""))

    def test_answers(self) -> None:
        """
        Answers that make no sense, or never end, are told.
        """
        self.assertIn("not JSON", self.failed(200, b"<html>"))
        self.assertIn("not encrypted", self.failed(200, b"<html>", sealed=True))
        self.assertIn("too long", self.failed(200, bytes(MAX_ANSWER + 1)))

    def test_silence(self) -> None:
        """
        A server that does not answer is given up in the end.
        """
        clock = Clock()
        agent = RequestTraversalAgent(Failing(0, b""))
        access = Access("http://host", "me", "a-secret-key")
        client = AdminClient(access, agent, clock, InlineLane(), os.urandom)
        waiting = Deferred.fromCoroutine(client.call("GET", "groups"))
        self.assertNoResult(waiting)
        clock.advance(PATIENCE)
        failure = self.failureResultOf(waiting, NoAnswer)
        self.assertEqual(str(failure.value), "http://host: it does not answer")

    def test_cancelled(self) -> None:
        """
        Who is not interested any more ends a call, which is no failure of the server.
        """
        agent = RequestTraversalAgent(Failing(0, b""))
        access = Access("http://host", "me", "a-secret-key")
        client = AdminClient(access, agent, Clock(), InlineLane(), os.urandom)
        waiting = Deferred.fromCoroutine(client.call("GET", "groups"))
        self.assertNoResult(waiting)
        waiting.cancel()
        agent.flush()
        self.failureResultOf(waiting, CancelledError)


class Failing(Resource):
    """
    Answers everything the same; status 0 is no answer.
    """

    isLeaf = True

    def __init__(self, status: int, content: bytes) -> None:
        """
        Answer so.
        """
        Resource.__init__(self)
        self.status, self.content, self.uri = status, content, b""

    def render(self, request: Request) -> bytes | int:
        """
        Called by Twisted.
        """
        self.uri = request.uri
        if not self.status:
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        request.setHeader(b"location", b"http://elsewhere/")
        return self.content
