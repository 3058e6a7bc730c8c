# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Keys in clouds that the original KES has made, and the other way round.
"""

from tests.integration.emulators import Emulator
from tests.integration.kespair import KESPairCase


class AWSTests(KESPairCase):
    """
    Both key servers on AWS Secrets Manager, played by moto.
    """

    def setUp(self) -> None:
        """
        Start moto.
        """
        super().setUp()
        self.aws = Emulator.moto(self.folder / "moto")
        self.addCleanup(self.aws.end)
        self.manager = {"endpoint": self.aws.url, "region": "eu-central-1", "kmskey": ""}

    def test_given(self) -> None:
        """
        With credentials in the configuration.
        """
        credentials = {"accesskey": "test", "secretkey": "test"}
        self.check_both({"aws": {"secretsmanager": {**self.manager, "credentials": credentials}}})

    def test_environment(self) -> None:
        """
        With credentials of the environment.
        """
        environment = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        self.check_both({"aws": {"secretsmanager": self.manager}}, environment)
