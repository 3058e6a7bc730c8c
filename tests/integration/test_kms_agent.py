# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Our client and the original key server.
"""

import os
import signal
import subprocess
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from kypello.errors import KMSForbidden
from kypello.interfaces import IKMS
from kypello.kms.builtin import StaticKMS
from kypello.kmsconfig import KESSettings, StaticKeySettings
from tests.contracts.kms import CONTEXT, KEY, CreatingKMSContract
from tests.integration import tools
from tests.integration.server import base_environment
from tests.kms.realm import RealmCase


class OriginalServerCase(RealmCase):
    """
    A test with original key servers in processes.
    """

    def start_kes(self, port: int, keys: str = "keys", allow: str = "/v1/*") -> Any:
        """
        Start one; it may take a moment to listen.
        """
        folder = self.realm.folder
        config = folder / f"{port}.yml"
        config.write_text(
            f"version: v1\naddress: 127.0.0.1:{port}\nadmin: {{identity: disabled}}\n"
            f"tls: {{key: {self.files.key}, cert: {self.files.cert}}}\n"
            "policy:\n"
            f"  app: {{allow: ['{allow}'], identities: ['{self.realm.api_key.identity}']}}\n"
            f"keystore: {{fs: {{path: {folder / keys}}}}}\n"
        )
        process = subprocess.Popen(
            [str(tools.require("kes")), "server", "--config", str(config)],
            env=base_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(end, process)
        return process

    async def ready(self, kms: IKMS) -> None:
        """
        Wait until all servers answer.
        """
        deadline = time.monotonic() + 30
        while True:
            status = await kms.status()
            if all(endpoint.online for endpoint in status.endpoints):
                return
            self.assertLess(time.monotonic(), deadline, status)
            await deferLater(reactor, 0.05)


def end(process: Any, how: int = signal.SIGKILL) -> None:
    """
    End a process.
    """
    if process.poll() is None:
        process.send_signal(how)
    process.wait(10)


class OriginalServerTests(CreatingKMSContract, OriginalServerCase):
    """
    The original key server, reached by our client, fulfils the contract.
    """

    async def make_kms(self) -> IKMS:
        """
        A client of a fresh server.
        """
        port = tools.free_port()
        self.start_kes(port)
        kms = self.client(self.realm.settings(port)).kms
        await self.ready(kms)
        await kms.create_key(KEY)
        return kms

    async def test_forbidden(self) -> None:
        """
        What no policy allows is told as forbidden, with what it was.
        """
        port = tools.free_port()
        self.start_kes(port, allow="/v1/status")
        kms = self.client(self.realm.settings(port)).kms
        await self.ready(kms)
        with self.assertRaises(KMSForbidden) as caught:
            await kms.generate_key(KEY, CONTEXT)
        self.assertEqual(caught.exception.operation, "generate")

    async def test_many_keys(self) -> None:
        """
        A thousand keys are listed.
        """
        kms = await self.make_kms()
        names = [f"key-{number:04}" for number in range(1000)]
        folder = self.realm.folder / "keys"
        stored = (folder / KEY).read_bytes()
        for name in names:
            (folder / name).write_bytes(stored)
        self.assertEqual(list(await kms.list_keys("")), [*names, KEY])
        self.assertEqual(list(await kms.list_keys("key-000")), names[:10])

    async def test_static_key(self) -> None:
        """
        A static key that is imported opens what was sealed before.
        """
        kms = await self.make_kms()
        static = StaticKMS(StaticKeySettings("moved", bytes(range(32))), os.urandom)
        key = await static.generate_key("moved", b"")
        port = int((await kms.status()).endpoints[0].url.rpartition(":")[2])
        await deferToThread(
            subprocess.run,
            [
                str(tools.require("kes")),
                "key",
                "import",
                "moved",
                b64encode(bytes(range(32))).decode(),
            ],
            env={
                **base_environment(),
                "KES_SERVER": f"127.0.0.1:{port}",
                "KES_API_KEY": self.realm.api_key.text,
                "SSL_CERT_FILE": str(self.realm.authority),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=30,
        )
        self.assertEqual(await kms.decrypt_key("moved", key.sealed, b""), key.plaintext)
        made = await kms.generate_key("moved", CONTEXT)
        self.assertEqual(await static.decrypt_key("moved", made.sealed, CONTEXT), made.plaintext)

    async def test_client_files(self) -> None:
        """
        A key and a certificate in files do as well as an API key.
        """
        port = tools.free_port()
        self.start_kes(port)
        kms = self.client(self.realm.settings(port)).kms
        await self.ready(kms)
        files = self.realm.certify("nobody")
        settings = KESSettings(
            self.realm.settings(port).endpoints,
            KEY,
            key_file=Path(files.key),
            cert_file=Path(files.cert),
            ca_path=self.realm.authority,
        )
        other = self.client(settings).kms
        with self.assertRaises(KMSForbidden):
            await other.generate_key(KEY, CONTEXT)


class OriginalFailoverTests(OriginalServerCase):
    """
    Several original servers over the same keys.
    """

    async def test_two_of_three_killed(self) -> None:
        """
        Under load, two of three servers are killed, and no call fails; they are used again
        when they come back.
        """
        ports = [tools.free_port() for _ in range(3)]
        processes = [self.start_kes(port) for port in ports]
        client = self.client(self.realm.settings(*ports))
        kms = client.kms
        await self.ready(kms)
        await kms.create_key(KEY)
        stopped, done = [], []

        async def work(number: int) -> None:
            while not stopped:
                context = b'{"bucket":"%d"}' % number
                key = await kms.generate_key(KEY, context)
                self.assertEqual(await kms.decrypt_key(KEY, key.sealed, context), key.plaintext)
                done.append(number)

        working = [Deferred.fromCoroutine(work(number)) for number in range(16)]
        try:
            for process in processes[:2]:
                await self.more(done)
                process.kill()
                await self.more(done)
            self.assertEqual(
                [endpoint.online for endpoint in (await kms.status()).endpoints],
                [False, False, True],
            )
            self.start_kes(ports[0])
            await self.ready_first(kms)
            await self.more(done)
        finally:
            stopped.append(True)
            await gatherResults(working)

    async def ready_first(self, kms: IKMS) -> None:
        """
        Wait until the first server answers.
        """
        for _ in range(400):
            if (await kms.status()).endpoints[0].online:
                return
            await deferLater(reactor, 0.05)
        self.fail("it does not come back")
