# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The security token service over real connections: boto3 and minio-py, an OpenID provider over
HTTPS, a real directory, and clients with certificates.
"""

import json
import os
import ssl
from collections.abc import Mapping
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree.ElementTree import Element, fromstring

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from minio.credentials import (
    AssumeRoleProvider,
    CertificateIdentityProvider,
    ClientGrantsProvider,
    LdapIdentityProvider,
    WebIdentityProvider,
)
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from urllib3 import PoolManager

from kypello.http.listener import Listener
from kypello.http.site import StreamingSite
from kypello.http.tls import Clients, ServerTLS, TLSFiles, load
from kypello.iam.accounts import Accounts
from kypello.iam.authenticate import Authenticator
from kypello.iam.authorities import Authorities
from kypello.iam.certificates import Certificates
from kypello.iam.ldap import Directory
from kypello.iam.openid import OpenID
from kypello.iam.slowing import Slowing
from kypello.iam.values import Holder, HolderKind
from kypello.iam.webclient import MAX_DOCUMENT, WebClient
from kypello.identityconfig import LDAPSettings, OpenIDSettings
from kypello.model import Question
from kypello.store.memory import MemoryIndex
from kypello.sts.front import STSFront
from kypello.sts.root import STSResource
from kypello.sts.wire import NAMESPACE
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase
from tests.iam.authority import Authority
from tests.iam.issuer import CLIENT, Issuer
from tests.integration.directory import (
    BASE,
    LOOKUP,
    LOOKUP_PASSWORD,
    PASSWORDS,
    DirectoryServer,
)
from tests.integration.tools import free_port
from tests.kes.certificates import certificate, key_pem, new_key, pem
from tests.sts.front import ROOT

#: What clients give that must give something.
ROLE = "arn:minio:iam:::role/dummy-internal"

#: A policy that narrows a session.
READING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::*"]}],
}


class _Documents(Resource):
    """
    What an issuer tells, over HTTP.
    """

    isLeaf = True

    def __init__(self, issuer: Issuer) -> None:
        """
        Serve the documents of *issuer*.
        """
        Resource.__init__(self)
        self._issuer = issuer
        self.answer: bytes | None = None
        self.silent: Deferred[None] | None = None

    def render_GET(self, request: Request) -> bytes | int:
        """
        Called by Twisted: answer, or tell that somebody waits.
        """
        if self.silent is not None:
            self.silent.callback(None)
            return NOT_DONE_YET
        bearer = (request.getHeader("authorization") or "").removeprefix("Bearer ")
        found = self._issuer.document(request.path.decode(), bearer)
        if self.answer is not None:
            return self.answer
        if found is None:
            request.setResponseCode(401 if bearer else 404)
            return b""
        return json.dumps(found).encode()


class STSCase(AsyncCase):
    """
    A service over TLS, which asks for certificates of clients.
    """

    async def setUp(self) -> None:
        """
        Serve accounts in memory.
        """
        self.folder = Path(self.mktemp())
        (self.folder / "CAs").mkdir(parents=True)
        server_key = new_key()
        self.server_certificate = certificate(server_key)
        self.cert, self.key = self.write("public", self.server_certificate, server_key)
        self.authority = Authority.make()
        (self.folder / "CAs" / "ours.crt").write_bytes(
            pem(self.authority.certificate, self.server_certificate)
        )
        self.authorities = Authorities.load(self.folder / "CAs")
        self.accounts = Accounts(MemoryIndex(), None, ROOT, reactor, os.urandom)

    def write(self, name: str, found: Any, key: Any) -> tuple[Path, Path]:
        """
        Put a certificate and its key into files.
        """
        cert_path, key_path = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert_path.write_bytes(pem(found))
        key_path.write_bytes(key_pem(key))
        return cert_path, key_path

    async def serve(self, **options: Any) -> None:
        """
        Listen.

        :param options: For :class:`STSFront`.
        """
        front = STSFront(
            accounts=self.accounts,
            authenticator=Authenticator(self.accounts, None, reactor),
            clock=reactor,
            slowing=Slowing(reactor),
            **options,
        )
        site = StreamingSite(STSResource(front), reactor, access_log=False)
        files = TLSFiles(self.key, self.cert, clients=Clients.WELCOME_BY_KEY)
        listener = Listener(reactor, site, "127.0.0.1", free_port(), InlineLanes(), files)
        await listener.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop(0)))
        self.port = listener.port
        self.url = f"https://127.0.0.1:{self.port}"

    def boto(self, call: str, token: str | None = None, **arguments: Any) -> "Deferred[Any]":
        """
        Make a call with boto3, as the root user.

        :param token: What it says to be the token of a session.
        """
        client = boto3.client(
            "sts",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=ROOT.access_key,
            aws_secret_access_key=ROOT.secret_key,
            aws_session_token=token,
            verify=str(self.cert),
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

        def work() -> Any:
            """
            Make it.
            """
            try:
                return getattr(client, call)(RoleSessionName="whatever", **arguments)
            finally:
                client.close()

        return deferToThread(work)

    async def post(
        self,
        action: str,
        fields: Mapping[str, str] | None = None,
        shown: tuple[Path, Path] | None = None,
        *,
        query: bool = False,
    ) -> tuple[int, Element]:
        """
        Make a call, with a certificate and its key or without.
        """
        told = urlencode({"Action": action, "Version": "2011-06-15", **(fields or {})})

        def send() -> tuple[int, bytes]:
            """
            Send it.
            """
            context = ssl.create_default_context(cafile=str(self.cert))
            if shown is not None:
                context.load_cert_chain(*shown)
            connection = HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)
            try:
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                if query:
                    connection.request("POST", f"/?{told}", "", headers)
                else:
                    connection.request("POST", "/", told, headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            finally:
                connection.close()

        status, body = await deferToThread(send)
        tree = fromstring(body)
        for element in tree.iter():
            element.tag = element.tag.removeprefix(f"{{{NAMESPACE}}}")
        return status, tree

    async def retrieve(self, provider: Any, **arguments: Any) -> str:
        """
        Get credentials with minio-py.

        :return: The access key, of which the session has all that came with it.
        """
        pool = PoolManager(ca_certs=str(self.cert), retries=False, **arguments.pop("pool", {}))

        def work() -> Any:
            """
            Get them.
            """
            with pool:
                return provider(sts_endpoint=self.url, http_client=pool, **arguments).retrieve()

        found = await deferToThread(work)
        identity = await self.accounts.identity(found.access_key)
        assert identity is not None
        self.assertEqual(
            (found.secret_key, found.session_token), (identity.secret_key, identity.token)
        )
        access_key: str = found.access_key
        return access_key

    async def may(self, access_key: str | None, action: str) -> bool:
        """
        Whether a session may do something in a bucket.
        """
        identity = await self.accounts.identity(access_key or "")
        assert identity is not None
        return await self.accounts.allows(identity, Question(action, "bucket/key"), {})


class SignedTests(STSCase):
    """
    Calls that users sign.
    """

    async def test_minio(self) -> None:
        """
        minio-py gets a session that a policy narrows.
        """
        await self.serve()
        access_key = await self.retrieve(
            AssumeRoleProvider,
            access_key=ROOT.access_key,
            secret_key=ROOT.secret_key,
            policy=json.dumps(READING),
        )
        self.assertTrue(await self.may(access_key, "s3:GetObject"))
        self.assertFalse(await self.may(access_key, "s3:PutObject"))

    async def test_assume_role(self) -> None:
        """
        It gets a session, and reads when that ends.
        """
        await self.serve()
        answer = await self.boto("assume_role", RoleArn=ROLE, DurationSeconds=900)
        credentials = answer["Credentials"]
        left = credentials["Expiration"].timestamp() - reactor.seconds()
        self.assertTrue(880 < left <= 900, left)
        identity = await self.accounts.identity(credentials["AccessKeyId"])
        assert identity is not None
        self.assertEqual(identity.token, credentials["SessionToken"])
        self.assertTrue(await self.may(credentials["AccessKeyId"], "s3:PutObject"))

    async def test_refused(self) -> None:
        """
        It reads errors.
        """
        await self.serve()
        calling = self.boto("assume_role", "no-such-token", RoleArn=ROLE)
        error = (await self.assertFailure(calling, ClientError)).response
        self.assertEqual(error["Error"]["Code"], "AccessDenied")
        self.assertEqual(error["ResponseMetadata"]["HTTPStatusCode"], 403)


class WebIdentityTests(STSCase):
    """
    An OpenID provider over HTTPS.
    """

    async def setUp(self) -> None:
        """
        Start it, and trust it.
        """
        await super().setUp()
        self.issuer = Issuer()
        self.documents = _Documents(self.issuer)
        tls = ServerTLS(load(TLSFiles(self.key, self.cert)))
        port = reactor.listenTCP(
            free_port(),
            TLSMemoryBIOFactory(tls, False, Site(self.documents)),
            interface="127.0.0.1",
        )
        self.addCleanup(port.stopListening)
        self.issuer.url = f"https://127.0.0.1:{port.getHost().port}"
        await self.trust(self.authorities)

    async def trust(self, authorities: Authorities, **changes: Any) -> None:
        """
        Serve those whom the provider knows.
        """
        settings = OpenIDSettings("", self.issuer.config_url, CLIENT, **changes)
        self.web = WebClient.make(reactor, authorities)
        await self.serve(web_identities=OpenID.make(reactor, self.web.get, [settings]))

    def token(self, **claims: Any) -> str:
        """
        A token of now.
        """
        return self.issuer.token(reactor.seconds(), **claims)

    def assume(self, token: str) -> "Deferred[Any]":
        """
        Ask for a session with boto3.
        """
        return self.boto("assume_role_with_web_identity", RoleArn=ROLE, WebIdentityToken=token)

    async def test_session(self) -> None:
        """
        boto3 gets a session for a token.
        """
        answer = await self.assume(self.token(policy="readonly"))
        self.assertEqual(answer["SubjectFromWebIdentityToken"], "alice")
        access_key = answer["Credentials"]["AccessKeyId"]
        self.assertTrue(await self.may(access_key, "s3:GetObject"))
        self.assertFalse(await self.may(access_key, "s3:PutObject"))

    async def test_minio(self) -> None:
        """
        minio-py gets a session for a token, in both ways.
        """
        for provider in (WebIdentityProvider, ClientGrantsProvider):
            access_key = await self.retrieve(
                provider,
                jwt_provider_func=lambda: {"access_token": self.token(), "expires_in": "3600"},
            )
            self.assertTrue(await self.may(access_key, "s3:PutObject"))

    async def test_refused(self) -> None:
        """
        boto3 reads why a token is refused.
        """
        for token, code in (
            (self.token(exp=1), "ExpiredToken"),
            (self.token(aud="another"), "InvalidParameterValue"),
        ):
            error = await self.assertFailure(self.assume(token), ClientError)
            self.assertEqual(error.response["Error"]["Code"], code)

    async def test_userinfo(self) -> None:
        """
        The provider is asked about a person, with the access token.
        """
        await self.trust(self.authorities, userinfo=True)
        self.issuer.people["of-alice"] = {"sub": "alice", "policy": "readonly"}
        fields = {"WebIdentityToken": self.token(policy=None), "WebIdentityAccessToken": "of-alice"}
        status, _tree = await self.post("AssumeRoleWithWebIdentity", fields)
        self.assertEqual(status, 200)
        fields["WebIdentityAccessToken"] = "of-nobody"
        status, tree = await self.post("AssumeRoleWithWebIdentity", fields)
        self.assertEqual((status, tree.findtext("Error/Code")), (400, "InvalidParameterValue"))

    async def test_gone(self) -> None:
        """
        Whoever goes away while the provider is asked says nothing about the provider.
        """
        self.documents.silent = Deferred()
        waiting = Deferred.fromCoroutine(self.web.get(self.issuer.config_url))
        await self.documents.silent
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)

    async def test_unreachable(self) -> None:
        """
        A provider that is not trusted, tells too much or nothing, or sends us elsewhere, is told
        apart.
        """

        async def refused(authorities: Authorities) -> None:
            """
            See that it cannot be asked.
            """
            await self.trust(authorities)
            fields = {"WebIdentityToken": self.token()}
            status, tree = await self.post("AssumeRoleWithWebIdentity", fields)
            self.assertEqual((status, tree.findtext("Error/Code")), (503, "IDPCommunicationError"))

        await refused(Authorities())
        for answer in (b"x" * (MAX_DOCUMENT + 1), b"", b"[]"):
            self.documents.answer = answer
            await refused(self.authorities)
        self.documents.answer = None
        self.issuer.discovery["jwks_uri"] = f"{self.issuer.url}/elsewhere"
        await refused(self.authorities)


class LDAPTests(STSCase):
    """
    A real directory.
    """

    async def test_session(self) -> None:
        """
        Somebody with a password and a policy gets a session; others get the same answer.
        """
        server = DirectoryServer(self.folder.absolute() / "slapd")
        server.start()
        self.addCleanup(server.stop)
        settings = LDAPSettings(
            "127.0.0.1",
            server.tls_port,
            lookup_dn=LOOKUP,
            lookup_password=LOOKUP_PASSWORD,
            user_bases=(f"ou=People,{BASE}",),
            user_filter="(uid=%s)",
            group_bases=(f"ou=Groups,{BASE}",),
            group_filter="(member=%d)",
        )
        (self.folder / "CAs" / "directory.crt").write_bytes(server.authority.read_bytes())
        authorities = Authorities.load(self.folder / "CAs")
        await self.serve(directory=Directory(reactor, settings, authorities))
        group = Holder(HolderKind.SUBJECT, f"cn=writers,ou=groups,{BASE}")
        await self.accounts.attach(["writeonly"], group)
        action, messages = "AssumeRoleWithLDAPIdentity", set()
        for user, password in (
            ("bob", PASSWORDS["bob"]),
            ("alice", "wrong"),
            ("nobody", "wrong"),
        ):
            fields = {"LDAPUsername": user, "LDAPPassword": password}
            status, tree = await self.post(action, fields)
            self.assertEqual(status, 400)
            messages.add((tree.findtext("Error/Code"), tree.findtext("Error/Message")))
        self.assertEqual(len(messages), 1)
        access_key = await self.retrieve(
            LdapIdentityProvider, ldap_username="alice", ldap_password=PASSWORDS["alice"]
        )
        self.assertTrue(await self.may(access_key, "s3:PutObject"))
        fields = {"LDAPUsername": "alice", "LDAPPassword": PASSWORDS["alice"]}
        for query in (False, True):
            status, tree = await self.post(action, fields, query=query)
            self.assertEqual((status, tree.tag), (200, f"{action}Response"))
            access_key = tree.findtext(f"{action}Result/Credentials/AccessKeyId")
            self.assertTrue(await self.may(access_key, "s3:PutObject"))
            self.assertFalse(await self.may(access_key, "s3:GetObject"))


class CertificateTests(STSCase):
    """
    Clients with certificates, and without.
    """

    action = "AssumeRoleWithCertificate"

    async def setUp(self) -> None:
        """
        Serve them.
        """
        await super().setUp()
        await self.serve(certificates=Certificates(self.authorities.store))

    def make(self, authority: Authority, name: str, **more: Any) -> tuple[Path, Path]:
        """
        Make a certificate of a client.
        """
        key = new_key()
        return self.write(f"client-{name}", authority.sign(key, name, **more), key)

    async def refused(self, shown: tuple[Path, Path] | None, code: str) -> str:
        """
        See that a client gets no session; give the reason.
        """
        status, tree = await self.post(self.action, shown=shown, query=True)
        self.assertEqual((status, tree.findtext("Error/Code")), (400, code))
        return tree.findtext("Error/Message") or ""

    async def test_session(self) -> None:
        """
        A client gets the policy that its certificate names, asked in either way.
        """
        shown = self.make(self.authority, "readonly")
        for query in (True, False):
            status, tree = await self.post(self.action, shown=shown, query=query)
            self.assertEqual((status, tree.tag), (200, f"{self.action}Response"))
            result = tree.find(f"{self.action}Result")
            assert result is not None
            self.assertEqual([one.tag for one in result], ["Credentials"])
            access_key = result.findtext("Credentials/AccessKeyId")
            identity = await self.accounts.identity(access_key or "")
            assert identity is not None
            self.assertEqual(identity.user, "tls:readonly")
            self.assertTrue(await self.may(access_key, "s3:GetObject"))
            self.assertFalse(await self.may(access_key, "s3:PutObject"))

    async def test_refused(self) -> None:
        """
        Other certificates get nothing, but the connection serves them all the same.
        """
        other = Authority.make("Other")
        await self.refused(None, "MissingParameter")
        await self.refused(self.make(other, "readonly"), "InvalidClientCertificate")
        reason = await self.refused(
            self.make(self.authority, "no-such-policy"), "InvalidParameterValue"
        )
        self.assertIn("no-such-policy", reason)

    async def test_minio(self) -> None:
        """
        minio-py gets a session for a certificate.
        """
        cert, key = self.make(self.authority, "readwrite")
        pool = {"cert_file": str(cert), "key_file": str(key)}
        access_key = await self.retrieve(CertificateIdentityProvider, pool=pool)
        self.assertTrue(await self.may(access_key, "s3:PutObject"))

    async def test_duration(self) -> None:
        """
        A duration out of range is told in the words of this action.
        """
        shown = self.make(self.authority, "readonly")
        status, tree = await self.post(self.action, {"DurationSeconds": "10"}, shown)
        self.assertEqual((status, tree.findtext("Error/Code")), (400, "MissingParameter"))

    async def test_others(self) -> None:
        """
        Clients without a certificate use everything else as before.
        """
        answer = await self.boto("assume_role", RoleArn=ROLE)
        self.assertTrue(answer["Credentials"]["AccessKeyId"])
