# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.gemaltoconfig``.
"""

from pathlib import Path

from kypello.document import Report, read
from kypello.keystore.gemaltoconfig import GemaltoSettings
from kypello.keystore.table import read_keystore
from kypello.keystore.webtls import TLSFiles
from tests.cases import SyncCase

_FULL = """\
gemalto:
  keysecure:
    endpoint: https://ciphertrust:8443/
    credentials:
      token: ${TOKEN}
      domain: team
    prefix: kypello-
    tls: {ca: ca.crt}
"""


def parsed(text: str) -> tuple[GemaltoSettings | None, Report]:
    """
    Read the section ``keystore`` of a file ``kes.yml``.
    """
    report = Report("kes.yml")
    return read_keystore(read(text, report, {"TOKEN": "opensesame"})), report


class GemaltoConfigTests(SyncCase):
    """
    ``read_gemalto`` reads what the original reads, and a prefix.
    """

    def test_full(self) -> None:
        """
        Everything is read, and where the keys are can be told.
        """
        settings, report = parsed(_FULL)
        self.assertEqual((report.mistakes, report.warnings), ([], []))
        self.assertEqual(
            settings,
            GemaltoSettings(
                "https://ciphertrust:8443",
                "opensesame",
                "team",
                "kypello-",
                TLSFiles(ca=Path("ca.crt")),
            ),
        )
        assert settings is not None
        self.assertEqual(settings.where, "https://ciphertrust:8443, team, kypello-*")
        self.assertNotIn("opensesame", repr(settings))

    def test_empty(self) -> None:
        """
        What is there and empty, as in examples of KES, is as if it was not there.
        """
        text = _FULL.replace("team", '""').replace("ca.crt", '""').replace("kypello-", '""')
        settings, report = parsed(text)
        self.assertEqual(report.mistakes, [])
        self.assertEqual(settings, GemaltoSettings("https://ciphertrust:8443", "opensesame"))

    def test_retry(self) -> None:
        """
        What the documentation of the original names, and the original does not read, is warned of.
        """
        _, report = parsed(_FULL.replace("domain: team", "retry: 15s"))
        self.assertEqual(report.mistakes, [])
        self.assertIn("kes.yml:6: ", report.warnings[0])

    def test_mistakes(self) -> None:
        """
        What is missing, unknown or no address is refused, with its line.
        """
        for old, new, line, told in (
            ("https://ciphertrust:8443/", "", 3, "endpoint: is required"),
            ("https://", "ftp://", 3, "must be a URL"),
            ("${TOKEN}", "", 5, "token: is required"),
            ("kypello-", "kypello/", 7, "may hold letters"),
            ("domain", "damain", 6, "is unknown"),
        ):
            with self.subTest(new):
                _, report = parsed(_FULL.replace(old, new, 1))
                self.assertEqual(len(report.mistakes), 1, report.mistakes)
                self.assertTrue(report.mistakes[0].startswith(f"kes.yml:{line}: "), report.mistakes)
                self.assertIn(told, report.mistakes[0])
                self.assertNotIn("sesame", report.mistakes[0])
