# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.tap`` and the plugins: from options to a service.
"""

import os
from pathlib import Path

from twisted.application.service import IService, IServiceMaker, MultiService
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from zope.interface.verify import verifyObject

from kypello.kmsconfig import StaticKeySettings
from kypello.service import Server
from kypello.supervisor import Supervisor
from kypello.tap import Options, application_service, makeService
from tests.cases import SyncCase

_STATIC = "my-key:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="


class TapCase(SyncCase):
    """
    A test with an environment of its own.
    """

    def setUp(self) -> None:
        """
        Set one static key, and nothing else.
        """
        self.directory = Path(self.mktemp())
        self.environment: dict[str, str] = {"MINIO_KMS_SECRET_KEY": _STATIC, "MINIO_WORKERS": "1"}
        self.patch(os, "environ", {**self.environment, "HOME": self.mktemp()})

    def options(self, *arguments: str) -> Options:
        """
        Parse a command line.
        """
        options = Options()
        options.parseOptions(arguments)
        return options

    def checked(self, service: IService) -> Server:
        """
        See that a service is an object server that does not run.
        """
        self.assertTrue(verifyObject(IService, service))
        assert isinstance(service, Server)
        self.addCleanup(service.prepared.directory.close)
        self.assertFalse(service.running)
        return service


class TapTests(TapCase):
    """
    ``twistd kypello`` makes an object server.
    """

    def test_plugins(self) -> None:
        """
        twistd finds both daemons.
        """
        found = {maker.tapname: maker.module for maker in getPlugins(IServiceMaker)}
        self.assertEqual(found.get("kypello"), "kypello.tap")
        self.assertEqual(found.get("kypello-kes"), "kypello.kes_tap")

    def test_service(self) -> None:
        """
        Options and environment make a service of services that listens nowhere yet.
        """
        options = self.options("--address", "127.0.0.1:0", str(self.directory))
        server = self.checked(makeService(options))
        self.assertIsInstance(server, MultiService)
        config = server.prepared.config
        self.assertEqual(
            (config.directory, config.host, config.port), (self.directory, "127.0.0.1", 0)
        )
        self.assertIsInstance(server.prepared.kms, StaticKeySettings)
        names = [type(service).__name__ for service in server]
        self.assertEqual(
            names,
            [
                "LogFeed",
                "DiskStore",
                "LossReport",
                "KeyWatch",
                "KeyExpiry",
                "SessionSweeper",
                "Scanner",
            ],
        )

    def test_supervisor(self) -> None:
        """
        With several workers there is little in this process but the key server, if any.
        """
        del os.environ["MINIO_KMS_SECRET_KEY"]
        service = makeService(self.options("--workers", "3", str(self.directory)))
        assert isinstance(service, Supervisor)
        self.addCleanup(service.prepared.directory.close)
        self.assertEqual([type(each).__name__ for each in service], ["KeyServer"])

    def test_embedded(self) -> None:
        """
        Without KMS a key server comes along, and its client.
        """
        del os.environ["MINIO_KMS_SECRET_KEY"]
        server = self.checked(makeService(self.options(str(self.directory))))
        names = [type(service).__name__ for service in server]
        self.assertEqual(
            names,
            [
                "LogFeed",
                "DiskStore",
                "KeyServer",
                "KESClient",
                "LossReport",
                "KeyWatch",
                "KeyExpiry",
                "SessionSweeper",
                "Scanner",
            ],
        )

    def test_mistakes(self) -> None:
        """
        All mistakes are usage errors, told at once.
        """
        os.environ["MINIO_ROOT_USER"] = "admin"
        with self.assertRaises(UsageError) as caught:
            self.options("--address", "x", "a", "b")
        self.assertEqual(len(str(caught.exception).splitlines()), 3)

    def test_unusable(self) -> None:
        """
        A directory that cannot be used ends the process with the reason.
        """
        self.directory.touch()
        options = self.options(str(self.directory))
        with self.assertRaises(SystemExit) as caught:
            makeService(options)
        self.assertIn(str(self.directory), str(caught.exception.code))


class ApplicationTests(TapCase):
    """
    ``etc/kypello.tac`` takes everything from the environment.
    """

    def test_service(self) -> None:
        """
        The environment alone makes a server.
        """
        os.environ.update({"MINIO_VOLUMES": str(self.directory), "MINIO_ADDRESS": "127.0.0.1:0"})
        server = self.checked(application_service())
        self.assertEqual(server.prepared.config.directory, self.directory)

    def test_mistakes(self) -> None:
        """
        What is missing ends the process with the reason.
        """
        with self.assertRaises(SystemExit) as caught:
            application_service()
        self.assertIn("MINIO_VOLUMES", str(caught.exception.code))
