# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Users and groups.

A user names the groups that it is in; who is in a group is found by looking at all users.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from kypello.errors import (
    GroupNotEmpty,
    NoSuchGroup,
    NoSuchUser,
)
from kypello.iam.ledger import Draft
from kypello.iam.limits import check_access_key, check_group, check_secret_key
from kypello.iam.part import Part, existing_group, existing_user
from kypello.iam.records import (
    GROUPS,
    USERS,
    GroupRecord,
    Owner,
    UserRecord,
    children,
    group_key,
    key_key,
    user_key,
)
from kypello.iam.values import GroupInfo, Secret, UserInfo


class Users(Part):
    """
    Users and groups.

    All calls raise what the KMS raises, and :class:`StorageFailed`; one that raises has changed
    nothing, unless it is :class:`StorageFailed`: then nobody knows.
    """

    async def set_user(self, name: str, secret_key: str, enabled: bool = True) -> None:
        """
        Make a user, or give one another secret; policies, groups and keys stay.

        :raises InvalidAccount: The name or the secret.
        :raises AccessKeyTaken: A service account or a session has this access key.
        """
        check_access_key(name, self._root.access_key)
        check_secret_key(secret_key)

        async def work(draft: Draft) -> None:
            """
            Write the user.
            """
            known = await draft.get(UserRecord, user_key(name))
            if known is None:
                await self._require_free(draft, key_key(name), name)
                known = UserRecord(self._random(16), "", True, (), (), 0)
            fresh = replace(known, secret=secret_key, enabled=enabled, updated=self._now())
            draft.put(user_key(name), fresh)

        await self._ledger.change(work)

    async def set_user_enabled(self, name: str, enabled: bool) -> None:
        """
        Say whether a user, and what acts for it, may sign.

        :raises NoSuchUser:
        """

        async def work(draft: Draft) -> None:
            """
            Write the user.
            """
            known = await existing_user(draft, name)
            draft.put(user_key(name), replace(known, enabled=enabled, updated=self._now()))

        await self._ledger.change(work)

    async def remove_user(self, name: str) -> None:
        """
        Remove a user with its service accounts, its sessions and its memberships.

        :raises NoSuchUser:
        """

        async def work(draft: Draft) -> None:
            """
            Remove all of it.
            """
            known = await existing_user(draft, name)
            draft.remove(user_key(name))
            for group in known.groups:
                await self._touch(draft, group)
            # A session that is being made just now is not among them; it has the birth of this
            # user, and so does not belong to another one of the name.
            within = children(Owner.USER, name)
            for access_key in await self._ledger.notes(within):
                draft.remove(key_key(access_key))
                draft.remove(within[0] + access_key.encode())

        await self._ledger.change(work)

    async def user(self, name: str) -> UserInfo:
        """
        Tell about a user.

        :raises NoSuchUser: Also for the root user.
        """
        record = (await self._ledger.read((user_key(name),))).get(UserRecord, user_key(name))
        if record is None:
            raise NoSuchUser(name)
        return _user(name, record)

    async def users(self) -> Sequence[UserInfo]:
        """
        All users, by name.
        """
        return [_user(*each) async for each in self._ledger.scan(UserRecord, USERS)]

    async def user_secrets(self) -> Sequence[Secret]:
        """
        All users with their secret keys: for nothing but an export that somebody may have.
        """
        return [
            Secret(_user(name, record), record.secret)
            async for name, record in self._ledger.scan(UserRecord, USERS)
        ]

    async def add_members(self, group: str, members: Iterable[str]) -> None:
        """
        Add users to a group, which is made if there is none.  Who is in it stays.

        :raises InvalidAccount: The name of the group.
        :raises NoSuchUser:
        """
        check_group(group)

        async def work(draft: Draft) -> None:
            """
            Write the group, and all who are new in it.
            """
            for name in set(members):
                known = await existing_user(draft, name)
                groups = tuple(sorted({*known.groups, group}))
                if groups != known.groups:
                    draft.put(user_key(name), replace(known, groups=groups))
            await self._touch(draft, group)

        members = tuple(members)
        await self._ledger.change(work)

    async def remove_members(self, group: str, members: Iterable[str]) -> None:
        """
        Take users out of a group.  Who is not in it stays out.

        :raises NoSuchGroup:
        :raises NoSuchUser:
        """

        async def work(draft: Draft) -> None:
            """
            Write the group, and all who were in it.
            """
            await existing_group(draft, group)
            for name in set(members):
                known = await existing_user(draft, name)
                groups = tuple(each for each in known.groups if each != group)
                if groups != known.groups:
                    draft.put(user_key(name), replace(known, groups=groups))
            await self._touch(draft, group)

        members = tuple(members)
        await self._ledger.change(work)

    async def remove_group(self, group: str) -> None:
        """
        Remove a group without members.

        :raises NoSuchGroup:
        :raises GroupNotEmpty:
        """

        async def work(draft: Draft) -> None:
            """
            Remove it.
            """
            await existing_group(draft, group)
            if await self._members(group):
                raise GroupNotEmpty(group)
            draft.remove(group_key(group))

        await self._ledger.change(work)

    async def set_group_enabled(self, group: str, enabled: bool) -> None:
        """
        Say whether a group gives its members anything.

        :raises NoSuchGroup:
        """

        async def work(draft: Draft) -> None:
            """
            Write the group.
            """
            known = await existing_group(draft, group)
            draft.put(group_key(group), replace(known, enabled=enabled, updated=self._now()))

        await self._ledger.change(work)

    async def group(self, group: str) -> GroupInfo:
        """
        Tell about a group.

        :raises NoSuchGroup:
        """
        key = group_key(group)
        record = (await self._ledger.read((key,))).get(GroupRecord, key)
        if record is None:
            raise NoSuchGroup(group)
        members = await self._members(group)
        return GroupInfo(group, record.enabled, members, record.policies, record.updated)

    async def groups(self) -> Sequence[str]:
        """
        The names of all groups, in order.
        """
        return await self._ledger.notes(GROUPS)

    async def all_groups(self) -> Sequence[GroupInfo]:
        """
        All groups, by name, in one go.
        """
        members: dict[str, list[str]] = {}
        for user in await self.users():
            for group in user.groups:
                members.setdefault(group, []).append(user.name)
        return [
            GroupInfo(
                name, group.enabled, tuple(members.get(name, ())), group.policies, group.updated
            )
            async for name, group in self._ledger.scan(GroupRecord, GROUPS)
        ]

    async def _members(self, group: str) -> tuple[str, ...]:
        return tuple([user.name for user in await self.users() if group in user.groups])

    async def _touch(self, draft: Draft, group: str) -> None:
        """
        Write down that a group has changed; make it if there is none.
        """
        known = await draft.get(GroupRecord, group_key(group)) or GroupRecord(True, (), 0)
        draft.put(group_key(group), replace(known, updated=self._now()))


def _user(name: str, record: UserRecord) -> UserInfo:
    return UserInfo(name, record.enabled, record.policies, record.groups, record.updated)
