# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes_tap``: from options to a service.
"""

from pathlib import Path

from twisted.application.service import IService
from twisted.python.usage import UsageError
from zope.interface.verify import verifyObject

from kypello.kes_tap import Options, makeService
from tests.cases import SyncCase

_CONFIG = """\
admin: {identity: disabled}
tls: {key: server.key, cert: server.crt}
keystore: {fs: {path: keys}}
"""


class TapTests(SyncCase):
    """
    ``twistd kypello-kes`` makes a key server.
    """

    def options(self, text: str) -> Options:
        """
        Options that name a file with this text.
        """
        self.path = Path(self.mktemp())
        self.path.write_text(text)
        options = Options()
        options.parseOptions(["--config", str(self.path)])
        return options

    def test_service(self) -> None:
        """
        A good file gives a service that has touched nothing yet.
        """
        self.assertTrue(verifyObject(IService, makeService(self.options(_CONFIG))))
        self.assertFalse(Path("keys").exists())

    def test_mistakes(self) -> None:
        """
        All mistakes of a file are usage errors, told at once.
        """
        with self.assertRaises(UsageError) as caught:
            self.options("version: v2\n")
        lines = str(caught.exception).splitlines()
        self.assertEqual(len(lines), 5)
        self.assertEqual(lines[0], f"{self.path}:1: version: must be v1")

    def test_missing(self) -> None:
        """
        A file that is not named, or not there, is a usage error.
        """
        with self.assertRaises(UsageError):
            Options().parseOptions([])
        with self.assertRaises(UsageError) as caught:
            Options().parseOptions(["--config", "no-such-file"])
        self.assertEqual(str(caught.exception), "no-such-file: No such file or directory")
