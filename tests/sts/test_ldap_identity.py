# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.sts``: sessions of those who have a password in a directory.
"""

from collections.abc import Mapping

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from kypello.iam.logins import (
    NO_LOGIN,
    IDirectory,
    Login,
    LoginRefused,
    ProviderUnreachable,
)
from kypello.iam.values import Holder, HolderKind
from kypello.model import Kind, Question
from kypello.sts.actions import EVEN
from kypello.testing.harness import Answer
from tests.sts.front import STSCase

LDAP = "AssumeRoleWithLDAPIdentity"
ALICE, BOB = "uid=alice,dc=example", "uid=bob,dc=example"
STAFF = "cn=staff,dc=example"
PASSWORD = "a-password-nobody-logs"


@implementer(IDirectory)
@define
class MemoryDirectory:
    """
    People in memory, of one password.

    :ivar groups: Of each, by the name that they log in with.
    :ivar takes: How long each answer takes, in seconds.
    :ivar down: Whether it does not answer.
    """

    clock: Clock
    groups: Mapping[str, tuple[str, ...]]
    takes: float = 0.0
    down: bool = False

    async def login(self, user: str, password: str) -> Login:
        """
        Look somebody up.
        """
        await deferLater(self.clock, self.takes)
        if self.down:
            raise ProviderUnreachable("it is down")
        if user not in self.groups or password != PASSWORD:
            raise LoginRefused(NO_LOGIN, f"{user} is unknown, or the password is wrong")
        name, groups = f"uid={user},dc=example", self.groups[user]
        claims = {"ldap:user": (name,), "ldap:username": (user,), "ldap:groups": groups}
        return Login(name, name, "ldap", groups=groups, claims=claims)


class LDAPIdentityTests(STSCase):
    """
    Alice is of the staff, and Bob is not; one of them has a policy when a test says so.
    """

    def setUp(self) -> None:
        """
        Ask a directory in memory.
        """
        self.directory = MemoryDirectory(Clock(), {"alice": (STAFF,), "bob": ()})
        self.serve(directory=self.directory)
        self.directory.clock = self.clock
        self.observed: list[LogEvent] = []
        globalLogPublisher.addObserver(self.observed.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.observed.append)

    def begin(
        self, user: str = "alice", password: str = PASSWORD, **more: str
    ) -> "Deferred[Answer]":
        """
        Begin to ask for a session.
        """
        fields = {"LDAPUsername": user, "LDAPPassword": password, **more}
        answer = self.start_call(LDAP, fields)
        self.clock.advance(0)
        return answer

    async def ask(self, user: str = "alice", password: str = PASSWORD, **more: str) -> Answer:
        """
        Ask for a session, and wait.
        """
        answer = self.begin(user, password, **more)
        self.clock.advance(EVEN)
        return await answer

    async def attach(self, name: str, *policies: str) -> None:
        """
        Give policies to somebody, or a group, of the directory.
        """
        await self.accounts.attach(policies, Holder(HolderKind.SUBJECT, name))

    async def test_session(self) -> None:
        """
        A session has the policies of the user and of the groups, as they are when it is used.
        """
        verifyObject(IDirectory, self.directory)
        await self.attach(ALICE, "readonly")
        answer = await self.ask()
        result = self.granted(answer, LDAP)
        self.assertEqual([one.tag for one in result], ["Credentials"])
        identity, expires = await self.session(answer, LDAP)
        self.assertEqual((identity.user, identity.kind), (ALICE, Kind.SESSION))
        self.assertEqual(expires, self.clock.seconds() - EVEN + 3600)
        put = Question("s3:PutObject", "bucket/key")
        self.assertFalse(await self.accounts.allows(identity, put, {}))
        await self.attach(STAFF, "writeonly")
        self.assertTrue(await self.accounts.allows(identity, put, {}))

    async def test_duration(self) -> None:
        """
        The duration is as for the others.
        """
        await self.attach(ALICE, "readonly")
        _identity, expires = await self.session(await self.ask(DurationSeconds="900"), LDAP)
        self.assertEqual(expires, self.clock.seconds() - EVEN + 900)
        answer = await self.ask(DurationSeconds="899")
        self.refused(answer, 400, "InvalidParameterValue")

    async def test_group_alone(self) -> None:
        """
        The policy of a group is enough.
        """
        await self.attach(STAFF, "readonly")
        await self.session(await self.ask(), LDAP)

    async def test_uniform(self) -> None:
        """
        Whoever gets nothing is told the same, at the same time, whatever the reason is.
        """
        await self.attach(ALICE, "readonly")
        bodies = set()
        for takes in (0.0, 0.4):
            self.directory.takes = takes
            for user, password in (("alice", "wrong"), ("nobody", PASSWORD), ("bob", PASSWORD)):
                answer = self.begin(user, password)
                self.clock.advance(takes)
                self.clock.advance(EVEN - takes - 0.1)
                self.assertNoResult(answer)
                self.clock.advance(0.1)
                refused = self.successResultOf(answer)
                message = self.refused(refused, 400, "InvalidParameterValue")
                identifier = refused.header("x-amz-request-id") or ""
                bodies.add(refused.body.replace(identifier.encode(), b""))
                self.assertEqual(message, NO_LOGIN)
        self.assertEqual(len(bodies), 1)
        self.assertEqual(await self.accounts.keys(), [])

    async def test_missing(self) -> None:
        """
        An empty name or password is told at once.
        """
        for user, password in (("", PASSWORD), ("alice", "")):
            answer = self.successResultOf(self.begin(user, password))
            self.refused(answer, 400, "MissingParameter")

    async def test_down(self) -> None:
        """
        A directory that does not answer is told apart, and counts for no guess.
        """
        self.directory.down = True
        for _ in range(30):
            answer = self.successResultOf(self.begin())
            self.refused(answer, 503, "IDPCommunicationError")

    async def test_guessing(self) -> None:
        """
        Guesses at one user are slowed down, however the name is spelt; another user is not.
        """
        await self.attach(BOB, "readonly")
        for number in range(10):
            answer = self.begin("alice" if number % 2 else "ALICE", f"guess{number}")
            self.clock.advance(EVEN)
            self.successResultOf(answer)
        waiting = [self.begin("Alice", "guess") for _ in range(20)]
        self.clock.advance(EVEN)
        self.assertLess(sum(one.called for one in waiting), 20)
        statuses = []
        for _ in range(120):
            self.clock.advance(0.5)
        for one in waiting:
            statuses.append(self.successResultOf(one).status)
        self.assertEqual(set(statuses), {400, 429})
        await self.session(await self.ask("bob"), LDAP)

    async def test_log(self) -> None:
        """
        The log tells who was refused and why, and no password.
        """
        await self.ask("alice", "a-guess-nobody-logs")
        (event,) = [
            event["log_format"].format(**event)
            for event in self.observed
            if "is refused" in event.get("log_format", "")
        ]
        self.assertIn("198.51.100.7", event)
        self.assertIn("alice is unknown, or the password is wrong", event)
        self.assertNotIn("a-guess", "".join(map(repr, self.observed)))
