# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes_cli``: the commands around identities.
"""

import io
import re
import stat
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kypello.kes_cli import main
from tests.cases import SyncCase
from tests.kes.certificates import certificate, new_key, pem

_API_KEY = "kes:v1:ACQpoGqx3rHHjT938Hfu5hVVQJHZWSqVI2Xp1KlYxFVw"
_IDENTITY = "0426fa9a04bc2756b92fbe8a97e1a1e07b53ecf04ed33da22c33e5c9faeb8cbb"


class CommandCase(SyncCase):
    """
    A test that runs commands.
    """

    def setUp(self) -> None:
        """
        A folder for files.
        """
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.key, self.cert = self.folder / "a.key", self.folder / "a.crt"

    def run_command(self, *arguments: str) -> tuple[int, str, str]:
        """
        Run ``kypello kes``: exit code, output, errors.
        """
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = main(arguments)
            except SystemExit as ended:
                code = int(str(ended.code))
        return code, out.getvalue(), err.getvalue()

    def new(self, *arguments: str) -> tuple[int, str, str]:
        """
        Run ``identity new`` with both files.
        """
        files = ("--key", str(self.key), "--cert", str(self.cert))
        return self.run_command("identity", "new", *files, *arguments)


class IdentityOfTests(CommandCase):
    """
    ``identity of`` computes identities.
    """

    def test_api_key(self) -> None:
        """
        The identity of an API key is printed alone, as for KES's published example.
        """
        self.assertEqual(self.run_command("identity", "of", _API_KEY), (0, _IDENTITY + "\n", ""))

    def test_certificate(self) -> None:
        """
        The first certificate of a file counts, that of an authority too.
        """
        self.new("--force")
        _code, own, _err = self.run_command("identity", "of", str(self.cert))
        chain = self.folder / "chain.crt"
        chain.write_bytes(self.cert.read_bytes() + pem(certificate(new_key(), True)))
        self.assertEqual(self.run_command("identity", "of", str(chain)), (0, own, ""))
        chain.write_bytes(pem(certificate(new_key(), True)))
        code, other, _err = self.run_command("identity", "of", str(chain))
        self.assertEqual((code, len(other)), (0, 65))

    def test_mistakes(self) -> None:
        """
        What has no identity is an error, and a mistyped secret is not repeated.
        """
        code, out, err = self.run_command("identity", "of", _API_KEY[:-1])
        self.assertEqual((code, out), (1, ""))
        self.assertNotIn("ACQpo", err)
        self.key.write_bytes(b"junk")
        for path in (self.key, self.folder / "missing"):
            code, out, err = self.run_command("identity", "of", str(path))
            self.assertEqual((code, out), (1, ""))
            self.assertTrue(err.startswith(f"Error: {path}"), err)


class IdentityNewTests(CommandCase):
    """
    ``identity new`` makes identities.
    """

    def test_api_key(self) -> None:
        """
        Without files a fresh API key and its identity are printed, each on a line of its own.
        """
        code, out, _err = self.run_command("identity", "new")
        self.assertEqual(code, 0)
        found = re.search(r"^ +(kes:v1:\S{44})$", out, re.MULTILINE)
        assert found is not None
        _code, identity, _err = self.run_command("identity", "of", found.group(1))
        self.assertIn(f"   {identity}", out)
        self.assertEqual(out.count("kes:v1:"), 1)

    def test_files(self) -> None:
        """
        With files, the key is for its owner alone and the certificate holds what was asked for.
        """
        code, out, _err = self.new(
            "--ip", "127.0.0.1,::1", "--dns", "localhost", "--expiry", "48h", "Client-1"
        )
        self.assertEqual(code, 0)
        self.assertEqual(stat.S_IMODE(self.key.stat().st_mode), 0o600)
        found = x509.load_pem_x509_certificate(self.cert.read_bytes())
        self.assertEqual(found.subject.rfc4514_string(), "CN=Client-1")
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["localhost"])
        self.assertEqual(
            [str(one) for one in names.get_values_for_type(x509.IPAddress)], ["127.0.0.1", "::1"]
        )
        lifetime = found.not_valid_after_utc - found.not_valid_before_utc
        self.assertEqual(lifetime.days, 3)  # one of them in the past, for clocks that are behind
        _code, identity, _err = self.run_command("identity", "of", str(self.cert))
        self.assertIn(f"   {identity}", out)
        private = load_pem_private_key(self.key.read_bytes(), None)
        self.assertEqual(private.public_key(), found.public_key())

    def test_overwriting(self) -> None:
        """
        Existing files stay unless told otherwise.
        """
        self.assertEqual(self.new()[0], 0)
        before = self.key.read_bytes()
        code, _out, err = self.new()
        self.assertEqual((code, self.key.read_bytes()), (1, before))
        self.assertIn("already exists", err)
        self.assertEqual(self.new("--force")[0], 0)
        self.assertNotEqual(self.key.read_bytes(), before)

    def test_mistakes(self) -> None:
        """
        Options that do not fit each other are errors, and nothing is written.
        """
        for arguments in (
            ("--key", str(self.key)),
            ("--cert", str(self.cert)),
            ("--ip", "127.0.0.1"),
            ("--encrypt",),
            ("--expiry", "1h"),
        ):
            code, out, err = self.run_command("identity", "new", *arguments)
            self.assertEqual((code, out), (1, ""))
            self.assertTrue(err.startswith("Error: "))
        self.assertEqual(self.new("--expiry", "soon")[0], 1)
        self.assertEqual(self.new("--ip", "localhost")[0], 2)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_unwritable(self) -> None:
        """
        A file that cannot be written is named.
        """
        self.key = self.folder / "missing" / "a.key"
        code, _out, err = self.new()
        self.assertEqual(code, 1)
        self.assertIn(str(self.key), err)


class ServerTests(CommandCase):
    """
    ``server`` refuses what it cannot run.
    """

    def test_mistakes(self) -> None:
        """
        Every mistake of the configuration is printed.
        """
        config = self.folder / "kes.yml"
        config.write_text("version: v2\n")
        code, out, err = self.run_command("server", "--config", str(config))
        self.assertEqual((code, out, err.count("Error: ")), (1, "", 5))

    def test_usage(self) -> None:
        """
        An unknown command, or none, prints the usage.
        """
        for arguments in ((), ("nonsense",), ("server",), ("identity",)):
            code, _out, err = self.run_command(*arguments)
            self.assertEqual(code, 2)
            self.assertIn("usage: kypello kes", err)
