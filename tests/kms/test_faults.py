# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Key servers that fail in every way, on real sockets.
"""

import json
import os
import time
from base64 import b64encode
from collections.abc import Coroutine, Iterable
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol

from kypello.errors import KeyExists, KMSUnavailable
from kypello.http.tls import Clients
from kypello.interfaces import IKMS
from tests.contracts.kms import CONTEXT
from tests.integration.tools import free_port
from tests.kes.certificates import certificate, key_pem, new_key, pem
from tests.kms.realm import (
    DAY,
    KEY,
    PATIENT,
    QUICK,
    Behaviour,
    OutOfOrder,
    Peer,
    Realm,
    RealmCase,
)

_MADE = json.dumps(
    {
        "plaintext": b64encode(bytes(32)).decode(),
        "ciphertext": b64encode(bytes(76)).decode(),
        "name": KEY,
        "algorithm": "AES256",
    }
).encode()


def well(peer: Peer) -> None:
    """
    Make a data key of zeros.
    """
    peer.answer(200, _MADE)


def hang(_peer: Peer) -> None:
    """
    Never answer.
    """


def close(peer: Peer) -> None:
    """
    Break off instead of an answer.
    """
    peer.reset()


def break_off(peer: Peer) -> None:
    """
    Break off within the answer.
    """
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + _MADE)
    peer.reset()


def stop_within(peer: Peer) -> None:
    """
    Stop within the answer, and keep the connection.
    """
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + _MADE)


def fail(peer: Peer) -> None:
    """
    Fail as Go does.
    """
    peer.answer(500, b'{"message":"internal server error"}')


def be_busy(peer: Peer) -> None:
    """
    Be unavailable.
    """
    peer.answer(503, b"")


def fail_store(peer: Peer) -> None:
    """
    Fail as KES does when its store fails.
    """
    peer.answer(502, b'{"message":"failed to read key"}')


def talk_nonsense(peer: Peer) -> None:
    """
    Answer something that is not HTTP.
    """
    peer.send(b"\x00\x01\x02 SSH-2.0\r\n\r\n")


def be_a_website(peer: Peer) -> None:
    """
    Answer with a page.
    """
    peer.answer(200, b"<html>It works!</html>")


def make_short_keys(peer: Peer) -> None:
    """
    Make a data key of 16 bytes.
    """
    peer.answer(200, b'{"plaintext":"AAAAAAAAAAAAAAAAAAAAAA==","ciphertext":"AAAA"}')


def send_no_end(peer: Peer) -> None:
    """
    Answer more than anybody wants.
    """
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + bytes(1 << 21))


def redirect(peer: Peer) -> None:
    """
    Send the client to where nobody is.
    """
    peer.send(b"HTTP/1.1 301 Moved\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")


_FAULTS = {
    hang: "it does not answer within",
    close: "it closes the connection without an answer",
    break_off: "it closes the connection without an answer",
    stop_within: "it does not answer within",
    fail: "it answers 500 (internal server error)",
    be_busy: "it answers 503",
    fail_store: "it answers 502 (failed to read key)",
    talk_nonsense: "its answer is not HTTP",
    be_a_website: "its answer is not that of a key server",
    make_short_keys: "its answer is not that of a key server",
    send_no_end: "its answer is too long",
    redirect: "it answers 301",
}


class FailoverTests(RealmCase):
    """
    A fault of one server is no fault of the service.
    """

    async def test_each_fault(self) -> None:
        """
        Whatever the first server does, the second one answers, and the caller sees nothing.
        """

        async def check(fault: Behaviour) -> None:
            first, second = self.listen(fault), self.listen(well)
            kms = self.client(self.realm.settings(first.port, second.port), patience=QUICK).kms
            key = await kms.generate_key(KEY, CONTEXT)
            self.assertEqual(key.plaintext, bytes(32), fault)
            self.assertEqual(await kms.decrypt_key(KEY, b"x", CONTEXT), bytes(32))
            self.assertEqual((await kms.describe_key(KEY)).name, KEY)
            self.assertEqual(len(second.paths), 3)
            self.assertEqual(
                [path for path in first.paths if "describe" not in path],
                ["/v1/key/generate/my-key"] * len(first.paths[: len(first.paths) - first.probes]),
            )

        await at_once(check(fault) for fault in _FAULTS)

    async def test_told(self) -> None:
        """
        With one server only, the error says which it was and what happened.
        """

        async def check(fault: Behaviour, words: str) -> None:
            server = self.listen(fault)
            kms = self.client(self.realm.settings(server.port), patience=QUICK).kms
            with self.assertRaises(KMSUnavailable) as caught:
                await kms.generate_key(KEY, CONTEXT)
            self.assertIn(f"https://127.0.0.1:{server.port}: {words}", caught.exception.reason)

        await at_once(check(fault, words) for fault, words in _FAULTS.items())

    async def test_refused(self) -> None:
        """
        A server that is not there is passed over, and used when it is there.
        """
        second = self.listen(well)
        port = free_port()
        client = self.client(self.realm.settings(port, second.port))
        await client.kms.generate_key(KEY, CONTEXT)
        self.assertEqual(len(second.paths), 1)
        served = await self.serve(port)
        await self.until(lambda: not client.put_aside)
        key = await client.kms.generate_key(KEY, CONTEXT)
        self.assertNotEqual(key.plaintext, bytes(32))
        self.assertEqual(len(second.paths), 1)
        self.assertEqual(served.port, port)

    async def test_probes_apart(self) -> None:
        """
        While a server hangs, requests do not wait for it: it is asked apart from them.
        """
        first, second = self.listen(hang), self.listen(well)
        client = self.client(self.realm.settings(first.port, second.port), patience=QUICK)
        kms = client.kms
        await kms.generate_key(KEY, CONTEXT)
        began = time.monotonic()
        for _ in range(50):
            await kms.generate_key(KEY, CONTEXT)
        self.assertLess(time.monotonic() - began, 1.5 * QUICK.attempt)
        await self.until(lambda: first.probes >= 2)
        self.assertEqual(len(first.paths) - first.probes, 1)
        first.behave = well
        await self.until(lambda: not client.put_aside)
        before = len(second.paths)
        await kms.generate_key(KEY, CONTEXT)
        self.assertEqual(len(second.paths), before)

    async def test_all_down(self) -> None:
        """
        When no server is believed up, all are asked again, and the first that works serves.
        """
        servers = [self.listen(fail) for _ in range(3)]
        settings = self.realm.settings(*(server.port for server in servers))
        never = evolve(PATIENT, first_probe=60.0, last_probe=60.0)
        kms = self.client(settings, patience=never).kms
        with self.assertRaises(KMSUnavailable) as caught:
            await kms.generate_key(KEY, CONTEXT)
        for server in servers:
            self.assertIn(f":{server.port}: it answers 500", caught.exception.reason)
        servers[1].behave = well
        await kms.generate_key(KEY, CONTEXT)
        asked = len(servers[0].paths)
        await kms.generate_key(KEY, CONTEXT)
        self.assertEqual(len(servers[0].paths), asked)

    async def test_deadline(self) -> None:
        """
        However many servers hang, a call ends when its time is over, and all were asked.
        """
        servers = [self.listen(hang) for _ in range(5)]
        settings = self.realm.settings(*(server.port for server in servers))
        overall = 5.0
        kms = self.client(settings, patience=evolve(QUICK, overall=overall)).kms
        began = time.monotonic()
        with self.assertRaises(KMSUnavailable):
            await kms.generate_key(KEY, CONTEXT)
        self.assertLess(time.monotonic() - began, 1.5 * overall)
        self.assertTrue(all(len(server.paths) > server.probes for server in servers))

    async def test_instant(self) -> None:
        """
        A single server that fails for an instant is asked again at once.
        """

        def at_first(peer: Peer) -> None:
            server.behave = well
            fail(peer)

        server = self.listen(at_first)
        kms = self.client(self.realm.settings(server.port)).kms
        self.assertEqual((await kms.generate_key(KEY, CONTEXT)).plaintext, bytes(32))

    async def test_stale_connection(self) -> None:
        """
        A kept connection that the server closes just then is no failure of the server.
        """

        def once(peer: Peer) -> None:
            if peer.requests > 1:
                peer.reset()
            else:
                well(peer)

        server = self.listen(once)
        client = self.client(self.realm.settings(server.port))
        for _ in range(5):
            await client.kms.generate_key(KEY, CONTEXT)
        self.assertFalse(client.put_aside)
        self.assertGreaterEqual(server.lost, 2)

    async def test_connections_are_kept(self) -> None:
        """
        One call after the other uses one connection; many at once use a limited number.
        """
        server = self.listen(well)
        kms = self.client(self.realm.settings(server.port)).kms
        for _ in range(10):
            await kms.generate_key(KEY, CONTEXT)
        self.assertEqual(len(server.connections) + server.lost, 1)
        calls = [Deferred.fromCoroutine(kms.generate_key(KEY, CONTEXT)) for _ in range(300)]
        await gatherResults(calls)
        self.assertLessEqual(len(server.connections) + server.lost, 64)

    async def test_cancelled(self) -> None:
        """
        A caller who goes away ends the request, and the server is not to blame.
        """
        server = self.listen(hang)
        client = self.client(self.realm.settings(server.port))
        call = Deferred.fromCoroutine(client.kms.generate_key(KEY, CONTEXT))
        await self.until(lambda: server.paths)
        call.cancel()
        with self.assertRaises(CancelledError):
            await call
        await self.until(lambda: server.lost == 1)
        self.assertFalse(client.put_aside)
        self.assertEqual(len(server.paths), 1)

    async def test_rolling_restart(self) -> None:
        """
        Under load, servers of ours are restarted one after the other, and no call fails.
        """
        served = [await self.serve() for _ in range(3)]
        kms = self.client(self.realm.settings(*(one.port for one in served))).kms
        done: list[int] = []
        stopped: list[bool] = []
        working = [Deferred.fromCoroutine(work(kms, stopped, done)) for _ in range(8)]
        try:
            for one in served:
                await self.more(done)
                await one.stop()
                await self.more(done)
                await one.start()
            for one in served[:2]:
                await one.stop()
                await self.more(done)
        finally:
            stopped.append(True)
            await gatherResults(working)


async def at_once(checks: Iterable[Coroutine[Any, Any, None]]) -> None:
    """
    Run all of them side by side, as some wait until a server's time is over.
    """
    await gatherResults([Deferred.fromCoroutine(check) for check in checks], consumeErrors=True)


async def work(kms: IKMS, stopped: list[bool], done: list[int]) -> None:
    """
    Use a key service until told to stop.
    """
    while not stopped:
        context = os.urandom(8).hex().encode()
        key = await kms.generate_key(KEY, context)
        assert await kms.decrypt_key(KEY, key.sealed, context) == key.plaintext
        done.append(1)


def plain(port: int) -> Any:
    """
    Listen without TLS, and answer in HTTP whatever comes.
    """
    listen: Any = reactor
    return listen.listenTCP(port, Factory.forProtocol(_Plain), interface="127.0.0.1")


class _Plain(Protocol):
    """
    Answers in plain HTTP.
    """

    def dataReceived(self, _data: bytes) -> None:
        """
        Called by Twisted.
        """
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


class CreationTests(RealmCase):
    """
    A key is not created twice by one call.
    """

    async def create(self, *servers: OutOfOrder) -> str:
        """
        Create a key, and give the reason why that failed.
        """
        ports = [server.port for server in servers]
        kms = self.client(self.realm.settings(*ports), patience=QUICK).kms
        with self.assertRaises(KMSUnavailable) as caught:
            await kms.create_key("new")
        return caught.exception.reason

    async def test_ambiguous(self) -> None:
        """
        When nobody knows whether the key was made, no other server is asked, and the error
        says so.
        """

        async def check(fault: Behaviour) -> None:
            first, second = self.listen(fault), self.listen(well)
            reason = await self.create(first, second)
            self.assertIn("whether it was done is unknown", reason)
            self.assertEqual(second.paths, [])
            self.assertEqual(len(first.paths) - first.probes, 1, fault)

        await at_once(check(fault) for fault in (hang, close, break_off, fail, talk_nonsense))

    async def test_never_arrived(self) -> None:
        """
        When no connection was made, or the server was not trusted, another one is asked.
        """
        stranger = Realm.make(self.realm.folder, "stranger").certify("stranger-server")
        untrusted = self.listen(well, stranger)
        second = self.listen(lambda peer: peer.answer(200, b""))
        settings = self.realm.settings(free_port(), untrusted.port, second.port)
        await self.client(settings).kms.create_key("new")
        self.assertEqual(second.paths, ["/v1/key/create/new"])
        self.assertEqual(untrusted.paths, [])

    async def test_stale_connection(self) -> None:
        """
        A new connection is made for it, since a kept one could be closed at that moment.
        """
        server = self.listen(lambda peer: peer.answer(200, _MADE))
        kms = self.client(self.realm.settings(server.port)).kms
        await kms.generate_key(KEY, CONTEXT)
        await kms.create_key("new")
        await self.until(lambda: server.lost == 1)
        self.assertEqual(len(server.connections), 1)

    async def test_exists(self) -> None:
        """
        An answer that the key exists is told as such.
        """
        server = self.listen(lambda peer: peer.answer(400, b'{"message":"key already exists"}'))
        with self.assertRaises(KeyExists):
            await self.client(self.realm.settings(server.port)).kms.create_key("new")


class CertificateTests(RealmCase):
    """
    Who is not trusted gets no request, and is told apart.
    """

    async def refusal(self, server: OutOfOrder, host: str = "127.0.0.1") -> str:
        """
        Fail over from a server, and tell why it is not used alone.
        """
        good = self.listen(well, self.realm.certify("good", ("127.0.0.1", "localhost")))
        settings = self.realm.settings(server.port, good.port, host=host)
        await self.client(settings).kms.generate_key(KEY, CONTEXT)
        self.assertEqual(len(good.paths), 1)
        with self.assertRaises(KMSUnavailable) as caught:
            await self.client(self.realm.settings(server.port, host=host)).kms.generate_key(
                KEY, CONTEXT
            )
        self.assertEqual(server.paths, [])
        return caught.exception.reason

    async def test_unknown_authority(self) -> None:
        """
        A certificate of another authority is refused, and the setting to change is named.
        """
        stranger = Realm.make(self.realm.folder, "stranger")
        reason = await self.refusal(self.listen(well, stranger.certify("foreign")))
        self.assertIn("signed by an authority that is not trusted", reason)
        self.assertIn("MINIO_KMS_KES_CAPATH", reason)

    async def test_expired(self) -> None:
        """
        A certificate that has expired is refused, with the date.
        """
        files = self.realm.certify("old", now=1_700_000_000.0)
        reason = await self.refusal(self.listen(well, files))
        self.assertIn("its certificate expired on 2023-11-24", reason)

    async def test_not_yet_valid(self) -> None:
        """
        A certificate of tomorrow is refused, with a hint at the clocks.
        """
        files = self.realm.certify("young", now=time.time() + 3 * DAY)
        reason = await self.refusal(self.listen(well, files))
        self.assertIn("compare the clocks", reason)

    async def test_wrong_address(self) -> None:
        """
        A certificate for another address is refused, with its names.
        """
        files = self.realm.certify("elsewhere", ("10.0.0.1", "kes.example"))
        reason = await self.refusal(self.listen(well, files))
        self.assertIn("not for this host name but for 10.0.0.1, kes.example", reason)

    async def test_wrong_name(self) -> None:
        """
        A host name is not covered by an address, nor by another name.
        """
        for number, hosts in enumerate((("127.0.0.1",), ("kes.example", "*.kes.example"))):
            files = self.realm.certify(f"named-{number}", hosts)
            reason = await self.refusal(self.listen(well, files), "localhost")
            self.assertIn("its certificate is not for this host name", reason)

    async def test_not_trusted_ourselves(self) -> None:
        """
        A server that checks certificates and does not know ours is told as such.
        """
        strict = evolve(self.files, clients=Clients.VERIFIED, ca=self.realm.authority)
        server = self.listen(well, strict)
        kms = self.client(self.realm.settings(server.port)).kms
        with self.assertRaises(KMSUnavailable) as caught:
            await kms.generate_key(KEY, CONTEXT)
        self.assertIn("it refuses our certificate", caught.exception.reason)

    async def test_trusted_alone(self) -> None:
        """
        Without its authority, the server's own certificate can be trusted, as Go allows, signed
        by itself or not.
        """
        stranger = Realm.make(self.realm.folder, "stranger")
        issued = stranger.certify("issued")
        key = new_key()
        own = evolve(issued, key=self.realm.folder / "own.key", cert=self.realm.folder / "own.crt")
        own.key.write_bytes(key_pem(key))
        own.cert.write_bytes(pem(certificate(key)))
        for files in (issued, own):
            server = self.listen(well, files)
            settings = evolve(self.realm.settings(server.port), ca_path=files.cert)
            await self.client(settings).kms.generate_key(KEY, CONTEXT)

    async def test_no_tls(self) -> None:
        """
        A server without TLS is told as such.
        """
        server = self.listen(well)
        await server.stop()
        listening = plain(server.port)
        self.addCleanup(listening.stopListening)
        kms = self.client(self.realm.settings(server.port)).kms
        with self.assertRaises(KMSUnavailable) as caught:
            await kms.generate_key(KEY, CONTEXT)
        self.assertIn("it does not speak TLS", caught.exception.reason)

    async def test_unknown_host(self) -> None:
        """
        A host name that does not exist is told as such.
        """
        kms = self.client(self.realm.settings(7373, host="kes.invalid")).kms
        with self.assertRaises(KMSUnavailable) as caught:
            await kms.generate_key(KEY, CONTEXT)
        self.assertIn("its host name cannot be resolved", caught.exception.reason)
