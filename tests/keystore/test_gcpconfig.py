# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.gcpconfig``.
"""

from pathlib import Path

from kypello.document import Report, read
from kypello.keystore.gcpconfig import (
    CredentialsFile,
    GCPSettings,
    Metadata,
    ServiceAccount,
)
from kypello.keystore.table import read_keystore
from kypello.keystore.webtls import TLSFiles
from tests.cases import SyncCase

_SECTION = """\
gcp:
  secretmanager:
    project_id: my-project
"""
_FULL = """\
gcp:
  secretmanager:
    project_id: ${PROJECT}
    endpoint: secretmanager.googleapis.com:443
    scopes: [https://www.googleapis.com/auth/other]
    prefix: kypello-
    locations: [europe-west1, europe-west3]
    credentials:
      client_email: kes@my-project.iam.gserviceaccount.com
      client_id: "1234"
      private_key_id: id
      private_key: 'open\\nsesame'
    tls: {ca: ca.crt}
"""


def parsed(text: str, **environment: str) -> tuple[GCPSettings | None, Report]:
    """
    Read the section ``keystore`` of a file ``kes.yml``.
    """
    report = Report("kes.yml")
    return read_keystore(read(text, report, environment)), report


class ReadTests(SyncCase):
    """
    ``read_gcp`` reads what the original reads, and a prefix, locations and files of TLS.
    """

    def settings(self, text: str = _SECTION, **environment: str) -> GCPSettings:
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
        settings = self.settings(_FULL, PROJECT="my-project")
        self.assertEqual(
            settings,
            GCPSettings(
                "https://secretmanager.googleapis.com:443",
                "my-project",
                "kypello-",
                ("europe-west1", "europe-west3"),
                ("https://www.googleapis.com/auth/other",),
                (ServiceAccount("kes@my-project.iam.gserviceaccount.com", "id", "open\nsesame"),),
                TLSFiles(ca=Path("ca.crt")),
            ),
        )
        self.assertIn("projects/my-project/secrets/kypello-*", settings.where)
        self.assertNotIn("sesame", repr(settings))

    def test_least(self) -> None:
        """
        A project is enough.
        """
        settings = self.settings()
        self.assertEqual(settings.endpoint, "https://secretmanager.googleapis.com")
        self.assertEqual(settings.scopes, ("https://www.googleapis.com/auth/cloud-platform",))
        self.assertEqual(settings.locations, ())

    def test_empty(self) -> None:
        """
        What is there and empty, as in examples of KES, is as if it was not there.
        """
        text = (
            _SECTION
            + '    endpoint: ""\n    scopes: [""]\n    tls: {key: "", cert: "", ca: ""}\n'
            + '    credentials: {client_email: "", client_id: "", private_key_id: "",'
            + ' private_key: ""}\n'
        )
        self.assertEqual(self.settings(text), self.settings())

    def test_sources(self) -> None:
        """
        Without credentials they are looked for where Google's own clients look, in their order.
        """
        name = "application_default_credentials.json"
        metadata = Metadata("http://metadata.google.internal")
        for environment, sources in (
            ({"GOOGLE_APPLICATION_CREDENTIALS": "/file"}, (CredentialsFile(Path("/file"), True),)),
            ({}, (CredentialsFile(Path("/home/kes/.config/gcloud", name), False), metadata)),
            (
                {"CLOUDSDK_CONFIG": "/gcloud", "GCE_METADATA_HOST": "other:80"},
                (CredentialsFile(Path("/gcloud", name), False), Metadata("http://other:80")),
            ),
        ):
            with self.subTest(environment):
                found = self.settings(HOME="/home/kes", **environment).sources
                self.assertEqual(found, sources)


class MistakeTests(SyncCase):
    """
    Each mistake is told with its line.
    """

    def test_mistakes(self) -> None:
        """
        What is missing, unknown or no address is refused.
        """
        for old, new, line, told in (
            ("${PROJECT}", "", 3, "project_id: is required"),
            ("${PROJECT}", "My/Project", 3, "must be the id of a project"),
            ("secretmanager.google", "ftp://google", 4, "must be a URL"),
            ("kypello-", "kypello/", 6, "may hold letters"),
            ("europe-west3", "Europe 3", 7, "must be a location"),
            ('client_id: "1234"', "client_id:", 9, "go together"),
            ("prefix:", "perfix:", 6, "is unknown"),
        ):
            with self.subTest(new):
                _, report = parsed(_FULL.replace(old, new, 1), PROJECT="my-project")
                self.assertEqual(len(report.mistakes), 1, report.mistakes)
                self.assertTrue(report.mistakes[0].startswith(f"kes.yml:{line}: "), report.mistakes)
                self.assertIn(told, report.mistakes[0])
                self.assertNotIn("sesame", report.mistakes[0])
