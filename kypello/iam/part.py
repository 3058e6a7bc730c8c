# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What all parts of the accounts stand on.
"""

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from kypello.crypto.randomness import Random
from kypello.errors import AccessKeyTaken, NoSuchGroup, NoSuchUser
from kypello.iam.ledger import Draft, Ledger
from kypello.iam.records import GroupRecord, UserRecord, group_key, user_key
from kypello.model import Identity


@define(eq=False)
class Part:
    """
    A part of the accounts.

    :ivar _root: The root user, who is not kept.
    :ivar _clock: Tells the time in seconds since the epoch.
    """

    _ledger: Ledger
    _root: Identity = field(repr=False)
    _clock: IReactorTime
    _random: Random

    def _now(self) -> int:
        """
        Nanoseconds since the epoch.
        """
        return int(self._clock.seconds() * 1_000_000_000)

    async def _require_free(self, draft: Draft, key: bytes, access_key: str) -> None:
        """
        See that nothing else has an access key.

        :param key: Of the record that must not be there.
        :raises AccessKeyTaken:
        """
        if access_key == self._root.access_key or await draft.holds(key):
            raise AccessKeyTaken(access_key)


async def existing_user(draft: Draft, name: str) -> UserRecord:
    """
    A user that a change is about.

    :raises NoSuchUser:
    """
    record = await draft.get(UserRecord, user_key(name))
    if record is None:
        raise NoSuchUser(name)
    return record


async def existing_group(draft: Draft, name: str) -> GroupRecord:
    """
    A group that a change is about.

    :raises NoSuchGroup:
    """
    record = await draft.get(GroupRecord, group_key(name))
    if record is None:
        raise NoSuchGroup(name)
    return record
