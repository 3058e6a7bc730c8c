# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A whole server, with its workers, that gives temporary credentials and takes them.
"""

import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from minio import Minio
from minio.credentials import CertificateIdentityProvider, LdapIdentityProvider
from minio.error import S3Error
from urllib3 import PoolManager

from tests.cases import SyncCase
from tests.iam.authority import Authority
from tests.integration.directory import (
    BASE,
    LOOKUP,
    LOOKUP_PASSWORD,
    PASSWORDS,
    DirectoryServer,
)
from tests.integration.server import (
    ACCESS_KEY,
    SECRET_KEY,
    STATIC_KEY,
    ServerProcess,
    base_environment,
)
from tests.integration.tools import require
from tests.kes.certificates import certificate, key_pem, new_key, pem

_READING = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject"],'
    '"Resource":["arn:aws:s3:::bucket/*"]}]}'
)
_ROLE = "arn:xxx:xxx:xxx:xxxx"


class SessionTests(SyncCase):
    """
    Sessions of boto3.
    """

    def setUp(self) -> None:
        """
        Start a server with a bucket.
        """
        self.server = ServerProcess(
            Path(self.mktemp()).absolute(), {"MINIO_KMS_SECRET_KEY": STATIC_KEY}
        )
        self.server.start()
        self.addCleanup(self.server.stop)
        self.root = self.client("s3", ACCESS_KEY, SECRET_KEY)
        self.root.create_bucket(Bucket="bucket")
        self.root.put_object(Bucket="bucket", Key="key", Body=b"content")

    def client(self, service: str, access_key: str, secret_key: str, token: str = "") -> Any:
        """
        A client of boto3, which opens its own connections.
        """
        made = boto3.client(
            service,
            endpoint_url=self.server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token or None,
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        self.addCleanup(made.close)
        return made

    def session(self, **arguments: Any) -> dict[str, Any]:
        """
        The credentials of a session of the root user.
        """
        sts = self.client("sts", ACCESS_KEY, SECRET_KEY)
        answer = sts.assume_role(RoleArn=_ROLE, RoleSessionName="any", **arguments)
        found: dict[str, Any] = answer["Credentials"]
        return found

    def with_session(self, service: str, found: dict[str, Any], token: str | None = None) -> Any:
        """
        A client that uses a session.

        :param token: Another one than that of the session.
        """
        shown = found["SessionToken"] if token is None else token
        return self.client(service, found["AccessKeyId"], found["SecretAccessKey"], shown)

    def refused(self, call: Any, code: str, **arguments: Any) -> None:
        """
        See that a call is refused.
        """
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)

    def test_session(self) -> None:
        """
        A session works at once in every worker, after a restart, and only with its token.
        """
        found = self.session()
        for _ in range(8):
            answer = self.with_session("s3", found).get_object(Bucket="bucket", Key="key")
            self.assertEqual(answer["Body"].read(), b"content")
        self.server.kill()
        self.server.start()
        self.with_session("s3", found).put_object(Bucket="bucket", Key="other", Body=b"x")
        stranger = self.with_session("s3", found, "another-token")
        self.refused(stranger.get_object, "InvalidToken", Bucket="bucket", Key="key")
        again = self.with_session("sts", found)
        self.refused(again.assume_role, "AccessDenied", RoleArn=_ROLE, RoleSessionName="any")

    def test_narrowed(self) -> None:
        """
        A session does no more than its policy allows.
        """
        client = self.with_session("s3", self.session(Policy=_READING))
        answer = client.get_object(Bucket="bucket", Key="key")
        self.assertEqual(answer["Body"].read(), b"content")
        self.refused(client.put_object, "AccessDenied", Bucket="bucket", Key="key", Body=b"x")
        self.refused(client.list_objects_v2, "AccessDenied", Bucket="bucket")

    def test_presigned(self) -> None:
        """
        A session signs URLs that work without anything else.
        """
        url = self.with_session("s3", self.session()).generate_presigned_url(
            "get_object", {"Bucket": "bucket", "Key": "key"}
        )
        with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
            self.assertEqual(answer.read(), b"content")


class CertificateTests(SyncCase):
    """
    A server over TLS that asks for certificates.
    """

    def test_session(self) -> None:
        """
        minio-py gets sessions for a certificate by itself and uses them; whoever has none is
        served as before.
        """
        folder = Path(self.mktemp()).absolute()
        (folder / "CAs").mkdir(parents=True)
        server_key, client_key = new_key(), new_key()
        (folder / "public.crt").write_bytes(pem(certificate(server_key)))
        (folder / "private.key").write_bytes(key_pem(server_key))
        authority = Authority.make()
        (folder / "CAs" / "ours.crt").write_bytes(pem(authority.certificate))
        (folder / "client.crt").write_bytes(pem(authority.sign(client_key, "readonly")))
        (folder / "client.key").write_bytes(key_pem(client_key))
        server = ServerProcess(
            Path(self.mktemp()).absolute(),
            {"MINIO_KMS_SECRET_KEY": STATIC_KEY, "MINIO_IDENTITY_TLS_ENABLE": "on"},
            ("--certs-dir", str(folder)),
            scheme="https",
        )
        server.start()
        self.addCleanup(server.stop)
        address, ca = server.endpoint.removeprefix("https://"), str(folder / "public.crt")
        with (
            PoolManager(ca_certs=ca, retries=False) as plainly,
            PoolManager(
                ca_certs=ca,
                retries=False,
                cert_file=str(folder / "client.crt"),
                key_file=str(folder / "client.key"),
            ) as known,
        ):
            root = Minio(address, access_key=ACCESS_KEY, secret_key=SECRET_KEY, http_client=plainly)
            root.make_bucket("bucket")
            root.put_object("bucket", "key", BytesIO(b"content"), 7)
            provider = CertificateIdentityProvider(sts_endpoint=server.endpoint, http_client=known)
            # The certificate is for the session; requests with it need none.
            client = Minio(address, credentials=provider, region="us-east-1", http_client=plainly)
            with client.get_object("bucket", "key") as answer:
                self.assertEqual(answer.read(), b"content")
            with self.assertRaises(S3Error) as caught:
                client.put_object("bucket", "key", BytesIO(b"x"), 1)
            self.assertEqual(caught.exception.code, "AccessDenied")


class DirectoryTests(SyncCase):
    """
    A server beside a real directory.
    """

    def test_session(self) -> None:
        """
        Somebody of the directory gets a session as soon as mc has attached a policy to a group of
        theirs, and none as soon as it has detached it.
        """
        mc, folder = require("mc"), Path(self.mktemp()).absolute()
        directory = DirectoryServer(folder / "slapd")
        directory.start()
        self.addCleanup(directory.stop)
        (folder / "CAs").mkdir()
        (folder / "CAs" / "directory.crt").write_bytes(directory.authority.read_bytes())
        ldap = {
            "SERVER_ADDR": f"127.0.0.1:{directory.tls_port}",
            "LOOKUP_BIND_DN": LOOKUP,
            "LOOKUP_BIND_PASSWORD": LOOKUP_PASSWORD,
            "USER_DN_SEARCH_BASE_DN": f"ou=People,{BASE}",
            "USER_DN_SEARCH_FILTER": "(uid=%s)",
            "GROUP_SEARCH_BASE_DN": f"ou=Groups,{BASE}",
            "GROUP_SEARCH_FILTER": "(member=%d)",
        }
        server = ServerProcess(
            folder / "data",
            {
                "MINIO_KMS_SECRET_KEY": STATIC_KEY,
                **{f"MINIO_IDENTITY_LDAP_{name}": text for name, text in ldap.items()},
            },
            ("--certs-dir", str(folder)),
        )
        server.start()
        self.addCleanup(server.stop)
        address = server.endpoint.removeprefix("http://")

        def change(verb: str) -> None:
            """
            Attach or detach the policy.
            """
            done = subprocess.run(
                [
                    *(mc, "--config-dir", folder / "mc", "idp", "ldap", "policy", verb, "here"),
                    *("readwrite", "--group", f"CN=Readers, ou=Groups, {BASE}"),
                ],
                env={
                    **base_environment(),
                    "MC_HOST_here": f"http://{ACCESS_KEY}:{SECRET_KEY}@{address}",
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=False,
            )
            self.assertEqual(done.returncode, 0, done.stdout)

        def log_in() -> Minio:
            """
            A client with a session of somebody in the group.
            """
            provider = LdapIdentityProvider(server.endpoint, "bob", PASSWORDS["bob"])
            provider.retrieve()
            return Minio(address, credentials=provider, secure=False)

        with self.assertRaises(ValueError):
            log_in()
        change("attach")
        client = log_in()
        client.make_bucket("bucket")
        change("detach")
        with self.assertRaises(S3Error) as caught:
            client.list_buckets()
        self.assertEqual(caught.exception.code, "AccessDenied")
        with self.assertRaises(ValueError):
            log_in()
