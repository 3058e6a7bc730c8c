# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.service``, ``kypello.supervisor`` and ``kypello.banner``: a server that really
runs, in this process and in others.
"""

import os
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from kypello.banner import banner
from kypello.config import Config
from kypello.errors import ConfigurationError
from kypello.kmsconfig import KESSettings, StaticKeySettings
from kypello.model import Identity
from kypello.prepared import Prepared, default_certs_dir, prepare
from kypello.service import Running
from kypello.supervisor import make_server
from tests.cases import AsyncCase, SyncCase
from tests.kes.certificates import certificate, key_pem, new_key, pem

_STATIC = StaticKeySettings("my-key", bytes(32))
_ROOT = Identity("admin", "change-me-now")


class PrepareTests(SyncCase):
    """
    ``prepare`` reads and makes what is on disk.
    """

    def setUp(self) -> None:
        """
        Describe a server with folders of its own.
        """
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.patch(os, "environ", {**os.environ, "HOME": str(self.folder)})
        self.config = Config(self.folder / "data", "127.0.0.1", 0, root=_ROOT, kms=_STATIC)

    def prepared(self, **changes: Any) -> Prepared:
        """
        Prepare until the test ends.
        """
        made = prepare(evolve(self.config, **changes))
        self.addCleanup(made.directory.close)
        return made

    def test_given(self) -> None:
        """
        With credentials and a static key nothing is made but the data directory.
        """
        made = self.prepared()
        self.assertEqual((made.root, made.made_root, made.kms), (_ROOT, False, _STATIC))
        self.assertIsNone(made.tls)
        self.assertFalse(made.directory.credentials_file.exists())

    def test_made(self) -> None:
        """
        Without credentials and KMS both are made, and found again.
        """
        made = prepare(evolve(self.config, root=None, kms=None))
        made.directory.close()
        again = self.prepared(root=None, kms=None)
        self.assertEqual((made.made_root, again.made_root), (True, False))
        self.assertEqual(made.root, again.root)
        assert isinstance(made.kms, KESSettings) and isinstance(again.kms, KESSettings)
        self.assertEqual(made.kms.api_key, again.kms.api_key)

    def test_mistakes(self) -> None:
        """
        What is wrong with TLS, with KES and with the directory is told together, and the
        directory is free afterwards.
        """
        certs = self.folder / "certs"
        certs.mkdir()
        (certs / "public.crt").write_bytes(b"junk")
        (self.folder / "data").mkdir()
        (self.folder / "data" / "other").touch()
        kes = KESSettings(
            ("https://127.0.0.1:1",), "my-key", key_file=Path("no.key"), cert_file=Path("no.crt")
        )
        with self.assertRaises(ConfigurationError) as caught:
            self.prepared(certs_dir=certs, kms=kes)
        text = "\n".join(caught.exception.mistakes)
        for part in ("private.key", "no.key", "no.crt", "'other'"):
            self.assertIn(part, text)

    def test_authorities(self) -> None:
        """
        The folder ``CAs`` of the certificates is trusted for KES unless another is named.
        """
        certs = self.folder / "certs"
        (certs / "CAs").mkdir(parents=True)
        key = new_key()
        (self.folder / "c.key").write_bytes(key_pem(key))
        (self.folder / "c.crt").write_bytes(pem(certificate(key)))
        kes = KESSettings(
            ("https://127.0.0.1:1",),
            "my-key",
            key_file=self.folder / "c.key",
            cert_file=self.folder / "c.crt",
        )
        made = self.prepared(certs_dir=certs, kms=kes)
        assert isinstance(made.kms, KESSettings)
        self.assertEqual(made.kms.ca_path, certs / "CAs")

    def test_no_certificates(self) -> None:
        """
        A folder of certificates that somebody names, and that is not there, is warned of: they
        may expect TLS.
        """
        (warning,) = self.prepared(certs_dir=self.folder / "none").config.warnings
        self.assertIn("is not there: this is HTTP without TLS", warning)

    def test_certificates_of_hosts(self) -> None:
        """
        Certificates for single hosts, as MinIO has them, are warned of where nobody would get them.
        """
        certs = self.folder / "certs"
        for name in ("CAs", "s3.example", "half.example"):
            (certs / name).mkdir(parents=True)
            (certs / name / "public.crt").write_bytes(b"junk")
        (certs / "s3.example" / "private.key").write_bytes(b"junk")
        half, unused = self.prepared(certs_dir=certs).config.warnings
        self.assertIn("half.example has only one of private.key and public.crt", half)
        self.assertIn("HTTP without TLS: the certificates of s3.example in", unused)

    def test_no_certificates_by_default(self) -> None:
        """
        Nobody has to have the folder that is looked into by default.
        """
        self.assertEqual(self.prepared().config.warnings, ())

    def test_default_certs_dir(self) -> None:
        """
        MinIO's folder of certificates is used when there is none of ours.
        """
        self.assertEqual(default_certs_dir(), self.folder / ".kypello" / "certs")
        (self.folder / ".minio" / "certs").mkdir(parents=True)
        self.assertEqual(default_certs_dir(), self.folder / ".minio" / "certs")
        (self.folder / ".kypello" / "certs").mkdir(parents=True)
        self.assertEqual(default_certs_dir(), self.folder / ".kypello" / "certs")


class ServerTests(AsyncCase):
    """
    A server in one process starts all its parts and ends them.
    """

    workers = 1

    async def start(self, **changes: Any) -> Running:
        """
        Run a server until the test ends; give what it tells when it has started.
        """
        started: Deferred[Running] = Deferred()
        folder = self.folder()
        config = Config(
            folder / "data",
            "127.0.0.1",
            0,
            certs_dir=folder / "certs",
            root=_ROOT,
            kms=_STATIC,
            workers=self.workers,
        )
        prepared = prepare(evolve(config, **changes))
        server = make_server(reactor, prepared, started.callback, self.failed)
        self.addCleanup(server.stopService)
        server.startService()
        return await started

    def folder(self) -> Path:
        """
        A fresh folder.
        """
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        return path

    def failed(self, failure: Failure) -> None:
        """
        The server cannot start.
        """
        self.failures.append(failure)

    def setUp(self) -> None:
        """
        Nothing has failed yet.
        """
        self.failures: list[Failure] = []

    async def live(self, running: Running) -> int:
        """
        The status that a probe gets.
        """
        url = f"http://127.0.0.1:{running.port}/minio/health/ready"

        def ask() -> int:
            """
            Ask, in a thread.
            """
            with urlopen(url, timeout=10) as answer:
                status: int = answer.status
                return status

        return await deferToThread(ask)

    async def test_static(self) -> None:
        """
        With a static key it listens, and its banner tells all but the secret.
        """
        running = await self.start()
        self.assertEqual(await self.live(running), 200)
        text = banner(running, show_secrets=True)
        endpoint = f"http://127.0.0.1:{running.port}"
        for part in (
            endpoint,
            "admin, from the environment",
            "static key",
            running.fingerprint,
        ):
            self.assertIn(part, text)
        self.assertNotIn(_ROOT.secret_key, text)

    async def test_embedded(self) -> None:
        """
        With nothing given it makes credentials, which its banner shows if it may, and its own
        key server, of which the banner tells what it protects.
        """
        running = await self.start(root=None, kms=None)
        self.assertEqual(await self.live(running), 200)
        shown = banner(running, show_secrets=True)
        secret = running.prepared.root.secret_key
        self.assertEqual(shown.count(secret), 4)
        for part in ("embedded", "not a stolen disk", running.fingerprint, "credentials"):
            self.assertIn(part, shown)
        self.assertNotIn(secret, banner(running, show_secrets=False))

    async def test_without_key_server(self) -> None:
        """
        With its key server down it starts all the same, and says so.
        """
        key = new_key()
        folder = self.folder()
        (folder / "c.key").write_bytes(key_pem(key))
        (folder / "c.crt").write_bytes(pem(certificate(key)))
        kes = KESSettings(
            ("https://127.0.0.1:1",),
            "my-key",
            key_file=folder / "c.key",
            cert_file=folder / "c.crt",
            ca_path=folder / "c.crt",
        )
        running = await self.start(kms=kes)
        text = banner(running, show_secrets=False)
        self.assertIn("cannot be used yet", text)
        self.assertIn("https://127.0.0.1:1", text)

    async def test_port_taken(self) -> None:
        """
        A port that is taken is a failure to start, and everything ends well.
        """
        first = await self.start()
        config = Config(
            self.folder(), "127.0.0.1", first.port, root=_ROOT, kms=_STATIC, workers=self.workers
        )
        failed: Deferred[Failure] = Deferred()
        server = make_server(reactor, prepare(config), self.fail, failed.callback)
        server.startService()
        # The result is handed over as such, not raised.
        caught: list[Failure] = []
        failed.addBoth(caught.append)
        await failed
        self.assertIn("Couldn't listen", caught[0].getErrorMessage())
        await server.stopService()
        # The directory is free again.
        prepare(config).directory.close()


class SupervisedTests(ServerTests):
    """
    The same in several processes.
    """

    workers = 2
