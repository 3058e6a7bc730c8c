# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what the administration API tells about providers of identities.
"""

from typing import Any

from attrs import evolve

from kypello.admin.root import AdminResource
from kypello.identityconfig import IdentitySettings, LDAPSettings, OpenIDSettings
from kypello.testing.harness import Harness
from tests.admin.front import AdminCase

_URL = "https://id.example/.well-known/openid-configuration"


class ProviderTests(AdminCase):
    """
    Providers are told with their settings, without passwords.
    """

    def setUp(self) -> None:
        """
        Have two OpenID providers and a directory.
        """
        super().setUp()
        identity = IdentitySettings(
            openid=(
                OpenIDSettings("", _URL, "ours"),
                OpenIDSettings("STAFF", _URL, "theirs", role_policies=("readonly",)),
            ),
            ldap=LDAPSettings("ldap.example", 636, lookup_password="lookup-secret"),
        )
        front = evolve(self.front, identity=identity)
        self.harness = Harness(AdminResource(front), access_log=False)

    def settings(self, call: str) -> dict[str, str]:
        """
        The settings of a provider.
        """
        told: dict[str, Any] = self.told_secretly(call)
        return {each["key"]: each["value"] for each in told["info"]}

    def test_list(self) -> None:
        """
        All providers of a kind are listed, with the role that one stands for.
        """
        first, second = self.told_secretly("idp-config/openid")
        self.assertEqual(first, {"type": "openid", "name": "_", "enabled": True})
        self.assertEqual(second["name"], "STAFF")
        self.assertRegex(second["roleARN"], "^arn:minio:iam:::role/.{27}$")
        (only,) = self.told_secretly("idp-config/ldap")
        self.assertEqual(only["name"], "_")

    def test_settings(self) -> None:
        """
        Settings are told as they are called, and secrets are not.
        """
        told = self.settings("idp-config/openid/_")
        self.assertEqual(told, {"config_url": _URL, "client_id": "ours", "claim_name": "policy"})
        told = self.settings("idp-config/openid/STAFF")
        self.assertEqual(told["role_policy"], "readonly")
        told = self.settings("idp-config/ldap/_")
        self.assertEqual(told, {"server_addr": "ldap.example:636"})

    def test_unknown(self) -> None:
        """
        Unknown providers, and kinds of them, are refused.
        """
        for call in ("idp-config/openid/NOBODY", "idp-config/ldap/x", "idp-config/odd"):
            self.refused(self.send("GET", call, status=404), "XMinioConfigError")
