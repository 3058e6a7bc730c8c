# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Every key store that is a service, in all the weather that there is between it and us.
"""

import os
from collections.abc import Awaitable, Callable, Mapping

from attrs import define
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.protocol import Factory, Protocol

from kypello.auth.signer import Keys
from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.interfaces import IKeyStore
from kypello.keystore.aws import AWSKeyStore
from kypello.keystore.awsconfig import AWSSettings
from kypello.keystore.bearer import BearerClient
from kypello.keystore.gcp import GCPKeyStore
from kypello.keystore.gcpconfig import GCPSettings
from kypello.keystore.gemalto import GemaltoKeyStore
from kypello.keystore.gemaltoconfig import GemaltoSettings
from kypello.keystore.renewed import Lease, Renewed
from kypello.keystore.vault import make_vault
from kypello.keystore.vaultconfig import AppRole, VaultSettings
from kypello.keystore.web import WebClient
from kypello.keystore.webtls import TLSFiles
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase
from tests.integration.tools import free_port

#: What is sent to whoever asks; ``None`` breaks the connection off.
_WEATHER: Mapping[str, bytes | None] = {
    "broken off": None,
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half an answer": b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"name": "k',
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{}",
    "asked too often": b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}",
    "an error": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "a bad gateway": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>",
    "out of service": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
}

#: What a stranger answers, who is there but no such service.
_STRANGERS: Mapping[str, bytes] = {
    "a page": b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>",
    "a list": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "a redirection": b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
}


@define(eq=False)
class _Service(Factory):
    """
    Answers every request with the same bytes, and hangs up.

    :ivar answer: Those; ``None`` to break the connection off.
    """

    answer: bytes | None = b""

    def buildProtocol(self, addr: object) -> Protocol:
        """
        Called by Twisted.
        """
        service = self

        class Talk(Protocol):
            """
            One connection.
            """

            heard = b""

            def dataReceived(self, data: bytes) -> None:
                """
                Answer when the head is complete.
                """
                self.heard += data
                if b"\r\n\r\n" not in self.heard:
                    return
                if service.answer is None:
                    self.transport.abortConnection()
                    return
                self.transport.write(service.answer)
                self.transport.loseConnection()

        return Talk()


async def _token() -> Lease[str]:
    return Lease("token")


def _stores(url: str) -> dict[str, IKeyStore]:
    """
    One of each kind, which has its credentials.
    """
    lanes = InlineLanes()
    seconds = reactor.seconds  # type: ignore[attr-defined]
    web = WebClient.make(reactor, TLSFiles(), lanes)
    bearer = BearerClient(web, Renewed(_token, seconds))
    vault = VaultSettings(url, AppRole("", "approle", "role", "secret"), version=2, ping=0.0)
    gcp = GCPSettings(url, "project", "", (), (), ())
    aws = AWSSettings(url, "region", "", "", (Keys("a", "b"),))
    return {
        "vault": make_vault(vault, reactor, lanes),
        "aws": AWSKeyStore.make(aws, reactor, lanes, os.urandom),
        "gcp": GCPKeyStore(gcp, bearer, f"{url}/v1/projects/project/secrets", seconds),
        "gemalto": GemaltoKeyStore(
            GemaltoSettings(url, "token"), bearer, f"{url}/secrets", seconds
        ),
    }


def _calls(store: IKeyStore) -> dict[str, Callable[[], Awaitable[object]]]:
    return {
        "create": lambda: store.create("key", b"value"),
        "get": lambda: store.get("key"),
        "delete": lambda: store.delete("key"),
        "names": store.names,
        "status": store.status,
    }


class WeatherTests(AsyncCase):
    """
    Services that do not answer as they should.
    """

    def serve(self) -> tuple[_Service, str]:
        """
        Have somebody listen.
        """
        service, port = _Service(), free_port()
        listening = IReactorTCP(reactor).listenTCP(port, service, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return service, f"http://127.0.0.1:{port}"

    async def test_weather(self) -> None:
        """
        Whoever gives no whole answer, or says that it cannot just now, is out of reach: keys that
        are in memory go on to serve.  The reason names the service, and no key.
        """
        service, url = self.serve()
        for kind, store in _stores(url).items():
            for weather, answer in _WEATHER.items():
                service.answer = answer
                for name, call in _calls(store).items():
                    with self.subTest(kind=kind, weather=weather, call=name):
                        with self.assertRaises(KeyStoreUnreachable) as caught:
                            await call()
                        self.assertIn("127.0.0.1", caught.exception.reason)
            await store.close()

    async def test_throttled(self) -> None:
        """
        AWS says with a status of its own that it is asked too often.
        """
        service, url = self.serve()
        said = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
        service.answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (
            len(said),
            said,
        )
        store = _stores(url)["aws"]
        for call in _calls(store).values():
            with self.assertRaises(KeyStoreUnreachable) as caught:
                await call()
            self.assertIn("Rate exceeded", caught.exception.reason)

    async def test_refused(self) -> None:
        """
        So is who is not there.
        """
        for kind, store in _stores(f"http://127.0.0.1:{free_port()}").items():
            for name, call in _calls(store).items():
                with self.subTest(kind=kind, call=name), self.assertRaises(KeyStoreUnreachable):
                    await call()
            await store.close()

    async def test_strangers(self) -> None:
        """
        A whole answer that is not that of such a service is a failure, and no key.
        """
        service, url = self.serve()
        for kind, store in _stores(url).items():
            for stranger, answer in _STRANGERS.items():
                service.answer = answer
                for name, call in _calls(store).items():
                    if name in ("delete", "status"):
                        # These look at the status alone.
                        continue
                    with (
                        self.subTest(kind=kind, stranger=stranger, call=name),
                        self.assertRaises((KeyStoreFailed, KeyStoreUnreachable)),
                    ):
                        await call()
            await store.close()
