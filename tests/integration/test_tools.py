# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``tests.integration.tools``.
"""

import socket
from pathlib import Path
from unittest import SkipTest

from tests.cases import SyncCase
from tests.integration import tools


class RequireTests(SyncCase):
    """
    ``require`` finds a program, or says how to get it.
    """

    def setUp(self) -> None:
        """
        An empty folder of tools, and an empty search path.
        """
        self.built = Path(self.mktemp())
        self.installed = Path(self.mktemp())
        self.environment = {"KYPELLO_TOOLS": str(self.built), "PATH": str(self.installed)}

    def put(self, folder: Path, name: str, says: str = "") -> Path:
        """
        A program that prints something.
        """
        folder.mkdir(exist_ok=True)
        path = (folder / name).absolute()
        path.write_text(f"#!/bin/sh\necho '{says}'\n")
        path.chmod(0o755)
        return path

    def test_built(self) -> None:
        """
        What was built for the tests goes before what is installed.
        """
        installed = self.put(self.installed, "kes")
        self.assertEqual(tools.require("kes", self.environment), installed)
        built = self.put(self.built, "kes")
        self.assertEqual(tools.require("kes", self.environment), built)

    def test_file_manager(self) -> None:
        """
        An installed ``mc`` is taken unless it is Midnight Commander.
        """
        self.put(self.installed, "mc", "GNU Midnight Commander 4.8.29")
        with self.assertRaises(SkipTest):
            tools.require("mc", self.environment)
        path = self.put(self.installed, "mc", "mc version RELEASE.2025-03-13T08-02-18Z")
        self.assertEqual(tools.require("mc", self.environment), path)

    def test_missing(self) -> None:
        """
        What is missing skips the test, with the way to get it; where all is required it fails.
        """
        for name, recipe in (
            ("mc", "make tools"),
            ("no-such-tool", "apt-get install no-such-tool"),
        ):
            message = f"{name} is not installed: {recipe}"
            with self.assertRaises(SkipTest) as skipped:
                tools.require(name, self.environment)
            self.assertEqual(str(skipped.exception), message)
            with self.assertRaises(AssertionError) as failed:
                tools.require(name, {**self.environment, "KYPELLO_REQUIRE": "1"})
            self.assertEqual(str(failed.exception), message)


class FreePortTests(SyncCase):
    """
    ``free_port`` gives ports to listen on.
    """

    def test_free(self) -> None:
        """
        One can listen on it, and the kernel does not give it to a client meanwhile.
        """
        port = tools.free_port()
        self.assertLess(port, 32768)
        socket.create_server(("127.0.0.1", port)).close()
