# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.scannerconfig``.
"""

from kypello.environment import Environment
from kypello.scannerconfig import DAY, Pace, ScannerSettings, read_scanner
from tests.cases import SyncCase


class ScannerSettingsTests(SyncCase):
    """
    Variables of the work in the background.
    """

    def read(self, **variables: str) -> tuple[ScannerSettings, Environment]:
        """
        Read variables.
        """
        environment = Environment.load(variables, lambda _path: None)
        return read_scanner(environment), environment

    def test_default(self) -> None:
        """
        It works a tenth of the time, counts small stores often, and gives uploads a week.
        """
        settings, environment = self.read()
        self.assertEqual(settings, ScannerSettings(Pace(9, 60, 5), 7 * DAY, DAY))
        self.assertEqual((environment.mistakes, environment.warnings), ([], []))

    def test_given(self) -> None:
        """
        Speed, cycle, and the time of uploads are as they are set.
        """
        settings, _ = self.read(
            MINIO_SCANNER_SPEED="slow",
            KYPELLO_SCANNER_CYCLE="10m",
            MINIO_API_STALE_UPLOADS_EXPIRY="24h",
        )
        self.assertEqual(settings, ScannerSettings(Pace(29, 600), DAY, DAY))
        settings, _ = self.read(MINIO_SCANNER_SPEED="fastest", MINIO_API_STALE_UPLOADS_EXPIRY="off")
        self.assertEqual(settings, ScannerSettings(Pace(0, 1), None, DAY))

    def test_short_day(self) -> None:
        """
        A day that is none is told.
        """
        settings, environment = self.read(KYPELLO_LIFECYCLE_DAY="10s")
        self.assertEqual(settings.day, 10)
        self.assertIn("has 10 seconds", environment.warnings[0])

    def test_mistakes(self) -> None:
        """
        Each mistake is told with what would be right.
        """
        _, environment = self.read(
            MINIO_SCANNER_SPEED="warp",
            MINIO_SCANNER_CYCLE="soon",
            MINIO_API_STALE_UPLOADS_EXPIRY="0s",
            MINIO_LIFECYCLE_DAY="-1h",
        )
        names = [mistake.split()[0] for mistake in environment.mistakes]
        self.assertEqual(
            names,
            [
                "MINIO_SCANNER_SPEED",
                "MINIO_SCANNER_CYCLE",
                "MINIO_API_STALE_UPLOADS_EXPIRY",
                "MINIO_LIFECYCLE_DAY",
            ],
        )
