# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Temporary credentials for somebody who has logged in by an OpenID provider that is not ours.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, urlopen

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.cases import SyncCase
from tests.integration.server import (
    ACCESS_KEY,
    SECRET_KEY,
    STATIC_KEY,
    ServerProcess,
    base_environment,
)
from tests.integration.test_faults import wait_until
from tests.integration.tools import free_port

_CLIENT, _RETURN = "kypello-test", "http://127.0.0.1/done"


class _Stay(HTTPRedirectHandler):
    """
    Does not go where an answer leads to.
    """

    def redirect_request(self, *_arguments: Any) -> None:
        """
        Called by urllib: go nowhere.
        """


class ProviderTests(SyncCase):
    """
    A provider of its own program, with the usual flow of a login.
    """

    def setUp(self) -> None:
        """
        Start the provider, and a server that believes it.
        """
        self.provider = f"http://127.0.0.1:{(port := free_port())}"
        process = subprocess.Popen(
            [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--user", "alice"],
            env=base_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.kill)
        wait_until(self.answers)
        environment = {
            "MINIO_KMS_SECRET_KEY": STATIC_KEY,
            "MINIO_IDENTITY_OPENID_CONFIG_URL": f"{self.provider}/.well-known/openid-configuration",
            "MINIO_IDENTITY_OPENID_CLIENT_ID": _CLIENT,
            "MINIO_IDENTITY_OPENID_ROLE_POLICY": "readonly",
        }
        self.server = ServerProcess(Path(self.mktemp()).absolute(), environment)
        self.server.start()
        self.addCleanup(self.server.stop)
        root = self.client("s3", ACCESS_KEY, SECRET_KEY)
        root.create_bucket(Bucket="bucket")
        root.put_object(Bucket="bucket", Key="key", Body=b"content")

    def answers(self) -> bool:
        """
        Whether the provider does.
        """
        try:
            with urlopen(f"{self.provider}/jwks", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def client(self, service: str, access_key: str, secret_key: str, token: str = "") -> Any:
        """
        A client of boto3; one without an access key does not sign.
        """
        settings = Config(proxies={}, signature_version=None if access_key else UNSIGNED)
        made = boto3.client(
            service,
            endpoint_url=self.server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=access_key or None,
            aws_secret_access_key=secret_key or None,
            aws_session_token=token or None,
            config=settings,
        )
        self.addCleanup(made.close)
        return made

    def log_in(self, client_id: str = _CLIENT) -> str:
        """
        Log in as a browser does, and give the token.
        """
        asked = {
            "client_id": client_id,
            "redirect_uri": _RETURN,
            "response_type": "code",
            "scope": "openid",
        }
        url = f"{self.provider}/oauth2/authorize?{urlencode(asked)}"
        with self.assertRaises(HTTPError) as caught:
            build_opener(_Stay).open(Request(url, b"sub=alice"), timeout=10)
        with caught.exception as answer:
            self.assertEqual(answer.code, 302)
            (code,) = parse_qs(urlsplit(answer.headers["Location"]).query)["code"]
        given = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": _RETURN,
            "client_id": client_id,
            "client_secret": "any",
        }
        body = urlencode(given).encode()
        with urlopen(Request(f"{self.provider}/oauth2/token", body), timeout=10) as done:
            token: str = json.load(done)["id_token"]
            return token

    def assume(self, token: str) -> dict[str, Any]:
        """
        The credentials that a token is worth.
        """
        wait_until(lambda: "gives the role" in self.server.log)
        (role,) = re.findall(r"gives the role (\S+)", self.server.log)
        sts = self.client("sts", "", "")
        answer = sts.assume_role_with_web_identity(
            RoleArn=role, RoleSessionName="any", WebIdentityToken=token
        )
        found: dict[str, Any] = answer["Credentials"]
        return found

    def test_login(self) -> None:
        """
        Who has logged in may do what the role may, and no more.
        """
        found = self.assume(self.log_in())
        keys = (found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
        client = self.client("s3", *keys)
        got = client.get_object(Bucket="bucket", Key="key")
        self.assertEqual(got["Body"].read(), b"content")
        with self.assertRaises(ClientError):
            client.put_object(Bucket="bucket", Key="key", Body=b"other")

    def test_others(self) -> None:
        """
        A token for another program, or one that was changed, is worth nothing.
        """
        good = self.log_in()
        head, claims, signature = good.split(".")
        flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
        for token in (self.log_in("another"), f"{head}.{claims}.{flipped}"):
            with self.assertRaises(ClientError) as caught:
                self.assume(token)
            self.assertEqual(caught.exception.response["ResponseMetadata"]["HTTPStatusCode"], 400)
