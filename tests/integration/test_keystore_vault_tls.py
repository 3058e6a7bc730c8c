# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello.keystore.vault`` against OpenBao as it is run: with TLS, sealed at the start, and with
logins of workloads.
"""

import json
import os
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
from attrs import define, evolve
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.kes.certificates import Signer, make_authority, make_certificate
from kypello.keystore.vault import VaultKeyStore, make_vault
from kypello.keystore.vaultconfig import Kubernetes, Token, VaultSettings
from kypello.keystore.webtls import TLSFiles
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase
from tests.contracts.keystore import NAME
from tests.integration import tools
from tests.integration.bao import Bao
from tests.kes.certificates import key_pem, pem

_LIFETIME = 86400.0
_POLICY = """
path "kv/data/*" { capabilities = ["create", "read"] }
path "kv/metadata/*" { capabilities = ["list", "delete"] }
"""
_CONFIG = """
storage "inmem" {}
api_addr = "%(url)s"
listener "tcp" {
  address = "%(address)s"
  tls_cert_file = "%(folder)s/server.crt"
  tls_key_file = "%(folder)s/server.key"
  tls_client_ca_file = "%(folder)s/ca.crt"
  tls_require_and_verify_client_cert = true
}
"""


class Authority:
    """
    A CA with its files.
    """

    def __init__(self, folder: Path) -> None:
        """
        Make it.
        """
        self._folder = folder
        self._signer = Signer("CA", ec.generate_private_key(ec.SECP256R1()))
        root = make_authority(self._signer, now=time.time(), lifetime=_LIFETIME, random=os.urandom)
        self.file = folder / "ca.crt"
        self.file.write_bytes(pem(root))

    def certify(self, name: str) -> tuple[Path, Path]:
        """
        Write a key and a certificate for loopback.
        """
        owner = Signer(name, ec.generate_private_key(ec.SECP256R1()))
        made = make_certificate(
            owner,
            self._signer,
            ("localhost", "127.0.0.1"),
            now=time.time(),
            lifetime=_LIFETIME,
            random=os.urandom,
        )
        key, cert = self._folder / f"{name}.key", self._folder / f"{name}.crt"
        key.write_bytes(key_pem(owner.key))
        cert.write_bytes(pem(made))
        return key, cert


@define
class Cluster:
    """
    What OpenBao asks of Kubernetes: whose token it is (``TokenReview``).

    :ivar token: The one that it knows.
    """

    url: str
    token: str
    _server: ThreadingHTTPServer
    _thread: Thread

    @classmethod
    def start(cls) -> "Cluster":
        """
        Answer on loopback.
        """
        token = cls.sign()

        class Handler(BaseHTTPRequestHandler):
            """
            Answers one request.
            """

            def do_POST(self) -> None:
                """
                Called by Python: judge a token.
                """
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                known = asked["spec"]["token"] == token and self.path.endswith("/tokenreviews")
                user = {"username": "system:serviceaccount:space:account", "uid": "1"}
                asked["status"] = {"authenticated": known, "user": user if known else {}}
                body = json.dumps(asked).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """
                Called by Python: be silent.
                """

        server = ThreadingHTTPServer(("127.0.0.1", tools.free_port()), Handler)
        thread = Thread(target=server.serve_forever)
        thread.start()
        return cls(f"http://127.0.0.1:{server.server_port}", token, server, thread)

    @staticmethod
    def sign() -> str:
        """
        A token of the service account, which nobody knows yet.
        """
        now = int(time.time())
        account = {"name": "account", "uid": "1"}
        claims = {
            "sub": "system:serviceaccount:space:account",
            "nbf": now,
            "exp": now + 600,
            "kubernetes.io": {"namespace": "space", "serviceaccount": account},
        }
        return jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")

    def end(self) -> None:
        """
        Answer no more.
        """
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class TLSTests(AsyncCase):
    """
    A server with a file of settings, which knows its clients by certificates.
    """

    def setUp(self) -> None:
        """
        Start the server; it is not set up.
        """
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        authority = Authority(self.folder)
        authority.certify("server")
        key, cert = authority.certify("client")
        self.tls = TLSFiles(key, cert, authority.file)
        address = f"127.0.0.1:{tools.free_port()}"
        url = f"https://{address}"
        config = self.folder / "bao.hcl"
        config.write_text(_CONFIG % {"folder": self.folder, "address": address, "url": url})
        context = ssl.create_default_context(cafile=str(authority.file))
        context.load_cert_chain(cert, key)
        self.bao = Bao.spawn(self.folder, url, f"-config={config}", context=context)
        self.addCleanup(self.bao.end)

    def set_up(self) -> str:
        """
        Set the server up and unseal it.

        :return: What unseals it.
        """
        made = self.bao.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.bao.token = made["root_token"]
        key: str = made["keys_base64"][0]
        self.bao.ask("PUT", "sys/unseal", {"key": key})
        self.bao.mount("kv", "kv", 2)
        return key

    def store(self, **changes: Any) -> VaultKeyStore:
        """
        A store that is closed after the test.
        """
        settings = VaultSettings(self.bao.url, Token("", self.bao.token), version=2, tls=self.tls)
        store = make_vault(evolve(settings, **changes), reactor, InlineLanes())
        self.addCleanup(store.close)
        return store

    async def test_states(self) -> None:
        """
        A server that is not set up, or sealed, is unreachable; once it is unsealed the same
        store works.
        """
        with self.assertRaises(KeyStoreUnreachable) as caught:
            await self.store().prepare()
        self.assertIn("not initialized", caught.exception.reason)
        key = self.set_up()
        store = self.store()
        await store.prepare()
        await store.create(NAME, b"value")
        self.bao.ask("PUT", "sys/seal")
        for call in (store.get(NAME), store.status(), store.create("other", b"value")):
            with self.assertRaises(KeyStoreUnreachable) as caught:
                await call
            self.assertIn("sealed", caught.exception.reason)
        self.bao.ask("PUT", "sys/unseal", {"key": key})
        self.assertEqual(await store.get(NAME), b"value")
        self.assertEqual(await store.names(), [NAME])

    async def test_strangers(self) -> None:
        """
        A server of another CA is not trusted, and a client without certificate is told so.
        """
        self.set_up()
        other = self.folder / "other"
        os.mkdir(other)
        authority = Authority(other)
        for tls, expected in (
            (TLSFiles(self.tls.key, self.tls.cert, authority.file), "add the authority's"),
            (TLSFiles(self.tls.key, self.tls.cert), "not trusted"),
            (TLSFiles(ca=self.tls.ca), "our certificate"),
            (TLSFiles(*authority.certify("client"), self.tls.ca), "our certificate"),
        ):
            with self.assertRaises(KeyStoreUnreachable) as caught:
                await self.store(tls=tls).get(NAME)
            self.assertIn(expected, caught.exception.reason)

    async def test_folder_of_authorities(self) -> None:
        """
        The authorities may be the files of a folder.
        """
        self.set_up()
        folder = self.folder / "authorities"
        os.mkdir(folder)
        os.link(self.folder / "ca.crt", folder / "ca.pem")
        store = self.store(tls=evolve(self.tls, ca=folder))
        await store.prepare()

    async def test_unusable_files(self) -> None:
        """
        Files that cannot be used are told by their names.
        """
        for tls, expected in (
            (evolve(self.tls, ca=self.folder / "none"), "none"),
            (evolve(self.tls, ca=self.folder / "server.key"), "holds no certificate"),
            (evolve(self.tls, key=self.folder / "ca.crt"), "holds no private key"),
            (evolve(self.tls, key=self.folder / "server.key"), "is not the key of"),
        ):
            with self.assertRaises(KeyStoreFailed) as caught:
                await self.store(tls=tls).prepare()
            self.assertIn(expected, caught.exception.reason)

    async def test_kubernetes(self) -> None:
        """
        The token of a service account logs in; its file is read with each login.
        """
        self.set_up()
        cluster = Cluster.start()
        self.addCleanup(cluster.end)
        authority = await deferToThread((self.folder / "ca.crt").read_text)
        self.bao.ask("PUT", "sys/policies/acl/kypello", {"policy": _POLICY})
        self.bao.ask("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
        self.bao.ask(
            "POST",
            "auth/kubernetes/config",
            {
                "kubernetes_host": cluster.url,
                "kubernetes_ca_cert": authority,
                "disable_local_ca_jwt": True,
            },
        )
        self.bao.ask(
            "POST",
            "auth/kubernetes/role/kes",
            {
                "bound_service_account_names": ["account"],
                "bound_service_account_namespaces": ["space"],
                "token_policies": ["kypello"],
                "token_ttl": "1h",
            },
        )
        direct = self.store(login=Kubernetes("kubernetes", "", "kes", cluster.token))
        await direct.create(NAME, b"value")
        file = self.folder / "token"
        store = self.store(login=Kubernetes("kubernetes", "", "kes", str(file)))
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.get(NAME)
        self.assertIn(str(file), caught.exception.reason)
        stranger = Cluster.sign()
        _write(file, stranger)
        with self.assertRaises(KeyStoreFailed) as caught:
            await store.get(NAME)
        self.assertIn("the login is refused", caught.exception.reason)
        self.assertNotIn(stranger, repr(caught.exception))
        _write(file, f"{cluster.token}\n")
        self.assertEqual(await store.get(NAME), b"value")


def _write(file: Path, text: str) -> None:
    file.write_text(text)
