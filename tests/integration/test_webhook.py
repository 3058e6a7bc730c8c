# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.events.webhook`` and ``kypello.events.target``, against a real server.
"""

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from kypello.eventconfig import WebhookSettings
from kypello.events.target import Target
from kypello.events.webhook import Undelivered, Webhook
from kypello.iam.authorities import Authorities
from kypello.testing.fakes import InlineLane
from tests.cases import AsyncCase
from tests.iam.authority import Authority
from tests.integration.receiver import Receiver
from tests.integration.tools import free_port
from tests.kes.certificates import certificate, key_pem, new_key, pem

_MESSAGE = b'{"Key":"bucket/key"}'


class WebhookCase(AsyncCase):
    """
    A test with a receiver.
    """

    def setUp(self) -> None:
        """
        Prepare files.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)

    def receive(self, tls: ssl.SSLContext | None = None) -> Receiver:
        """
        A receiver that listens.
        """
        receiver = Receiver(tls=tls)
        receiver.start()
        self.addCleanup(receiver.stop)
        return receiver

    def webhook(
        self,
        url: str,
        authorities: Authorities | None = None,
        *,
        deadline: float = 20.0,
        **settings: Any,
    ) -> Webhook:
        """
        What sends to a URL.
        """
        trusted = (authorities or Authorities()).certificates
        made = Webhook(
            WebhookSettings("A", url, **settings),
            reactor,
            partial(_policy, trusted),
            InlineLane(),
            deadline,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(made.close()))
        return made

    async def send(self, webhook: Webhook) -> None:
        """
        Send a message.
        """
        await webhook.prepare()
        await webhook.send(_MESSAGE)

    async def fails(self, webhook: Webhook) -> Undelivered:
        """
        See that a message is not taken.
        """
        try:
            await self.send(webhook)
        except Undelivered as error:
            return error
        raise self.failureException("it was taken")


def _policy(trusted: Any, present: Callable[[SSL.Context], object] | None) -> Authorities:
    return Authorities(trusted, present)


class PlainTests(WebhookCase):
    """
    Over plain HTTP.
    """

    async def test_sent(self) -> None:
        """
        A message arrives as it is, with the token; one that says what kind it is stands for itself.
        """
        receiver = self.receive()
        for token, stated in (
            ("", None),
            ("abc", "Bearer abc"),
            ("Basic abc", "Basic abc"),
        ):
            await self.send(self.webhook(receiver.url, token=token))
            self.assertEqual(receiver.headers[-1].get("authorization"), stated)
        self.assertEqual(receiver.messages, [{"Key": "bucket/key"}] * 3)
        self.assertEqual(receiver.headers[-1]["content-type"], "application/json")

    async def test_answers(self) -> None:
        """
        Whatever is no success is none; only some of it is about the event.  Nobody follows to
        another place.
        """
        receiver = self.receive()
        webhook = self.webhook(receiver.url)
        for status, of_the_event in (
            (301, False),
            (307, False),
            (400, True),
            (401, False),
            (404, False),
            (413, True),
            (429, False),
            (500, False),
            (503, False),
        ):
            receiver.status = status
            error = await self.fails(webhook)
            self.assertIn(str(status), str(error))
            self.assertEqual(error.of_the_event, of_the_event, status)
        self.assertEqual(len(receiver.messages), 9)
        for status in (200, 202, 204):
            receiver.status = status
            if status != 204:
                await self.send(webhook)

    async def test_old_http(self) -> None:
        """
        A receiver with HTTP/1.0, which closes each connection, gets one message after the other.
        """
        receiver = Receiver(protocol="HTTP/1.0")
        receiver.start()
        self.addCleanup(receiver.stop)
        webhook = self.webhook(receiver.url)
        for number in range(1, 101):
            await self.send(webhook)
            self.assertEqual(len(receiver.messages), number)

    async def test_nobody(self) -> None:
        """
        Where nobody listens, nothing is sent, and the target is away.
        """
        port = free_port()
        error = await self.fails(self.webhook(f"http://127.0.0.1:{port}/"))
        self.assertFalse(error.of_the_event)
        target = Target("A", "arn", f"http://127.0.0.1:{port}/", reactor)
        self.assertFalse(await target.reachable())
        receiver = self.receive()
        self.assertTrue(await Target("A", "arn", receiver.url, reactor).reachable())

    async def test_hanging(self) -> None:
        """
        Who does not answer is given up, with a reason, and can be asked again.
        """
        receiver = self.receive()
        webhook = self.webhook(receiver.url, deadline=0.5)
        with receiver.holding():
            error = await self.fails(webhook)
        self.assertIn("0.5 s", str(error))
        self.assertFalse(error.of_the_event)
        await self.send(self.webhook(receiver.url))

    async def test_cancelled(self) -> None:
        """
        What is given up by who sends it ends as such, and not as a failure of the target.
        """
        receiver = self.receive()
        webhook = self.webhook(receiver.url)
        await webhook.prepare()
        with receiver.holding():
            sending = Deferred.fromCoroutine(webhook.send(_MESSAGE))
            for _ in range(1000):
                if receiver.messages:
                    break
                await deferLater(reactor, 0.01)
            sending.cancel()
            with self.assertRaises(CancelledError):
                await sending


class TLSTests(WebhookCase):
    """
    Over TLS.
    """

    def server(self, clients: Authority | None = None) -> tuple[Receiver, Authorities]:
        """
        A receiver with a certificate, and those who trust it.

        :param clients: Whom clients have to be vouched for by.
        """
        key = new_key()
        found = certificate(key)
        cert, private = self.work / "server.crt", self.work / "server.key"
        cert.write_bytes(pem(found))
        private.write_bytes(key_pem(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, private)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=pem(clients.certificate).decode())
        return self.receive(context), Authorities((found,))

    async def test_trusted(self) -> None:
        """
        Who is vouched for by an authority of ours gets events, who is not gets none.
        """
        receiver, trusting = self.server()
        error = await self.fails(self.webhook(receiver.url))
        self.assertIn("certificate", str(error))
        self.assertEqual(receiver.messages, [])
        await self.send(self.webhook(receiver.url, trusting))
        self.assertEqual(len(receiver.messages), 1)

    async def test_other_name(self) -> None:
        """
        A certificate of another name is none.
        """
        receiver, trusting = self.server()
        await self.fails(self.webhook(receiver.url.replace("127.0.0.1", "127.0.0.2"), trusting))
        self.assertEqual(receiver.messages, [])

    async def test_client_certificate(self) -> None:
        """
        We show our certificate, if we have one, and the next one when it was replaced.
        """
        authority, stranger = Authority.make(), Authority.make("Stranger")
        receiver, trusting = self.server(authority)
        cert, private = self.work / "client.crt", self.work / "client.key"
        key = new_key()
        private.write_bytes(key_pem(key))
        await self.fails(self.webhook(receiver.url, trusting))
        cert.write_bytes(pem(stranger.sign(key, "client")))
        webhook = self.webhook(receiver.url, trusting, client_cert=cert, client_key=private)
        await self.fails(webhook)
        self.assertEqual(receiver.messages, [])
        cert.write_bytes(pem(authority.sign(key, "client")))
        await self.send(webhook)
        self.assertEqual(len(receiver.messages), 1)

    async def test_bad_files(self) -> None:
        """
        A certificate that cannot be used is told, and no key.
        """
        key = new_key()
        cert, private = self.work / "client.crt", self.work / "client.key"
        webhook = self.webhook("https://127.0.0.1:1/", client_cert=cert, client_key=private)
        self.assertIn("client.crt", str(await self.fails(webhook)))
        cert.write_bytes(pem(certificate(key)))
        private.write_bytes(b"SECRET")
        error = await self.fails(webhook)
        self.assertIn("PEM", str(error))
        self.assertNotIn("SECRET", str(error))
        private.write_bytes(key_pem(new_key()))
        self.assertIn("not of the key", str(await self.fails(webhook)))
