# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.identities``: the security token service put together.
"""

import os
from pathlib import Path
from urllib.parse import urlencode

from twisted.internet.testing import MemoryReactorClock

from kypello.errors import ConfigurationError
from kypello.http.tls import Clients
from kypello.iam.accounts import Accounts
from kypello.iam.authenticate import Authenticator
from kypello.iam.authorities import Authorities
from kypello.iam.slowing import Slowing
from kypello.identities import asked_of_clients, load_authorities, make_token_service
from kypello.identityconfig import IdentitySettings, LDAPSettings, OpenIDSettings
from kypello.store.memory import MemoryIndex
from kypello.testing.harness import Harness
from tests.cases import SyncCase
from tests.iam.authority import Authority
from tests.kes.certificates import pem
from tests.sts.front import ROOT

OPENID = OpenIDSettings("", "https://id.example/x", "ours")
LDAP = LDAPSettings("ldap.example", 636, user_bases=("dc=x",), user_filter="(uid=%s)")


class LoadTests(SyncCase):
    """
    What is read before the server starts.
    """

    def setUp(self) -> None:
        """
        Make a folder with an authority in it.
        """
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.authority = Authority.make().certificate
        (self.folder / "ours.crt").write_bytes(pem(self.authority))

    def test_read(self) -> None:
        """
        Authorities are read when somebody needs them, and not otherwise.
        """
        for settings in (
            IdentitySettings(openid=(OPENID,)),
            IdentitySettings(ldap=LDAP),
            IdentitySettings(certificates=True),
        ):
            found = load_authorities(settings, self.folder)
            self.assertEqual(found.certificates, (self.authority,))
        self.assertEqual(load_authorities(IdentitySettings(), self.folder), Authorities())

    def test_mistakes(self) -> None:
        """
        All mistakes are told together; certificates of clients need an authority.
        """
        (self.folder / "theirs.crt").write_text("nothing")
        bad = LDAPSettings("h", 636, user_bases=("dc=x",), user_filter="uid=%s")
        settings = IdentitySettings(ldap=bad, certificates=True)
        with self.assertRaises(ConfigurationError) as caught:
            load_authorities(settings, self.folder)
        self.assertEqual(len(caught.exception.mistakes), 2)
        missing = Path(self.mktemp())
        with self.assertRaises(ConfigurationError) as caught:
            load_authorities(IdentitySettings(certificates=True), missing)
        self.assertIn(str(missing), caught.exception.mistakes[0])

    def test_asked(self) -> None:
        """
        Clients are asked for certificates where these count.
        """
        self.assertIs(asked_of_clients(IdentitySettings()), Clients.UNKNOWN)
        welcome = IdentitySettings(certificates=True)
        self.assertIs(asked_of_clients(welcome), Clients.WELCOME_BY_KEY)


class MakeTests(SyncCase):
    """
    What is put together.
    """

    def missing(self, settings: IdentitySettings) -> list[bool]:
        """
        Which parts a service lacks: providers, a directory, certificates.
        """
        reactor = MemoryReactorClock()
        accounts = Accounts(MemoryIndex(), None, ROOT, reactor, os.urandom)
        authenticator = Authenticator(accounts, None, reactor)
        made = make_token_service(
            reactor, settings, Authorities(), accounts, authenticator, Slowing(reactor)
        )
        harness = Harness(made, access_log=False)
        found = []
        for action, fields in (
            ("AssumeRoleWithWebIdentity", {"WebIdentityToken": "x"}),
            ("AssumeRoleWithLDAPIdentity", {"LDAPUsername": "x"}),
            ("AssumeRoleWithCertificate", {}),
        ):
            query = urlencode({"Action": action, "Version": "2011-06-15", **fields})
            answer = self.successResultOf(harness.request("POST", f"/?{query}", (), b""))
            found.append(b"does not exist" in answer.body or b"disabled" in answer.body)
        self.assertEqual(reactor.tcpClients + reactor.sslClients, [])
        return found

    def test_parts(self) -> None:
        """
        Each part is there when it is configured, and asks nobody before it has to.
        """
        self.assertEqual(self.missing(IdentitySettings()), [True, True, True])
        everything = IdentitySettings((OPENID,), LDAP, certificates=True)
        self.assertEqual(self.missing(everything), [False, False, False])
