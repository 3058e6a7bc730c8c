# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the tests of accounts have in common: two processes over one index.
"""

import json
import os
from collections.abc import Awaitable, Mapping
from typing import TypeVar

from attrs import evolve
from twisted.internet.task import Clock

from kypello.errors import KypelloError
from kypello.iam.accounts import Accounts
from kypello.iam.values import NewKey
from kypello.interfaces import IIndex
from kypello.model import Identity, Question
from kypello.objects.datakeys import DataKeys
from kypello.policy.document import Policy, parse_policy, parse_session_policy
from kypello.store.changes import Changes, shared_table
from kypello.store.remembering import RememberingIndex
from tests.cases import AsyncCase
from tests.objects.keyservice import MemoryKMS
from tests.store.faults import FailingIndex

E = TypeVar("E", bound=KypelloError)

#: Of the table of changes: few, so that it is made fast.
_GROUPS = 256

NOW = 1_790_000_000.0
ROOT = Identity("rootkey", "rootsecret", user="rootkey")
SECRET = "alice-secret"

#: A service account of a user.
KEY = NewKey("service-key", "service-secret", "alice")


def statement(actions: str, effect: str = "Allow", resource: str = "*") -> bytes:
    """
    A document of one statement.

    :param actions: Separated by blanks.
    """
    names = ",".join(f'"{name}"' for name in actions.split())
    return (
        f'{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":[{names}],'
        f'"Resource":["arn:aws:s3:::{resource}"]}}]}}'
    ).encode()


def policy(actions: str, effect: str = "Allow", resource: str = "*") -> Policy:
    """
    A policy of one statement.
    """
    return parse_policy(statement(actions, effect, resource))


def limit(actions: str, effect: str = "Allow", resource: str = "*") -> Policy:
    """
    What limits a key, of one statement.
    """
    return parse_session_policy(statement(actions, effect, resource))


def bucket_policy(
    effect: str = "Allow",
    action: str = "s3:GetObject",
    resource: str = "bucket/*",
    condition: Mapping[str, Mapping[str, str]] | None = None,
) -> bytes:
    """
    The policy of a bucket, for everybody.
    """
    statement = {
        "Effect": effect,
        "Principal": "*",
        "Action": action,
        "Resource": f"arn:aws:s3:::{resource}",
        **({} if condition is None else {"Condition": condition}),
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()


class AccountsCase(AsyncCase):
    """
    A test with two processes over one index and one key service.
    """

    def setUp(self) -> None:
        """
        Start both.
        """
        self.clock = Clock()
        self.clock.advance(NOW)
        self.kms = MemoryKMS.with_default_key()
        self.below = FailingIndex()
        self.table = shared_table(2, _GROUPS)
        self.addCleanup(os.close, self.table)
        self.accounts, self.other = self.process(0), self.process(1)

    def process(
        self,
        worker: int = 0,
        root: Identity = ROOT,
        below: IIndex | None = None,
        sealed: bool = True,
        **options: bool,
    ) -> Accounts:
        """
        A process that starts over the same data.
        """
        index = RememberingIndex(
            below or self.below, changes=Changes(worker, 2, self.table, _GROUPS)
        )
        keys = DataKeys(self.kms, self.clock) if sealed else None
        return Accounts(index, keys, root, self.clock, os.urandom, **options)

    async def refused(self, error: type[E], work: Awaitable[object]) -> E:
        """
        Assert that something fails.
        """
        with self.assertRaises(error) as caught:
            await work
        return caught.exception

    async def unchanged(self, error: type[E], work: Awaitable[object]) -> E:
        """
        Assert that something fails and changes nothing.
        """
        before = await self.below.scan("accounts", b"", None, 10_000)
        raised = await self.refused(error, work)
        self.assertEqual(await self.below.scan("accounts", b"", None, 10_000), before)
        return raised

    async def keys_below(self) -> list[bytes]:
        """
        All keys that are kept, but for what is always there.
        """
        rows = await self.below.scan("accounts", b"", None, 10_000)
        return [key for key, _ in rows if key not in {b"generation", b"datakey"}]

    async def enabled(self, access_key: str) -> bool | None:
        """
        Whether somebody may sign, as both processes tell it; ``None`` for nobody.
        """
        first, second = [await each.identity(access_key) for each in (self.accounts, self.other)]
        self.assertEqual(first, second)
        return None if first is None else first.enabled

    async def allowed(
        self,
        access_key: str | None,
        action: str = "s3:GetObject",
        resource: str = "bucket/key",
        settings: dict[str, bytes] | None = None,
    ) -> bool:
        """
        Whether somebody may do something, as both processes tell it.
        """
        told = set()
        for each in (self.accounts, self.other):
            identity = None if access_key is None else Identity(access_key, "")
            told.add(await each.allows(identity, Question(action, resource), settings or {}))
        self.assertEqual(len(told), 1, told)
        return told.pop()

    async def make_key(self, **changes: object) -> NewKey:
        """
        Make a service account of the user, who is there.
        """
        new = evolve(KEY, **changes)
        await self.accounts.create_key(new)
        return new
