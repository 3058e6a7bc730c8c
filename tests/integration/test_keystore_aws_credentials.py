# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello.keystore.awscredentials`` against servers of the tests, which botocore judges: it gets
the same credentials from them.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from attrs import define
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from kypello.auth.signer import Keys
from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.keystore.awsconfig import Container, Instance, SharedFile, Source, WebIdentity
from kypello.keystore.awscredentials import AWSCredentials
from kypello.keystore.web import WebClient
from kypello.keystore.webtls import TLSFiles
from kypello.testing.fakes import InlineLane, InlineLanes
from tests.cases import AsyncCase
from tests.integration.emulators import Asked, Served, Told, run

HOUR = 3600.0
ROLE = "arn:aws:iam::123456789012:role/keys"
_JUDGE = """
import json
from botocore.session import Session
found = Session().get_credentials().get_frozen_credentials()
print(json.dumps([found.access_key, found.secret_key, found.token]))
"""
_PATH = "/latest/meta-data/iam/security-credentials/"


@define
class Now:
    """
    A time that a test sets.
    """

    seconds: float

    def __call__(self) -> float:
        """
        Seconds since the epoch.
        """
        return self.seconds


class Cloud:
    """
    What gives credentials: the security token service, the metadata of a machine, and the agent
    of a container.  Each time they are others, and are good for an hour.
    """

    def __init__(self, now: Now) -> None:
        """
        Begin with the first.
        """
        self.now = now
        self.made = 0
        self.role = "keys"

    def __call__(self, asked: Asked) -> Told:
        """
        Answer a request.
        """
        if asked.path == "/":
            return self._token_service(asked)
        if asked.path == "/container":
            if asked.headers.get("authorization") != "container-token":
                return Told({"message": "no"}, 403)
            return Told(self._credentials())
        return self._metadata(asked)

    def _metadata(self, asked: Asked) -> Told:
        if asked.path == "/latest/api/token":
            good = asked.method == "PUT" and asked.headers["x-aws-ec2-metadata-token-ttl-seconds"]
            return Told(b"session" if good else None, 200 if good else 400)
        if asked.headers.get("x-aws-ec2-metadata-token") != "session":
            return Told(None, 401)
        if not self.role:
            return Told(None, 404)
        if asked.path == _PATH:
            return Told(self.role.encode())
        return Told({"Code": "Success", "Type": "AWS-HMAC", **self._credentials()})

    def _token_service(self, asked: Asked) -> Told:
        form = asked.form
        if form["WebIdentityToken"] != "web-token" or form["RoleArn"] != ROLE:
            return Told(
                b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not you</Message></Error>"
                b"</ErrorResponse>",
                403,
            )
        found = self._credentials()
        return Told(
            (
                "<AssumeRoleWithWebIdentityResponse"
                ' xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
                "<AssumeRoleWithWebIdentityResult><Credentials>"
                f"<AccessKeyId>{found['AccessKeyId']}</AccessKeyId>"
                f"<SecretAccessKey>{found['SecretAccessKey']}</SecretAccessKey>"
                f"<SessionToken>{found['Token']}</SessionToken>"
                f"<Expiration>{found['Expiration']}</Expiration>"
                "</Credentials><AssumedRoleUser><Arn>a</Arn><AssumedRoleId>b</AssumedRoleId>"
                "</AssumedRoleUser></AssumeRoleWithWebIdentityResult>"
                "</AssumeRoleWithWebIdentityResponse>"
            ).encode()
        )

    def _credentials(self) -> dict[str, str]:
        self.made += 1
        until = datetime.fromtimestamp(self.now() + HOUR, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "AccessKeyId": f"access{self.made}",
            "SecretAccessKey": "secret",
            "Token": "token+/=",
            "Expiration": until,
        }


class CredentialsCase(AsyncCase):
    """
    A test with a server that gives credentials.
    """

    def setUp(self) -> None:
        """
        Start the server.
        """
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.now = Now(float(int(datetime.now(UTC).timestamp())))
        self.cloud = Cloud(self.now)
        self.served = Served(self.cloud)
        self.served.start()
        self.addCleanup(self.served.stop)

    def credentials(self, *sources: Source) -> AWSCredentials:
        """
        Those of some sources.
        """
        web = WebClient.make(reactor, TLSFiles(), InlineLanes())
        made = AWSCredentials(sources, web, InlineLane(), self.now)
        self.addCleanup(made.close)
        return made

    def write(self, name: str, text: str) -> Path:
        """
        A file.
        """
        path = (self.folder / name).absolute()
        path.write_text(text)
        return path

    async def judged(self, **environment: str) -> Keys:
        """
        What botocore finds with some variables.
        """
        command = (sys.executable, "-c", _JUDGE)
        surroundings = {"HOME": str(self.folder), **environment}
        access, secret, token = json.loads(await deferToThread(run, command, surroundings))
        return Keys(access, secret, token or "")


class SourceTests(CredentialsCase):
    """
    Each source of credentials.
    """

    def expected(self, number: int) -> Keys:
        """
        Those that the server gives.
        """
        return Keys(f"access{number}", "secret", "token+/=")

    async def test_given(self) -> None:
        """
        Credentials that are given are used as they are.
        """
        keys = Keys("access", "secret")
        self.assertIs(await self.credentials(keys).keys(), keys)

    async def test_instance(self) -> None:
        """
        A machine of EC2 has the credentials of its role.
        """
        found = await self.judged(
            AWS_EC2_METADATA_SERVICE_ENDPOINT=self.served.url, AWS_DEFAULT_REGION="eu-central-1"
        )
        self.assertEqual(found, self.expected(1))
        found = await self.credentials(Instance(self.served.url)).keys()
        self.assertEqual(found, self.expected(2))

    async def test_no_role(self) -> None:
        """
        A machine without a role has no credentials, and the error says what is missing.
        """
        self.cloud.role = ""
        with self.assertRaises(KeyStoreFailed) as caught:
            await self.credentials(Instance(self.served.url)).keys()
        self.assertIn("has no role", caught.exception.reason)

    async def test_container(self) -> None:
        """
        A container has those of its task, with a token of the environment or of a file.
        """
        url = f"{self.served.url}/container"
        file = self.write("token", "container-token\n")
        found = await self.judged(
            AWS_CONTAINER_CREDENTIALS_FULL_URI=url,
            AWS_CONTAINER_AUTHORIZATION_TOKEN="container-token",
        )
        self.assertEqual(found, self.expected(1))
        found = await self.credentials(Container(url, "container-token")).keys()
        self.assertEqual(found, self.expected(2))
        found = await self.credentials(Container(url, "", file)).keys()
        self.assertEqual(found, self.expected(3))
        with self.assertRaises(KeyStoreFailed) as caught:
            await self.credentials(Container(url, "wrong-token")).keys()
        self.assertNotIn("wrong-token", repr(caught.exception))

    async def test_web_identity(self) -> None:
        """
        A role is assumed with a token of a file, which is read again each time.
        """
        file = self.write("token", "web-token")
        found = await self.judged(
            AWS_WEB_IDENTITY_TOKEN_FILE=str(file),
            AWS_ROLE_ARN=ROLE,
            AWS_DEFAULT_REGION="eu-central-1",
            AWS_ENDPOINT_URL_STS=self.served.url,
        )
        self.assertEqual(found, self.expected(1))
        credentials = self.credentials(WebIdentity(file, ROLE, "kypello", self.served.url))
        found = await credentials.keys()
        self.assertEqual(found, self.expected(2))
        self.assertEqual(self.served.asked[-1].form["RoleSessionName"], "kypello")
        file.write_text("other-token")
        credentials.refused(found)
        with self.assertRaises(KeyStoreFailed) as caught:
            await credentials.keys()
        self.assertIn("AccessDenied Not you", caught.exception.reason)
        self.assertNotIn("other-token", repr(caught.exception))

    async def test_shared_file(self) -> None:
        """
        A profile of a file has credentials; signs that mean something elsewhere mean nothing.
        """
        file = self.write(
            "credentials",
            "[default]\naws_access_key_id = a\naws_secret_access_key = b%(c)s/+\n"
            "[other]\naws_access_key_id=d\naws_secret_access_key=e\naws_session_token=f\n",
        )
        for profile, keys in (("default", Keys("a", "b%(c)s/+")), ("other", Keys("d", "e", "f"))):
            found = await self.credentials(SharedFile(file, profile, True)).keys()
            self.assertEqual(found, keys)
            judged = await self.judged(AWS_SHARED_CREDENTIALS_FILE=str(file), AWS_PROFILE=profile)
            self.assertEqual(judged, keys)

    async def test_shared_file_is_optional(self) -> None:
        """
        A file or profile that nobody has named may be missing: the next source counts.  One that
        was named must be there.
        """
        instance = Instance(self.served.url)
        file = self.write("credentials", "[other]\naws_access_key_id = a\n")
        for path in (file, self.folder / "nowhere"):
            found = await self.credentials(SharedFile(path, "default", False), instance).keys()
            self.assertEqual(found, self.expected(self.cloud.made))
            with self.assertRaises(KeyStoreFailed):
                await self.credentials(SharedFile(path, "default", True), instance).keys()

    async def test_damaged_file(self) -> None:
        """
        A file that cannot be read is told without its content, also where another source follows.
        """
        instance = Instance(self.served.url)
        for text in ("hidden", "[default]\nhidden", "[default]\naws_access_key_id = hidden\n"):
            file = self.write("credentials", text)
            with self.assertRaises(KeyStoreFailed) as caught:
                await self.credentials(SharedFile(file, "default", False), instance).keys()
            self.assertNotIn("hidden", repr(caught.exception))
            self.assertIsNone(caught.exception.__cause__)

    async def test_none(self) -> None:
        """
        Without any source there are no credentials.
        """
        with self.assertRaises(KeyStoreFailed):
            await self.credentials().keys()

    async def test_nobody(self) -> None:
        """
        Where nobody gives credentials they cannot be got now.
        """
        await self.served.stop()
        with self.assertRaises(KeyStoreUnreachable) as caught:
            await self.credentials(Instance(self.served.url)).keys()
        self.assertIn("no credentials are given", caught.exception.reason)

    async def test_trouble_of_the_service(self) -> None:
        """
        Who cannot give credentials now cannot be reached: keys in memory serve on.
        """
        file = self.write("token", "web-token")
        role = WebIdentity(file, ROLE, "kypello", self.served.url)
        for source in (Instance(self.served.url), Container(self.served.url), role):
            for status in (500, 429):
                self.served.answers = lambda _, status=status: Told(b"", status)
                with self.assertRaises(KeyStoreUnreachable):
                    await self.credentials(source).keys()

    async def test_nonsense(self) -> None:
        """
        What is no answer with credentials and their end is a failure without its content.
        """
        for content in (b"hidden", {"SecretAccessKey": "hidden"}, {"AccessKeyId": 1}):
            self.served.answers = lambda _, content=content: Told(content)
            with self.assertRaises(KeyStoreFailed) as caught:
                await self.credentials(Container(self.served.url)).keys()
            self.assertNotIn("hidden", repr(caught.exception))
        content = {"AccessKeyId": "a", "SecretAccessKey": "hidden", "Expiration": "soon"}
        self.served.answers = lambda _: Told(content)
        with self.assertRaises(KeyStoreFailed) as caught:
            await self.credentials(Container(self.served.url)).keys()
        self.assertIn("expire", caught.exception.reason)
        self.assertNotIn("hidden", json.dumps(caught.exception.reason))


class ExpiryTests(CredentialsCase):
    """
    Credentials that expire.
    """

    async def test_renewal(self) -> None:
        """
        Credentials are kept, got again before they expire, and never used after their end.
        """
        credentials = self.credentials(Instance(self.served.url))
        first = await credentials.keys()
        self.assertIs(await credentials.keys(), first)
        self.assertEqual(self.cloud.made, 1)
        self.now.seconds += HOUR
        second = await credentials.keys()
        self.assertEqual((first.access_key, second.access_key), ("access1", "access2"))
