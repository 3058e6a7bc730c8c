# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.ldap`` against a real OpenLDAP server.
"""

from pathlib import Path

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from zope.interface.verify import verifyObject

from kypello.iam.authorities import Authorities
from kypello.iam.ldap import Directory
from kypello.iam.logins import NO_LOGIN, IDirectory, LoginRefused, ProviderUnreachable
from kypello.identityconfig import LDAPSettings
from tests.cases import AsyncCase
from tests.integration.directory import (
    BASE,
    LOOKUP,
    LOOKUP_PASSWORD,
    PASSWORDS,
    DirectoryServer,
)

ALICE = f"uid=alice,ou=people,{BASE}"
READERS, WRITERS = f"cn=readers,ou=groups,{BASE}", f"cn=writers,ou=groups,{BASE}"


class DirectoryTests(AsyncCase):
    """
    Logins, each over TLS unless it says otherwise.
    """

    def setUp(self) -> None:
        """
        Start a server and trust it.
        """
        self.server = DirectoryServer(Path(self.mktemp()).absolute())
        self.server.start()
        self.addCleanup(self.server.stop)
        self.settings = LDAPSettings(
            "127.0.0.1",
            self.server.tls_port,
            lookup_dn=LOOKUP,
            lookup_password=LOOKUP_PASSWORD,
            user_bases=(f"ou=People,{BASE}", f"ou=Others,{BASE}"),
            user_filter="(&(objectClass=inetOrgPerson)(uid=%s))",
            group_bases=(f"ou=Groups,{BASE}",),
            group_filter="(&(objectClass=groupOfNames)(member=%d))",
        )
        self.trusted = self.load(self.server.authority)

    def load(self, *certificates: Path) -> Authorities:
        """
        Trust these.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        for number, path in enumerate(certificates):
            (folder / f"{number}.crt").write_bytes(path.read_bytes())
        return Authorities.load(folder)

    def directory(self, **changes: object) -> Directory:
        """
        The directory, with other settings.
        """
        return Directory(reactor, evolve(self.settings, **changes), self.trusted)  # type: ignore[arg-type]  # any of them

    async def refused(self, user: str, password: str, **changes: object) -> str:
        """
        See that somebody is not let in; give what only the log tells.
        """
        with self.assertRaises(LoginRefused) as caught:
            await self.directory(**changes).login(user, password)
        self.assertEqual(caught.exception.reason, NO_LOGIN)
        self.assertNotIn(password or "nothing", caught.exception.detail)
        return caught.exception.detail

    async def unreachable(self, **changes: object) -> str:
        """
        See that the directory cannot be asked; give the reason.
        """
        with self.assertRaises(ProviderUnreachable) as caught:
            await self.directory(**changes).login("alice", PASSWORDS["alice"])
        self.assertNotIn(PASSWORDS["alice"], caught.exception.reason)
        return caught.exception.reason

    async def test_login(self) -> None:
        """
        Who shows a password is known by the name of their entry, and those of their groups.
        """
        directory = self.directory()
        verifyObject(IDirectory, directory)
        login = await directory.login("alice", PASSWORDS["alice"])
        self.assertEqual((login.parent, login.subject, login.provider), (ALICE, ALICE, "ldap"))
        self.assertEqual(login.groups, (READERS, WRITERS))
        self.assertIsNone(login.policies)
        self.assertEqual(
            login.claims,
            {
                "ldap:user": (ALICE,),
                "ldap:username": ("alice",),
                "ldap:groups": (READERS, WRITERS),
            },
        )

    async def test_spelling(self) -> None:
        """
        However a login name is spelt, it is the same user, with the same groups.
        """
        login = await self.directory().login("ALICE", PASSWORDS["alice"])
        self.assertEqual((login.parent, login.groups), (ALICE, (READERS, WRITERS)))

    async def test_odd_names(self) -> None:
        """
        Names with signs that mean something in filters, and in other alphabets, log in.
        """
        for user in ("J\u00f6rg", "odd*(name)\\"):
            login = await self.directory().login(user, PASSWORDS[user])
            self.assertEqual(login.claims["ldap:username"], (user,))
            self.assertEqual(login.groups, ())

    async def test_injection(self) -> None:
        """
        What is part of a filter is a name like another, which nobody has.
        """
        for user in (
            "*",
            "al*",
            "alice)(uid=*",
            "*)(objectClass=*))(|(uid=*",
            "\\61lice",
            "alice\x00",
            "%s",
            "%d",
        ):
            self.assertIn("knows 0 users", await self.refused(user, PASSWORDS["alice"]))

    async def test_refused(self) -> None:
        """
        An unknown user, a false password and a name that two have are told the same.
        """
        self.assertIn("knows 0 users", await self.refused("nobody", "password"))
        self.assertIn("with 49", await self.refused("alice", "password"))
        self.assertIn("with 49", await self.refused("alice", PASSWORDS["bob"]))
        self.assertIn("knows 2 users", await self.refused("twin", "another-password"))

    async def test_no_password(self) -> None:
        """
        Nobody is let in without a password, nor without a name.
        """
        for user, password in (("alice", ""), ("", "x"), ("", "")):
            self.assertIn("empty", await self.refused(user, password))

    async def test_starttls(self) -> None:
        """
        A plain connection can become one over TLS before anything is told.
        """
        directory = self.directory(port=self.server.plain_port, security="starttls")
        self.assertEqual((await directory.login("alice", PASSWORDS["alice"])).parent, ALICE)

    async def test_plain(self) -> None:
        """
        Without TLS it works, too, for those who want it.
        """
        directory = self.directory(port=self.server.plain_port, security="none")
        self.assertEqual((await directory.login("alice", PASSWORDS["alice"])).parent, ALICE)

    async def test_untrusted(self) -> None:
        """
        A server that nobody trusted vouches for is told nothing, unless nobody cares.
        """
        self.trusted = self.load()
        for changes in ({}, {"port": self.server.plain_port, "security": "starttls"}):
            self.assertIn("not trusted", await self.unreachable(**changes))
        login = await self.directory(verify=False).login("alice", PASSWORDS["alice"])
        self.assertEqual(login.parent, ALICE)

    async def test_wrong_name(self) -> None:
        """
        A server whose certificate is for another host is told nothing.
        """
        self.assertIn("not for this host", await self.unreachable(host="localhost"))

    async def test_lookup_refused(self) -> None:
        """
        It is no fault of the user when we cannot look them up.
        """
        self.assertIn("with 49", await self.unreachable(lookup_password="false"))
        self.assertIn("with 48", await self.unreachable(lookup_dn="", lookup_password=""))

    async def test_no_base(self) -> None:
        """
        A base that does not exist is a mistake of ours.
        """
        self.assertIn("with 32", await self.unreachable(user_bases=(f"ou=Nobody,{BASE}",)))

    async def test_no_groups(self) -> None:
        """
        Without a filter for groups nobody has any.
        """
        login = await self.directory(group_filter="").login("alice", PASSWORDS["alice"])
        self.assertEqual(login.groups, ())

    async def test_down(self) -> None:
        """
        A server that is not there, or goes away, is told apart from a refusal.
        """
        factory = Factory.forProtocol(_Leaving)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        number = port.getHost().port
        try:
            for security in ("tls", "none", "starttls"):
                await self.unreachable(port=number, security=security)
        finally:
            await port.stopListening()
        self.assertIn("refused", await self.unreachable(port=number))


class _Leaving(Protocol):
    """
    A server that hears something and leaves.
    """

    def dataReceived(self, _data: bytes) -> None:
        """
        Called by Twisted.
        """
        assert self.transport is not None
        self.transport.loseConnection()
