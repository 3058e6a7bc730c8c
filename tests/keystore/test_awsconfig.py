# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.awsconfig``.
"""

from pathlib import Path

from kypello.auth.signer import Keys
from kypello.document import Report, read
from kypello.keystore.awsconfig import (
    AWSSettings,
    Container,
    Instance,
    SharedFile,
    WebIdentity,
)
from kypello.keystore.table import read_keystore
from kypello.keystore.webtls import TLSFiles
from tests.cases import SyncCase

_SECTION = """\
aws:
  secretsmanager:
    endpoint: secretsmanager.eu-central-1.amazonaws.com
    region: eu-central-1
"""
_INSTANCE = Instance("http://169.254.169.254")


def parsed(text: str, **environment: str) -> tuple[AWSSettings | None, Report]:
    """
    Read the section ``keystore`` of a file ``kes.yml``.
    """
    report = Report("kes.yml")
    return read_keystore(read(text, report, environment)), report


class ReadTests(SyncCase):
    """
    ``read_aws`` reads what the original reads, a prefix and files of TLS.
    """

    def settings(self, text: str = _SECTION, **environment: str) -> AWSSettings:
        """
        Read what has no mistakes.
        """
        settings, report = parsed(text, **environment)
        self.assertEqual((report.mistakes, report.warnings), ([], []))
        assert settings is not None
        return settings

    def test_full(self) -> None:
        """
        Everything is read, and where the keys are can be told.
        """
        settings = self.settings(
            _SECTION
            + "    kmskey: alias/keys\n    prefix: kypello/\n    tls: {ca: ca.crt}\n"
            + "    credentials: {accesskey: a, secretkey: '${SECRET}', token: t}\n",
            SECRET="opensesame",
        )
        url = "https://secretsmanager.eu-central-1.amazonaws.com"
        self.assertEqual(
            settings,
            AWSSettings(
                url,
                "eu-central-1",
                "alias/keys",
                "kypello/",
                (Keys("a", "opensesame", "t"),),
                TLSFiles(ca=Path("ca.crt")),
            ),
        )
        self.assertEqual(settings.where, f"{url}, kypello/*")
        self.assertNotIn("opensesame", repr(settings))

    def test_endpoint(self) -> None:
        """
        An address without a scheme is one of HTTPS.
        """
        self.assertEqual(self.settings().where, "https://secretsmanager.eu-central-1.amazonaws.com")
        text = _SECTION.replace("secretsmanager.eu-central-1.amazonaws.com", "http://aws:4566/")
        self.assertEqual(self.settings(text).endpoint, "http://aws:4566")

    def test_sources(self) -> None:
        """
        Without credentials they are looked for where AWS's own clients look, in their order.
        """
        file = SharedFile(Path("/home/kes/.aws/credentials"), "default", False)
        web = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn"}
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        full = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
        for environment, sources in (
            ({}, (file, _INSTANCE)),
            ({"AWS_EC2_METADATA_DISABLED": "true"}, (file,)),
            (
                {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://metadata/"},
                (file, Instance("http://metadata")),
            ),
            ({**keys, **web}, (Keys("a", "b"),)),
            ({**keys, "AWS_SESSION_TOKEN": "c"}, (Keys("a", "b", "c"),)),
            (
                web,
                (
                    WebIdentity(
                        Path("/token"), "arn", "kypello", "https://sts.eu-central-1.amazonaws.com"
                    ),
                ),
            ),
            (
                {**web, "AWS_ROLE_SESSION_NAME": "me", "AWS_ENDPOINT_URL_STS": "https://sts/"},
                (WebIdentity(Path("/token"), "arn", "me", "https://sts"),),
            ),
            (
                {"AWS_SHARED_CREDENTIALS_FILE": "/file", "AWS_PROFILE": "keys"},
                (SharedFile(Path("/file"), "keys", True), _INSTANCE),
            ),
            (
                {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/me"},
                (file, Container("http://169.254.170.2/v2/me")),
            ),
            (
                {
                    full: "http://169.254.170.23/v1/credentials",
                    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/token",
                },
                (file, Container("http://169.254.170.23/v1/credentials", "", Path("/token"))),
            ),
        ):
            with self.subTest(environment):
                found = self.settings(HOME="/home/kes", **environment).sources
                self.assertEqual(found, sources)

    def test_empty(self) -> None:
        """
        What is there and empty, as in examples of KES, is as if it was not there.
        """
        text = '    kmskey: ""\n    credentials: {accesskey: "", secretkey: "", token: ""}\n'
        self.assertEqual(self.settings(_SECTION + text), self.settings())

    def test_china(self) -> None:
        """
        Regions in China have a domain of their own.
        """
        text = _SECTION.replace("eu-central-1", "cn-north-1")
        settings = self.settings(text, AWS_WEB_IDENTITY_TOKEN_FILE="/t", AWS_ROLE_ARN="arn")
        (source,) = settings.sources
        assert isinstance(source, WebIdentity)
        self.assertEqual(source.endpoint, "https://sts.cn-north-1.amazonaws.com.cn")


class MistakeTests(SyncCase):
    """
    Each mistake is told with its line.
    """

    def test_mistakes(self) -> None:
        """
        What is missing, unknown or no address is refused.
        """
        for old, new, line, told in (
            ("region: eu-central-1", "region:", 4, "region: is required"),
            ("region: eu-central-1", "region: Frankfurt/1", 4, "must be a region"),
            ("endpoint: sec", "endpoint: http://a@b", 3, "must be a URL"),
            (".com\n", ".com/path\n", 3, "must be a URL"),
            (".com\n", ".com:99999\n", 3, "must be a URL"),
            ("region:", "prefix: 'a b'\n    region:", 4, "may hold letters"),
            ("region:", "regoin: x\n    region:", 4, "is unknown"),
            ("region:", "credentials: {accesskey: a}\n    region:", 4, "go together"),
        ):
            with self.subTest(new):
                _, report = parsed(_SECTION.replace(old, new, 1))
                self.assertEqual(len(report.mistakes), 1, report.mistakes)
                self.assertTrue(report.mistakes[0].startswith(f"kes.yml:{line}: "))
                self.assertIn(told, report.mistakes[0])

    def test_credentials_over_the_network(self) -> None:
        """
        Credentials of a container are asked for in clear on this machine only.
        """
        variable = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
        for url, count in (("http://evil/", 1), ("https://good/", 0), ("http://127.0.0.1:1/", 0)):
            _, report = parsed(_SECTION, **{variable: url})
            self.assertEqual(len(report.mistakes), count, report.mistakes)
