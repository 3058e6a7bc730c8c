# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Keys in OpenBao that the original KES has made, and the other way round.
"""

from collections.abc import Mapping
from typing import Any

from tests.integration.bao import Bao
from tests.integration.kespair import KESPairCase
from tests.integration.test_kes_server import OURS

_POLICY = """
path "kv/*" { capabilities = ["create", "read", "list", "delete"] }
path "second/data/*" { capabilities = ["create", "read"] }
path "second/metadata/*" { capabilities = ["list", "delete"] }
path "transit/encrypt/wrap" { capabilities = ["update"] }
path "transit/decrypt/wrap" { capabilities = ["update"] }
"""


class KESTests(KESPairCase):
    """
    Both key servers on one key store.
    """

    def setUp(self) -> None:
        """
        Start OpenBao with a role.
        """
        super().setUp()
        self.bao = Bao.develop(self.folder)
        self.addCleanup(self.bao.end)
        self.bao.mount("kv", "kv", 1)
        self.bao.mount("second", "kv", 2)
        self.bao.mount("transit", "transit")
        self.bao.ask("POST", "transit/keys/wrap", {})
        self.role, self.secret = self.bao.app_role(_POLICY, token_period="5m")

    def vault(self, **settings: Any) -> Mapping[str, Any]:
        """
        The section of the configuration.
        """
        role = {"id": self.role, "secret": self.secret}
        return {"vault": {"endpoint": self.bao.url, "approle": role, **settings}}

    def test_first(self) -> None:
        """
        In a K/V engine of version 1, which is the default of both.
        """
        self.check_both(self.vault())

    def test_second(self) -> None:
        """
        In a K/V engine of version 2, with a prefix.
        """
        self.check_both(self.vault(engine="second", version="v2", prefix="some/where"))

    def test_transit(self) -> None:
        """
        With entries that a transit engine encrypts.
        """
        transit = {"engine": "transit", "key": "wrap"}
        self.check_both(self.vault(engine="second", version="v2", transit=transit))

    def test_transit_later(self) -> None:
        """
        With a transit engine that was configured when there were keys both read these.
        """
        vault = self.vault(engine="second", version="v2")
        self.kes(self.start(OURS, vault), "key", "create", "early")
        transit = {"engine": "transit", "key": "wrap"}
        vault = self.vault(engine="second", version="v2", transit=transit)
        for command in ((self.program, "server"), OURS):
            self.assertIn("early", self.kes(self.start(command, vault), "key", "info", "early"))
