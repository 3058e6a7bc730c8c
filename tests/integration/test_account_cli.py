# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The commands for accounts as people and scripts run them, against real servers.
"""

import json
import subprocess
import sys
from pathlib import Path

from tests.cases import SyncCase
from tests.integration.server import ACCESS_KEY, SECRET_KEY, ServerProcess, base_environment
from tests.integration.test_clients import ClientCase
from tests.integration.tools import free_port
from tests.kes.certificates import certificate, key_pem, new_key, pem

_POLICY = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:ListAllMyBuckets"],'
    '"Resource":["arn:aws:s3:::*"]}]}'
)


def run(
    work: Path, endpoint: str, *arguments: str, given: str = "", root: bool = True
) -> tuple[int, str, str]:
    """
    Run ``kypello``: exit code, output, errors.

    :param given: What it reads.
    :param root: Whether the environment names the root user.
    """
    settings = {"KYPELLO_ENDPOINT": endpoint, "HOME": str(work)}
    if root:
        settings |= {"KYPELLO_ROOT_USER": ACCESS_KEY, "KYPELLO_ROOT_PASSWORD": SECRET_KEY}
    done = subprocess.run(
        [sys.executable, "-m", "kypello.cli", *arguments],
        env={**base_environment(), **settings},
        cwd=work,
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class CommandTests(ClientCase):
    """
    Against a server without TLS.
    """

    def run_command(
        self, *arguments: str, given: str = "", root: bool = True
    ) -> tuple[int, str, str]:
        """
        Run a command against the server.
        """
        return run(self.work, self.server.endpoint, *arguments, given=given, root=root)

    def test_day(self) -> None:
        """
        A user is made with a secret from standard input and gets a policy; with it, it asks in
        its own name, by a key that it makes for itself too, and is refused the rest.
        """
        code, out, err = self.run_command(
            "user", "add", "alice", "--secret-file", "-", given="alice-secret\n"
        )
        self.assertEqual((code, out, err), (0, "User alice has this secret key now.\n", ""))
        code, out, _err = self.run_command("policy", "create", "see", "-", given=_POLICY)
        self.assertEqual((code, out), (0, "Policy see is kept.\n"))
        code, out, _err = self.run_command("policy", "attach", "see", "--user", "alice")
        self.assertEqual((code, out), (0, "User alice got: see.\n"))
        code, out, _err = self.run_command("user", "ls")
        self.assertEqual(
            (code, out),
            (0, "USER   STATUS   POLICIES  GROUPS\nalice  enabled  see       -\n"),
        )
        own = ("--as", "alice", "--as-secret-file", "-")
        code, out, _err = self.run_command(
            "key", "create", *own, "--json", given="alice-secret", root=False
        )
        made = json.loads(out)
        self.assertEqual((code, made["expires"]), (0, "never"))
        code, out, err = self.run_command(
            "user",
            "ls",
            "--as",
            made["access_key"],
            "--as-secret-file",
            "-",
            given=made["secret_key"],
            root=False,
        )
        self.assertEqual((code, out), (1, ""))
        self.assertEqual(err, "Error: these credentials may not do this (AccessDenied)\n")
        self.assertNotIn("alice-secret", self.server.log)

    def test_alias(self) -> None:
        """
        The aliases of ``mc`` will do, and its file is left as it is.
        """
        folder = self.work / ".mc"
        folder.mkdir()
        alias = {"url": self.server.endpoint, "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
        text = json.dumps({"version": "10", "aliases": {"here": alias}})
        (folder / "config.json").write_text(text)
        code, out, _err = self.run_command("policy", "ls", "--alias", "here", "--json", root=False)
        self.assertEqual(code, 0)
        self.assertIn({"policy": "readwrite"}, [json.loads(line) for line in out.splitlines()])
        self.assertEqual((folder / "config.json").read_text(), text)

    def test_mistakes(self) -> None:
        """
        What cannot be done ends with 1, without a trace and without a secret; wrong arguments end
        with 2.
        """
        for arguments, part in (
            (("user", "ls"), "whose credentials"),
            (("user", "ls", "--as", "nobody"), "no terminal"),
            (("user", "ls", "--alias", "none"), "no such file"),
        ):
            code, out, err = self.run_command(*arguments, root=False)
            self.assertEqual((code, out), (1, ""))
            self.assertIn(part, err)
            self.assertEqual(len(err.splitlines()), 1, err)
        code, _out, err = run(self.work, f"http://127.0.0.1:{free_port()}", "user", "ls")
        self.assertEqual(code, 1)
        self.assertIn("it refuses connections", err)
        self.assertNotIn(SECRET_KEY, err)
        code, _out, err = self.run_command("user", "frobnicate")
        self.assertEqual(code, 2)
        self.assertIn("invalid choice", err)


class HTTPSTests(SyncCase):
    """
    Against a server with a certificate that no authority has signed.
    """

    def test_trust(self) -> None:
        """
        The server is asked when its certificate is trusted and names it, and never otherwise.
        """
        work = Path(self.mktemp()).resolve()
        certs = work / "certs"
        certs.mkdir(parents=True)
        key = new_key()
        (certs / "private.key").write_bytes(key_pem(key))
        (certs / "public.crt").write_bytes(pem(certificate(key)))
        (work / "other.crt").write_bytes(pem(certificate(new_key())))
        arguments = ("--certs-dir", str(certs))
        server = ServerProcess(work / "data", {}, arguments, "https")
        server.start()
        self.addCleanup(server.stop)
        trusted = ("group", "ls", "--ca", str(certs / "public.crt"))
        self.assertEqual(run(work, server.endpoint, *trusted), (0, "", "There are no groups.\n"))
        for named in ((), ("--ca", str(work / "other.crt"))):
            code, _out, err = run(work, server.endpoint, "group", "ls", *named)
            self.assertEqual(code, 1)
            self.assertIn("its certificate is not trusted", err)
        plain = server.endpoint.replace("https", "http")
        code, _out, err = run(work, plain, *trusted)
        self.assertEqual(code, 1)
        self.assertIn("Error: This port speaks HTTPS", err)
        self.assertNotIn("AccessDenied", server.log)
