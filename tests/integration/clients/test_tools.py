# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Where clients are found.
"""

from pathlib import Path
from unittest import SkipTest

from tests.cases import SyncCase
from tests.integration import tools

_SCRIPT = Path(__file__).parents[3] / ".ci" / "clients"


class ClientTests(SyncCase):
    """
    ``tools.client`` finds what ``.ci/clients`` installs.
    """

    def setUp(self) -> None:
        """
        An empty folder of tools.
        """
        self.folder = Path(self.mktemp()).absolute()
        self.environment = {"KYPELLO_TOOLS": str(self.folder)}

    def test_there(self) -> None:
        """
        A client is there when all of it is.
        """
        path = self.folder / "clients" / "s3fs"
        path.mkdir(parents=True)
        with self.assertRaises(SkipTest):
            tools.client("s3fs", self.environment)
        path.with_name(".s3fs").touch()
        self.assertEqual(tools.client("s3fs", self.environment), path)

    def test_missing(self) -> None:
        """
        A client that is missing skips the test; where all is required, one of the core set fails.
        """
        message = "s3cmd is not installed: .ci/clients s3cmd"
        with self.assertRaises(SkipTest) as skipped:
            tools.client("s3cmd", self.environment)
        self.assertEqual(str(skipped.exception), message)
        self.environment["KYPELLO_REQUIRE"] = "1"
        with self.assertRaises(AssertionError) as failed:
            tools.client("s3cmd", self.environment)
        self.assertEqual(str(failed.exception), message)
        with self.assertRaises(SkipTest):
            tools.client("s3fs", self.environment)

    def test_core(self) -> None:
        """
        The script and the tests agree on what the core set is.
        """
        (line,) = [line for line in _SCRIPT.read_text().splitlines() if line.startswith('core="')]
        self.assertEqual(set(line[len('core="') :].rstrip('"').split()), tools.CORE)
