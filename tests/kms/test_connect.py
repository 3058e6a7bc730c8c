# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The client of the key servers from its start to its end.
"""

import json
import os
import time
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, globalLogPublisher

from kypello.crypto.apikey import identity_of_spki
from kypello.errors import (
    KeyMismatch,
    KeyNotFound,
    KMSForbidden,
    KMSUnavailable,
    NotAuthentic,
    StorageFailed,
)
from kypello.interfaces import IKMS
from kypello.kms.certificates import certificates, public_key
from kypello.kms.connect import KESClient, connect
from kypello.kms.tls import load
from kypello.kmsconfig import KESSettings
from kypello.model import DataKey
from tests.contracts.kms import CONTEXT
from tests.integration.tools import free_port
from tests.kes.certificates import certificate, key_pem, new_key, pem
from tests.kms.realm import KEY, QUICK, Peer, RealmCase
from tests.kms.test_faults import hang, well


class LifeTests(RealmCase):
    """
    Nothing before the start, nothing after the end.
    """

    async def test_not_started(self) -> None:
        """
        A client that is not started connects to nobody, and says so.
        """
        server = self.listen(well)
        settings = self.realm.settings(server.port)
        client = connect(reactor, settings, load(settings), self.lanes, os.urandom)
        with self.assertRaises(KMSUnavailable) as caught:
            await client.kms.generate_key(KEY, CONTEXT)
        self.assertIn("not running", caught.exception.reason)
        self.assertEqual(server.lost + len(server.connections), 0)
        status = await client.kms.status()
        self.assertFalse(status.endpoints[0].online)

    async def test_stopped(self) -> None:
        """
        A stop closes idle connections and those in use; what waits fails, and nobody is
        asked any more.
        """
        server = self.listen(well)
        settings = self.realm.settings(server.port)
        client = self.client(settings)
        calls = [Deferred.fromCoroutine(client.kms.generate_key(KEY, CONTEXT)) for _ in range(5)]
        await gatherResults(calls)
        server.behave = hang
        waiting = Deferred.fromCoroutine(client.kms.generate_key(KEY, CONTEXT))
        await self.until(lambda: len(server.paths) == 6)
        await client.stopService()
        with self.assertRaises(KMSUnavailable):
            await waiting
        with self.assertRaises(KMSUnavailable):
            await client.kms.generate_key(KEY, CONTEXT)
        await self.until(lambda: not server.connections)
        self.assertEqual(len(server.paths), 6)

    async def test_stopped_while_probing(self) -> None:
        """
        A stop ends probes.
        """
        server = self.listen(hang)
        patience = evolve(QUICK, attempt=0.2, overall=0.3, first_probe=0.01)
        client = self.client(self.realm.settings(server.port), patience=patience)
        with self.assertRaises(KMSUnavailable):
            await client.kms.generate_key(KEY, CONTEXT)
        await self.until(lambda: server.probes)
        await client.stopService()

    async def test_started_again(self) -> None:
        """
        What was stopped can be started again.
        """
        server = self.listen(well)
        client = self.client(self.realm.settings(server.port))
        await client.kms.generate_key(KEY, CONTEXT)
        await client.stopService()
        client.startService()
        await client.kms.generate_key(KEY, CONTEXT)

    async def test_spread(self) -> None:
        """
        Chance decides which server is the first.
        """
        servers = [self.listen(well) for _ in range(3)]
        settings = self.realm.settings(*(server.port for server in servers))
        for number in range(3):
            client = connect(
                reactor,
                settings,
                load(settings),
                self.lanes,
                lambda size, number=number: number.to_bytes(size, "big"),
            )
            client.startService()
            await client.kms.generate_key(KEY, CONTEXT)
            await client.stopService()
        self.assertEqual([len(server.paths) for server in servers], [1, 1, 1])

    async def test_status(self) -> None:
        """
        The status tells of each server, in the order of the settings, whatever happens to it.
        """
        good = await self.serve()
        hanging = self.listen(hang)
        failing = self.listen(lambda peer: peer.answer(503, b"no"))
        odd = self.listen(lambda peer: peer.answer(200, b"<html>"))
        silent = self.listen(
            lambda peer: peer.answer(403, b'{"message":"not authorized: insufficient permissions"}')
        )
        broken = self.listen(
            lambda peer: peer.answer(200, b'{"version":"v","keystore_unreachable":true}')
        )
        ports = [free_port(), good.port, failing.port, odd.port, silent.port, broken.port]
        status = await self.client(self.realm.settings(*ports)).kms.status()
        self.assertEqual(status.name, "KES")
        self.assertEqual(
            [(endpoint.url, endpoint.online, endpoint.detail) for endpoint in status.endpoints],
            [
                (f"https://127.0.0.1:{ports[0]}", False, "it refuses connections"),
                (f"https://127.0.0.1:{ports[1]}", True, ""),
                (f"https://127.0.0.1:{ports[2]}", False, "it answers 503 (no)"),
                (
                    f"https://127.0.0.1:{ports[3]}",
                    False,
                    "its answer is not that of a key server",
                ),
                (f"https://127.0.0.1:{ports[4]}", True, ""),
                (f"https://127.0.0.1:{ports[5]}", False, "its key store is not reachable"),
            ],
        )
        self.assertEqual(hanging.paths, [])

    async def test_address_of_six(self) -> None:
        """
        Servers are reached by IPv6 addresses too, and by URLs with a path.
        """
        port = free_port()
        settings = evolve(
            self.realm.settings(port), endpoints=(f"https://[::1]:{port}", "https://[::1]:1/x/")
        )
        with self.assertRaises(KMSUnavailable) as caught:
            await self.client(settings).kms.generate_key(KEY, CONTEXT)
        self.assertIn(f"https://[::1]:{port}: it ", caught.exception.reason)

    async def test_path(self) -> None:
        """
        A server behind a proxy may have a path.
        """
        server = self.listen(well)
        settings = evolve(
            self.realm.settings(), endpoints=(f"https://127.0.0.1:{server.port}/kes/",)
        )
        await self.client(settings).kms.generate_key(KEY, CONTEXT)
        self.assertEqual(server.paths, ["/kes/v1/key/generate/my-key"])


class FilesTests(RealmCase):
    """
    Files that change are used without a restart.
    """

    def setUp(self) -> None:
        """
        A client with a key and a certificate in files, and a log.
        """
        super().setUp()
        self.own = self.realm.certify("client")
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def file_settings(self, port: int) -> KESSettings:
        """
        Settings with files.
        """
        return KESSettings(
            self.realm.settings(port).endpoints,
            KEY,
            key_file=self.own.key,
            cert_file=self.own.cert,
            ca_path=self.realm.authority,
        )

    def logged(self, level: Any) -> list[str]:
        """
        What the client logged at a level.
        """
        return [
            str(event.get("text") or event.get("error") or event["log_format"])
            for event in self.events
            if event["log_level"] is level and event["log_namespace"] == "kypello.kms.connect"
        ]

    def identity(self) -> str:
        """
        That of the certificate in the file now.
        """
        (found,), _broken = certificates(self.own.cert.read_bytes())
        return identity_of_spki(public_key(found))

    async def test_new_pair(self) -> None:
        """
        A new pair is used for new connections, and idle ones are dropped; a broken one is not
        used, and is told.
        """
        seen: list[str] = []

        def note(peer: Peer) -> None:
            transport: Any = peer.transport
            shown = transport.getHandle().get_peer_certificate(as_cryptography=True)
            seen.append(identity_of_spki(public_key(shown)))
            well(peer)

        server = self.listen(note)
        client = self.client(self.file_settings(server.port), reload_time=0.05)
        await client.kms.generate_key(KEY, CONTEXT)
        first = self.identity()
        self.own.key.write_bytes(b"half of a file")
        await self.until(lambda: self.logged(LogLevel.error))
        self.assertIn("MINIO_KMS_KES_KEY_FILE", self.logged(LogLevel.error)[0])
        await client.kms.generate_key(KEY, CONTEXT)
        self.assertEqual(server.lost, 0)
        self.own = self.realm.certify("client")
        await self.until(lambda: server.lost == 1)
        await client.kms.generate_key(KEY, CONTEXT)
        self.assertEqual(seen, [first, first, self.identity()])
        self.assertIn("have changed and are in use", self.logged(LogLevel.info)[0])

    async def test_reload_at_once(self) -> None:
        """
        One need not wait for the next look; nothing new changes nothing.
        """
        server = self.listen(well)
        client = self.client(self.file_settings(server.port))
        await client.kms.generate_key(KEY, CONTEXT)
        await client.reload()
        await client.kms.generate_key(KEY, CONTEXT)
        self.assertEqual(server.lost, 0)
        self.own = self.realm.certify("client")
        await client.reload()
        await client.kms.generate_key(KEY, CONTEXT)
        await self.until(lambda: server.lost == 1)
        self.own.cert.unlink()
        await client.reload()
        await client.kms.generate_key(KEY, CONTEXT)
        self.assertIn("no such file", self.logged(LogLevel.error)[0])

    async def test_in_use(self) -> None:
        """
        A request that is under way ends over the old connection, which is closed then.
        """
        waiting: list[Peer] = []
        server = self.listen(waiting.append)
        client = self.client(self.file_settings(server.port))
        call = Deferred.fromCoroutine(client.kms.generate_key(KEY, CONTEXT))
        await self.until(lambda: waiting)
        self.own = self.realm.certify("client")
        await client.reload()
        self.assertEqual(server.lost, 0)
        well(waiting[0])
        await call
        await self.until(lambda: server.lost == 1)

    async def test_expired(self) -> None:
        """
        An expired certificate of ours is used, since servers may not care, and is told once
        with its date.
        """
        key = new_key()
        self.own.key.write_bytes(key_pem(key))
        until = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
        self.own.cert.write_bytes(pem(certificate(key, until=until)))
        served = await self.serve()
        client = self.client(self.file_settings(served.port))
        with self.assertRaises(KMSForbidden):
            await client.kms.generate_key(KEY, CONTEXT)
        await client.reload()
        (warning,) = self.logged(LogLevel.warn)
        self.assertIn("expired on 2024-05-06 07:08 UTC", warning)

    async def test_expires_later(self) -> None:
        """
        It is also told when it expires while the client runs.
        """
        server = self.listen(well)
        times = [time.time()]
        client = self.client(self.file_settings(server.port), now=lambda: times[-1])
        self.assertEqual(self.logged(LogLevel.warn), [])
        times.append(times[0] + 11 * 86400)
        for _ in range(3):
            await client.reload()
        self.assertEqual(len(self.logged(LogLevel.warn)), 1)


class ProofTests(RealmCase):
    """
    A server that holds other material under the name of a key is not used for it.
    """

    async def prove(self, kms: IKMS, name: str) -> bool:
        """
        Open what was sealed first.
        """
        self.asked.append(name)
        if self.canary is None:
            return False
        try:
            await kms.decrypt_key(name, self.canary.sealed, b"canary")
        except NotAuthentic:
            raise KeyMismatch(name, 0.0, "93ab-61e0") from None
        return True

    def setUp(self) -> None:
        """
        Nothing is sealed yet.
        """
        super().setUp()
        self.asked: list[str] = []
        self.canary: DataKey | None = None

    async def test_one_of_two(self) -> None:
        """
        With one wrong server, everything is sealed and opened by the other, and the status
        tells.
        """
        wrong, right = await self.serve(keys="wrong"), await self.serve(keys="right")
        alone = self.client(self.realm.settings(right.port))
        self.canary = await alone.kms.generate_key(KEY, b"canary")
        client = self.client(self.realm.settings(wrong.port, right.port))
        client.require(self.prove)
        made = [await client.kms.generate_key(KEY, CONTEXT) for _ in range(5)]
        for key in made:
            for kms in (alone.kms, client.kms):
                self.assertEqual(await kms.decrypt_key(KEY, key.sealed, CONTEXT), key.plaintext)
        self.assertEqual(dict(client.put_aside), {})
        first, second = (await client.kms.status()).endpoints
        self.assertEqual((first.online, second.online), (False, True))
        self.assertIn("93ab-61e0", first.detail)

    async def test_all_wrong(self) -> None:
        """
        When no server holds the material, the mismatch itself is told.
        """
        servers = [await self.serve(keys=f"wrong-{number}") for number in range(2)]
        other = await self.serve(keys="right")
        self.canary = await self.client(self.realm.settings(other.port)).kms.generate_key(
            KEY, b"canary"
        )
        client = self.client(self.realm.settings(*(server.port for server in servers)))
        client.require(self.prove)
        with self.assertRaises(KeyMismatch):
            await client.kms.generate_key(KEY, CONTEXT)
        with self.assertRaises(KeyMismatch):
            await client.kms.decrypt_key(KEY, self.canary.sealed, b"canary")

    async def test_proved_once(self) -> None:
        """
        A server that opens data keys proves once, and again after it was away; another material is
        found out then.
        """
        served = await self.serve()
        client = self.client(self.realm.settings(served.port))
        self.canary = await client.kms.generate_key(KEY, b"canary")
        client.require(self.prove)
        for _ in range(5):
            await client.kms.decrypt_key(KEY, self.canary.sealed, b"canary")
        self.assertEqual(len(self.asked), 1)
        await served.stop()
        (self.realm.folder / "keys" / KEY).unlink()
        await served.start()
        with self.assertRaises(KeyMismatch):
            await client.kms.generate_key(KEY, CONTEXT)
        self.assertEqual(set(self.asked), {KEY})

    async def test_nothing_to_prove(self) -> None:
        """
        Before anything is sealed any server will do, and each is asked again.
        """
        served = await self.serve()
        client = self.client(self.realm.settings(served.port))
        client.require(self.prove)
        await client.kms.generate_key(KEY, CONTEXT)
        asked = len(self.asked)
        await client.kms.generate_key(KEY, CONTEXT)
        self.assertGreater(len(self.asked), asked)

    async def test_no_such_key(self) -> None:
        """
        A server that has lost the key is passed over; when all have, that is told.
        """
        served = await self.serve()
        client = self.client(self.realm.settings(served.port))
        self.canary = await client.kms.generate_key(KEY, b"canary")
        client.require(self.prove)
        with self.assertRaises(KeyNotFound):
            await client.kms.generate_key("unknown", CONTEXT)

    def survey(self, *ports: int, **options: float) -> KESClient:
        """
        A client that has its servers prove again and again what they hold.
        """
        client = self.client(self.realm.settings(*ports), survey_time=0.05, **options)
        client.require(self.prove)
        return client

    async def seen(self, client: KESClient, *online: bool) -> None:
        """
        Wait until these servers are those that are used.
        """
        while [one.online for one in (await client.kms.status()).endpoints] != list(online):
            await deferLater(reactor, 0.02)

    async def test_survey(self) -> None:
        """
        A server that is wrong is found out before it is needed, while another one serves, and is
        used again without a restart when it is right.
        """
        right, wrong = await self.serve(keys="right"), await self.serve(keys="wrong")
        alone = self.client(self.realm.settings(right.port))
        self.canary = await alone.kms.generate_key(KEY, b"canary")
        client = self.survey(right.port, wrong.port)
        await self.seen(client, True, False)
        (refused,) = [one for one in (await client.kms.status()).endpoints if one.refused]
        self.assertEqual(set(refused.refused), {KEY})
        folder = self.realm.folder
        await wrong.stop()
        (folder / "wrong" / KEY).write_bytes((folder / "right" / KEY).read_bytes())
        await wrong.start()
        await self.seen(client, True, True)

    async def test_swapped(self) -> None:
        """
        A server that has other material from some moment on, without being away, is found out too,
        and another one serves.
        """
        swapped, right = self.listen(well), await self.serve()
        alone = self.client(self.realm.settings(right.port))
        self.canary = await alone.kms.generate_key(KEY, b"canary")
        opened = json.dumps({"plaintext": b64encode(self.canary.plaintext).decode()}).encode()
        swapped.behave = lambda peer: peer.answer(200, opened)
        client = self.survey(swapped.port, right.port, proof_time=0.1)
        await client.kms.decrypt_key(KEY, self.canary.sealed, b"canary")
        self.assertTrue(swapped.paths)
        swapped.behave = lambda peer: peer.answer(
            400, b'{"message":"decryption failed: ciphertext is not authentic"}'
        )
        while not (await client.kms.status()).endpoints[0].refused:
            await deferLater(reactor, 0.02)
        self.assertEqual(swapped.lost, 0)
        made = await client.kms.generate_key(KEY, CONTEXT)
        self.assertEqual(await alone.kms.decrypt_key(KEY, made.sealed, CONTEXT), made.plaintext)

    async def test_swapped_in_use(self) -> None:
        """
        Whoever makes or opens a data key is served by the other server at once, as soon as one has
        other material, or none, or lets us use it no more.
        """
        right, swapped = await self.serve(), self.listen(well)
        alone = self.client(self.realm.settings(right.port))
        self.canary = await alone.kms.generate_key(KEY, b"canary")
        opened = json.dumps({"plaintext": b64encode(self.canary.plaintext).decode()}).encode()
        settings = self.realm.settings(swapped.port, right.port)
        for status, message in (
            (400, b"decryption failed: ciphertext is not authentic"),
            (404, b"key does not exist"),
            (403, b"not authorized: insufficient permissions"),
        ):
            for call in (self.make, self.open):
                swapped.behave = lambda peer: peer.answer(200, opened)
                client = self.client(settings)
                client.require(self.prove)
                await self.open(client)
                before = len(swapped.paths)
                # It would make a data key, but cannot open what was sealed before.
                swapped.behave = lambda peer, status=status, message=message: (
                    well(peer)
                    if "generate" in swapped.paths[-1]
                    else peer.answer(status, b'{"message":"%b"}' % message)
                )
                await call(client)
                self.assertEqual(set((await client.kms.status()).endpoints[0].refused), {KEY})
                self.assertGreater(len(swapped.paths), before)
                await client.stopService()

    async def make(self, client: KESClient) -> None:
        """
        Have a data key made, which the server that makes one of zeros must not have made.
        """
        made = await client.kms.generate_key(KEY, CONTEXT)
        self.assertNotEqual(made.plaintext, bytes(32))

    async def open(self, client: KESClient) -> None:
        """
        Have opened what was sealed before.
        """
        assert self.canary is not None
        opened = await client.kms.decrypt_key(KEY, self.canary.sealed, b"canary")
        self.assertEqual(opened, self.canary.plaintext)

    async def test_proved_together(self) -> None:
        """
        Each data key that is made is followed by a proof, but one does for many that came
        together.
        """
        served = await self.serve()
        client = self.client(self.realm.settings(served.port))
        self.canary = await client.kms.generate_key(KEY, b"canary")
        client.require(self.prove)
        for number in range(1, 4):
            await client.kms.generate_key(KEY, CONTEXT)
            self.assertEqual(len(self.asked), number)
        calls = [Deferred.fromCoroutine(client.kms.generate_key(KEY, CONTEXT)) for _ in range(50)]
        made = {key.plaintext for key in await gatherResults(calls)}
        self.assertEqual(len(made), 50)
        self.assertLess(len(self.asked), 3 + 40)

    async def test_no_index(self) -> None:
        """
        When what was sealed is not at hand, nothing is done, and the server is not to blame.
        """
        served = await self.serve()
        client = self.client(self.realm.settings(served.port))

        async def fail(_kms: IKMS, _name: str) -> bool:
            raise StorageFailed("no disk")

        client.require(fail)
        with self.assertRaises(StorageFailed):
            await client.kms.generate_key(KEY, CONTEXT)
        self.assertEqual(dict(client.put_aside), {})

    async def test_down(self) -> None:
        """
        A server that does not answer the proof is put aside as any other.
        """
        hanging, served = self.listen(hang), await self.serve()
        alone = self.client(self.realm.settings(served.port))
        self.canary = await alone.kms.generate_key(KEY, b"canary")
        client = self.client(self.realm.settings(hanging.port, served.port), patience=QUICK)
        client.require(self.prove)
        await client.kms.generate_key(KEY, CONTEXT)
        self.assertEqual(list(client.put_aside), [f"https://127.0.0.1:{hanging.port}"])
