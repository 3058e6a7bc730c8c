# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.identityconfig``: the settings of those who say who somebody is.
"""

from collections.abc import Mapping

from attrs import evolve

from kypello.environment import Environment
from kypello.identityconfig import (
    IdentitySettings,
    LDAPSettings,
    OpenIDSettings,
    not_secure,
    read_identity,
)
from tests.cases import SyncCase

URL = "https://id.example/.well-known/openid-configuration"
OPENID, LDAP = "MINIO_IDENTITY_OPENID_", "MINIO_IDENTITY_LDAP_"
PROVIDER = {f"{OPENID}CONFIG_URL": URL, f"{OPENID}CLIENT_ID": "ours"}
DIRECTORY = {
    f"{LDAP}SERVER_ADDR": "ldap.example:1636",
    f"{LDAP}LOOKUP_BIND_DN": "cn=lookup,dc=x",
    f"{LDAP}LOOKUP_BIND_PASSWORD": "lookup-secret",
    f"{LDAP}USER_DN_SEARCH_BASE_DN": "ou=a,dc=x; ou=b,dc=x",
    f"{LDAP}USER_DN_SEARCH_FILTER": "(uid=%s)",
}


class IdentityCase(SyncCase):
    """
    A test of settings.
    """

    def load(self, variables: Mapping[str, str]) -> tuple[IdentitySettings, Environment]:
        """
        Read variables; the file ``secret`` holds a password.
        """
        environment = Environment.load(
            variables, lambda path: "from-file\n" if path == "secret" else None
        )
        return read_identity(environment), environment

    def read(self, variables: Mapping[str, str], *, warnings: int = 0) -> IdentitySettings:
        """
        Read variables that have no mistake.
        """
        settings, environment = self.load(variables)
        self.assertEqual(environment.mistakes, [])
        self.assertEqual(len(environment.warnings), warnings, environment.warnings)
        return settings

    def mistakes(self, variables: Mapping[str, str]) -> list[str]:
        """
        Read variables; give the mistakes.
        """
        return self.load(variables)[1].mistakes


class OpenIDTests(IdentityCase):
    """
    OpenID providers.
    """

    def test_first(self) -> None:
        """
        One goes by a claim, unless it says otherwise.
        """
        self.assertEqual(self.read(PROVIDER).openid, (OpenIDSettings("", URL, "ours"),))
        settings = self.read(
            {**PROVIDER, f"{OPENID}CLAIM_NAME": "roles", f"{OPENID}CLAIM_USERINFO": "on"}
        )
        self.assertEqual(
            settings.openid, (OpenIDSettings("", URL, "ours", "roles", userinfo=True),)
        )

    def test_ours(self) -> None:
        """
        The names of Kypello do as well.
        """
        ours = {name.replace("MINIO_", "KYPELLO_"): text for name, text in PROVIDER.items()}
        self.assertEqual(self.read(ours), self.read(PROVIDER))

    def test_several(self) -> None:
        """
        Others have names, and roles.
        """
        others = {
            f"{OPENID}CONFIG_URL_AZURE_AD": URL,
            f"{OPENID}CLIENT_ID_AZURE_AD": "azure",
            f"{OPENID}ROLE_POLICY_AZURE_AD": "readonly, diagnostics",
        }
        first, other = self.read({**PROVIDER, **others}).openid
        self.assertEqual(first.name, "")
        self.assertEqual(
            other,
            OpenIDSettings("AZURE_AD", URL, "azure", role_policies=("readonly", "diagnostics")),
        )

    def test_role(self) -> None:
        """
        The ARN of a role is made of the client id alone, as others make it.
        """
        first = self.read(PROVIDER).openid[0]
        self.assertEqual(first.role, "arn:minio:iam:::role/SFN_YTq4URFBPyNpYWrpdIFCm9E")
        self.assertEqual(evolve(first, name="A", config_url="https://b").role, first.role)

    def test_off(self) -> None:
        """
        One that is off is not there, whatever it has.
        """
        self.assertEqual(self.read({**PROVIDER, f"{OPENID}ENABLE": "off"}).openid, ())

    def test_unused(self) -> None:
        """
        What only a console needs is passed over, and so is a secret, which signs nothing here;
        what is unknown is told.
        """
        variables = {
            **PROVIDER,
            f"{OPENID}CLIENT_SECRET": "shared",
            f"{OPENID}SCOPES": "openid",
            f"{OPENID}DISPLAY_NAME_OTHER": "x",
            f"{OPENID}KEYCLOAK_REALM": "x",
        }
        settings = self.read(variables, warnings=1)
        self.assertEqual(len(settings.openid), 1)
        self.assertNotIn("shared", repr(settings))

    def test_missing(self) -> None:
        """
        Whatever is missing is told together.
        """
        found = self.mistakes({f"{OPENID}CLAIM_NAME": "x", f"{OPENID}ROLE_POLICY_A": "x"})
        self.assertEqual(len(found), 4)
        for name in ("CONFIG_URL ", "CLIENT_ID ", "CONFIG_URL_A ", "CLIENT_ID_A "):
            self.assertTrue(any(OPENID + name in one for one in found), name)

    def test_together(self) -> None:
        """
        A claim and a role exclude each other, only one provider goes by a claim, and each has a
        client id of its own.
        """
        both = {**PROVIDER, f"{OPENID}CLAIM_NAME": "x", f"{OPENID}ROLE_POLICY": "y"}
        self.assertEqual(len(self.mistakes(both)), 1)
        second = {f"{OPENID}CONFIG_URL_B": URL, f"{OPENID}CLIENT_ID_B": "ours"}
        self.assertEqual(len(self.mistakes({**PROVIDER, **second})), 2)

    def test_insecure(self) -> None:
        """
        A provider is asked over TLS, but on this machine or where somebody insists.
        """
        plain = {**PROVIDER, f"{OPENID}CONFIG_URL": "http://id.example/x"}
        (mistake,) = self.mistakes(plain)
        self.assertIn("https://", mistake)
        self.assertTrue(self.read({**plain, f"{OPENID}INSECURE": "on"}).openid[0].insecure)
        for host in ("127.0.0.1:8080", "localhost", "[::1]:8080"):
            self.read({**PROVIDER, f"{OPENID}CONFIG_URL": f"http://{host}/x"})

    def test_urls(self) -> None:
        """
        What is no URL of a provider is refused.
        """
        for url in (
            "",
            "id.example",
            "ftp://id.example/x",
            "file:///etc/passwd",
            "https://",
            "https://h:0/",
            "https://h:x/",
            "https://[::1/",
            "https://user:secret@h/",
        ):
            problem = not_secure(url, insecure=True)
            self.assertTrue(problem, url)
            self.assertNotIn("secret", problem)


class LDAPTests(IdentityCase):
    """
    A directory.
    """

    def test_tls(self) -> None:
        """
        A directory is asked over TLS.
        """
        settings = self.read(DIRECTORY).ldap
        self.assertEqual(
            settings,
            LDAPSettings(
                "ldap.example",
                1636,
                lookup_dn="cn=lookup,dc=x",
                lookup_password="lookup-secret",
                user_bases=("ou=a,dc=x", "ou=b,dc=x"),
                user_filter="(uid=%s)",
            ),
        )
        self.assertNotIn("lookup-secret", repr(settings))

    def test_ports(self) -> None:
        """
        The port need not be told; addresses of version 6 stand in brackets.
        """
        for address, changes, host, port in (
            ("ldap.example", {}, "ldap.example", 636),
            ("ldap.example", {f"{LDAP}SERVER_STARTTLS": "on"}, "ldap.example", 389),
            ("[::1]:1389", {}, "::1", 1389),
        ):
            settings = self.read({**DIRECTORY, f"{LDAP}SERVER_ADDR": address, **changes}).ldap
            assert settings is not None
            self.assertEqual((settings.host, settings.port), (host, port))
        for address in ("ldap://h", "h:x", "h:99999", "u@h", "h/x", ":636"):
            self.assertEqual(len(self.mistakes({**DIRECTORY, f"{LDAP}SERVER_ADDR": address})), 1)

    def test_security(self) -> None:
        """
        Less than checked TLS has to be asked for, and is told.
        """
        for changes, security, verify, warnings in (
            ({"SERVER_STARTTLS": "on"}, "starttls", True, 0),
            ({"SERVER_STARTTLS": "on", "SERVER_INSECURE": "on"}, "starttls", True, 0),
            ({"SERVER_INSECURE": "on"}, "none", True, 1),
            ({"TLS_SKIP_VERIFY": "on"}, "tls", False, 1),
        ):
            named = {LDAP + name: text for name, text in changes.items()}
            settings = self.read({**DIRECTORY, **named}, warnings=warnings).ldap
            assert settings is not None
            self.assertEqual((settings.security, settings.verify), (security, verify))

    def test_password_file(self) -> None:
        """
        The password may be in a file.
        """
        variables = {**DIRECTORY, f"{LDAP}LOOKUP_BIND_PASSWORD_FILE": "secret"}
        settings = self.read(variables).ldap
        assert settings is not None
        self.assertEqual(settings.lookup_password, "from-file")

    def test_groups(self) -> None:
        """
        Groups are looked for when it is told where and how.
        """
        where = {f"{LDAP}GROUP_SEARCH_BASE_DN": "ou=g,dc=x"}
        how = {f"{LDAP}GROUP_SEARCH_FILTER": "(member=%d)"}
        settings = self.read({**DIRECTORY, **where, **how}).ldap
        assert settings is not None
        self.assertEqual(
            (settings.group_bases, settings.group_filter), (("ou=g,dc=x",), "(member=%d)")
        )
        for one in (where, how):
            self.assertEqual(len(self.mistakes({**DIRECTORY, **one})), 1)

    def test_mistakes(self) -> None:
        """
        All mistakes are told together, without the password.
        """
        found = self.mistakes(
            {f"{LDAP}LOOKUP_BIND_PASSWORD": "lookup-secret", f"{LDAP}SRV_RECORD_NAME": "ldap"}
        )
        self.assertEqual(len(found), 5)
        self.assertNotIn("lookup-secret", "".join(found))
        (mistake,) = self.mistakes({**DIRECTORY, f"{LDAP}USER_DN_SEARCH_FILTER": "(uid=x)"})
        self.assertIn("%s", mistake)

    def test_off(self) -> None:
        """
        One that is off is not there; what is unknown is told.
        """
        self.assertIsNone(self.read({**DIRECTORY, f"{LDAP}ENABLE": "off"}).ldap)
        self.assertIsNotNone(self.read({**DIRECTORY, f"{LDAP}STS_EXPIRY": "1h"}, warnings=1).ldap)


class OtherTests(IdentityCase):
    """
    Certificates, durations and what there is not.
    """

    def test_nothing(self) -> None:
        """
        Without settings there is nobody else.
        """
        self.assertEqual(self.read({}), IdentitySettings())

    def test_certificates(self) -> None:
        """
        Certificates count when they are wanted; they are always checked.
        """
        self.assertTrue(self.read({"MINIO_IDENTITY_TLS_ENABLE": "on"}).certificates)
        (mistake,) = self.mistakes({"MINIO_IDENTITY_TLS_SKIP_VERIFY": "on"})
        self.assertIn("MINIO_IDENTITY_TLS_SKIP_VERIFY", mistake)

    def test_duration(self) -> None:
        """
        A duration is told as Go does, between 15 minutes and a year.
        """
        for text, seconds in (
            ("15m", 900),
            ("12h", 43200),
            ("1h30m", 5400),
            ("1.5h", 5400),
            ("900s", 900),
            ("8760h", 31536000),
        ):
            self.assertEqual(self.read({"MINIO_STS_DURATION": text}).duration, seconds)
        for text in ("900", "14m", "8761h", "1d", "h", "1..5h", "-1h", "\u0661h"):
            self.assertEqual(len(self.mistakes({"MINIO_STS_DURATION": text})), 1, text)

    def test_plugins(self) -> None:
        """
        Plugins decide who may do what: to pass them over would be wrong.
        """
        (mistake,) = self.mistakes(
            {"MINIO_POLICY_PLUGIN_URL": "http://x", "MINIO_IDENTITY_PLUGIN_URL": "http://y"}
        )
        self.assertIn("MINIO_IDENTITY_PLUGIN_URL, MINIO_POLICY_PLUGIN_URL", mistake)
