# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The commands of the documents, run as they stand.

Each ``##`` section of a document is one story: its ``sh`` blocks run in order in one shell and
an empty folder, with the ports of the text replaced by free ones.  A block of another language
is not run.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.server import base_environment

_DOCS = Path(__file__).parents[2] / "docs"
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"\b(?:8200|9000|737[3-9])\b")


def stories(document: str) -> dict[str, str]:
    """
    The sections of a document that have something to run: title to script.
    """
    pieces = _SECTION.split(document)
    found = {}
    for title, text in zip(pieces[1::2], pieces[2::2], strict=True):
        script = "\n".join(_BLOCK.findall(text))
        if script:
            found[title] = script
    return found


class StoriesTests(SyncCase):
    """
    ``stories`` finds what a reader would run.
    """

    def test_sections(self) -> None:
        """
        Blocks of one section are joined, other languages and sections without blocks left out.
        """
        text = "# t\n## a\n```sh\none\n```\nx\n```sh\ntwo\n```\n## b\n```yaml\nno\n```\n"
        self.assertEqual(stories(text), {"a": "one\n\ntwo\n"})


class DocumentCase(SyncCase):
    """
    A test of a document.
    """

    document: str

    def run_story(self, title: str) -> str:
        """
        Run one section, end what it started, and give what it printed.
        """
        script = self.stories()[title]
        ports: dict[str, str] = {}
        script = _PORT.sub(lambda match: ports.setdefault(match[0], str(tools.free_port())), script)
        work = Path(self.mktemp()).resolve()
        work.mkdir(parents=True)
        paths = [str(Path(sys.executable).parent)]
        for tool in ("mc", "kes", "bao"):
            if re.search(rf"\b{tool} ", script):
                paths.append(str(tools.require(tool).parent))
        if "moto_server " in script:
            paths.append(str(tools.client("moto") / "bin"))
        for command in ("curl", "openssl"):
            if command in script and shutil.which(command) is None:
                tools.missing(command)
        output = work / "output"
        with output.open("wb") as printing:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=work,
                env={
                    **base_environment(),
                    "HOME": str(work),
                    "PATH": os.pathsep.join([*paths, os.environ["PATH"]]),
                },
                stdin=subprocess.DEVNULL,
                stdout=printing,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.addCleanup(self.end, process)
        code = process.wait(90)
        printed = output.read_text(encoding="utf-8", errors="replace")
        self.assertEqual(code, 0, f"{title}:\n{printed}")
        return printed

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """
        End the shell and everything it started.
        """
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        process.wait()

    def stories(self) -> dict[str, str]:
        """
        The sections of the document.
        """
        return stories((_DOCS / self.document).read_text(encoding="utf-8"))


class KMSGuideTests(DocumentCase):
    """
    ``docs/kms-guide.md``.
    """

    document = "kms-guide.md"

    def test_every_story_is_run(self) -> None:
        """
        No section with commands is left out of the tests below.
        """
        self.assertEqual(
            set(self.stories()),
            {
                "Quick start",
                "A key server of your own",
                "The original KES",
                "Several servers, several key servers",
                "Encrypt a bucket with mc",
                "Auto-encryption",
                "An encrypted private key",
            },
        )

    def test_quick_start(self) -> None:
        """
        The quick start ends with an object that is AES256.
        """
        self.assertIn("AES256", self.run_story("Quick start"))

    def test_own_key_server(self) -> None:
        """
        Our key server, started by hand, serves a Kypello server.
        """
        self.assertIn("AES256", self.run_story("A key server of your own"))

    def test_original(self) -> None:
        """
        The original KES serves a Kypello server.
        """
        self.assertIn("AES256", self.run_story("The original KES"))

    def test_several(self) -> None:
        """
        Two servers and three key servers work together while one key server is stopped.
        """
        self.assertIn("AES256", self.run_story("Several servers, several key servers"))

    def test_mc(self) -> None:
        """
        ``mc encrypt`` sets, shows and clears the default encryption.
        """
        printed = self.run_story("Encrypt a bucket with mc")
        self.assertIn("Auto encryption 'sse-s3' is enabled", printed)

    def test_auto(self) -> None:
        """
        Auto-encryption encrypts what asks for nothing, and the plaintext is not on disk.
        """
        printed = self.run_story("Auto-encryption")
        self.assertIn("AES256", printed)
        self.assertIn("no plaintext on disk", printed)

    def test_encrypted_key(self) -> None:
        """
        A password-protected private key opens with its password.
        """
        self.assertIn("AES256", self.run_story("An encrypted private key"))


class KeyServerTests(DocumentCase):
    """
    ``docs/key-server.md``.  Its configurations of proxies are for the tests of these.
    """

    document = "key-server.md"

    def test_every_story_is_run(self) -> None:
        """
        No section with commands is left out of the tests below.
        """
        self.assertEqual(set(self.stories()), {"Start one"})

    def test_start(self) -> None:
        """
        A key is made, counted, and tells its fingerprint.
        """
        self.assertIn('"fingerprint":"', self.run_story("Start one"))


class KeyServerCommandsTests(DocumentCase):
    """
    ``docs/kes-commands.md``.
    """

    document = "kes-commands.md"

    def test_every_story_is_run(self) -> None:
        """
        No section with commands is left out of the tests below.
        """
        self.assertEqual(
            set(self.stories()),
            {"A server in a minute", "Move keys", "The audit log as evidence"},
        )

    def test_every_command_is_told(self) -> None:
        """
        The table has all commands that there are.
        """
        text = (_DOCS / self.document).read_text(encoding="utf-8")
        table = text.partition("| command | what |")[2].partition("\n\n")[0]
        told = set(re.findall(r"^\| `(\w+)", table, re.MULTILINE)) | {"status", "metric"}
        self.assertEqual(told, set(_commands()))

    def test_server(self) -> None:
        """
        A server is made, and both clients use it.
        """
        printed = self.run_story("A server in a minute")
        self.assertIn('["first","my-key"]', printed)
        self.assertTrue(printed.endswith("Key\nfirst\nmy-key\n"), printed)

    def test_migration(self) -> None:
        """
        Keys are moved under a passphrase.
        """
        printed = self.run_story("Move keys")
        self.assertIn("1 keys would be migrated; nothing was changed.\n", printed)
        self.assertIn("Migrated 1 keys successfully!\n", printed)
        self.assertIn('"present": 1', printed)

    def test_audit(self) -> None:
        """
        The chain is unbroken across files, until somebody changes a line.
        """
        printed = self.run_story("The audit log as evidence")
        self.assertIn("The chain is unbroken up to record ", printed)
        self.assertRegex(printed, r"BROKEN made/audit.log.1:\d+: was changed")


def _commands() -> list[str]:
    """
    The names of all commands of the key server.
    """
    done = subprocess.run(
        [sys.executable, "-m", "kypello.cli", "kes", "--help"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return re.findall(r"^    (\w+)  ", done.stdout, re.MULTILINE)


class KeystoresTests(DocumentCase):
    """
    ``docs/keystores.md``.
    """

    document = "keystores.md"

    def test_every_story_is_run(self) -> None:
        """
        No section with commands is left out of the tests below.
        """
        self.assertEqual(
            set(self.stories()),
            {"HashiCorp Vault and OpenBao", "AWS Secrets Manager", "Sealed files"},
        )

    def test_vault(self) -> None:
        """
        OpenBao has the key that was made.
        """
        self.assertIn("my-first-key", self.run_story("HashiCorp Vault and OpenBao"))

    def test_aws(self) -> None:
        """
        A key of the configuration is a secret of AWS, as an emulator has it.
        """
        printed = self.run_story("AWS Secrets Manager")
        self.assertIn("kypello/my-key", printed)
        self.assertIn("SecretString", printed)

    def test_sealed(self) -> None:
        """
        The file of the master key is sealed.
        """
        printed = self.run_story("Sealed files")
        self.assertIn("kypello-sealed:v1:argon2id:65536:3", printed)
