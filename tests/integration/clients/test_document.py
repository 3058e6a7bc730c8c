# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The document about clients.
"""

from pathlib import Path

from tests.cases import SyncCase
from tests.integration.clients.document import block, document
from tests.integration.server import ACCESS_KEY, SECRET_KEY, ServerProcess

_DOCUMENT = Path(__file__).parents[3] / "docs" / "clients.md"


class DocumentTests(SyncCase):
    """
    ``docs/clients.md`` tells the settings of the tests.
    """

    def test_up_to_date(self) -> None:
        """
        The document is what the modules of the clients say now.
        """
        self.assertEqual(_DOCUMENT.read_text(encoding="utf-8"), document())

    def test_block(self) -> None:
        """
        A block is found by its number and filled in, names that only contain others left alone.
        """
        settings = (
            "Say\n```ini\nhost = 127.0.0.1:9000\n```\nor\n```sh\n"
            "AWS_ACCESS_KEY_ID=ACCESS_KEY use SECRET_KEY http://127.0.0.1:9000/b\n```\n"
        )
        server = ServerProcess(Path("data"), port=1234)
        self.assertEqual(block(settings, server), "host = 127.0.0.1:1234\n")
        self.assertEqual(
            block(settings, server, 1),
            f"AWS_ACCESS_KEY_ID={ACCESS_KEY} use {SECRET_KEY} http://127.0.0.1:1234/b\n",
        )
