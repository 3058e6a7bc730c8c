# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Keys in clouds that the original KES has made, and the other way round.
"""

import time

from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.threads import deferToThread

from tests.integration.ciphertrust import TOKEN, CipherTrust
from tests.integration.emulators import Emulator, Served
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


class GemaltoTests(KESPairCase):
    """
    Both key servers on a server of the tests in place of CipherTrust, which the original so
    judges.
    """

    async def test_given(self) -> None:
        """
        Over TLS, in a domain.
        """
        served = Served(CipherTrust("team", now=time.time()))
        served.start(DefaultOpenSSLContextFactory(str(self.server.key), str(self.server.cert)))
        self.addCleanup(served.stop)
        keystore = {
            "gemalto": {
                "keysecure": {
                    "endpoint": served.url,
                    "credentials": {"token": TOKEN, "domain": "team"},
                    "tls": {"ca": str(self.server.cert)},
                }
            }
        }
        await deferToThread(self.check_both, keystore)
