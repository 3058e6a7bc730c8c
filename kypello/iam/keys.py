# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Service accounts: access keys of their own for what acts in somebody's name.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from kypello.errors import Damaged, KeyNotAllowed, MalformedPolicy, NoSuchAccessKey, NoSuchUser
from kypello.iam.ledger import Draft
from kypello.iam.limits import (
    check_access_key,
    check_expiry,
    check_labels,
    check_secret_key,
    check_subject,
)
from kypello.iam.part import Part
from kypello.iam.records import (
    KEYS,
    KeyRecord,
    Owner,
    UserRecord,
    child_key,
    children,
    expiry_key,
    key_key,
    user_key,
)
from kypello.iam.values import BUILTIN, UNCHANGED, KeyInfo, NewKey, Secret, Unchanged
from kypello.model import Kind
from kypello.policy.document import Policy, parse_session_policy


class Keys(Part):
    """
    Service accounts, and what is told of them and of sessions.

    Failures are those of :class:`kypello.iam.users.Users`.
    """

    async def create_key(self, new: NewKey) -> None:
        """
        Make a service account.

        Whether who asks may make one for this parent is up to the caller: for the root user
        nobody else may.

        :raises InvalidAccount: Its keys, what it is called, or when it expires.
        :raises AccessKeyTaken:
        :raises KeyNotAllowed: The parent is a service account or a session.
        :raises NoSuchUser: The parent.
        """
        check_access_key(new.access_key, self._root.access_key)
        check_secret_key(new.secret_key)
        check_labels(new.name, new.description)
        check_expiry(new.expires, self._clock.seconds())

        async def work(draft: Draft) -> None:
            """
            Write it, and that its parent has it.
            """
            access_key = new.access_key
            await self._require_free(draft, user_key(access_key), access_key)
            await self._require_free(draft, key_key(access_key), access_key)
            owner, birth = await self._parent(draft, new.parent, new.provider)
            record = KeyRecord(
                owner=owner,
                parent=self._kept(owner, new.parent),
                birth=birth,
                secret=new.secret_key,
                enabled=new.enabled,
                session=False,
                token="",
                policy=None if new.policy is None else new.policy.text,
                policies=new.policies,
                name=new.name,
                description=new.description,
                expires=new.expires,
                groups=new.groups,
                provider=new.provider,
                claims={name: tuple(values) for name, values in new.claims.items()},
                revoke_type="",
                updated=self._now(),
            )
            draft.put(key_key(access_key), record)
            draft.note(child_key(owner, record.parent, access_key))

        await self._ledger.change(work)

    async def update_key(
        self,
        access_key: str,
        *,
        secret_key: str | None = None,
        enabled: bool | None = None,
        name: str | None = None,
        description: str | None = None,
        policy: Policy | Unchanged | None = UNCHANGED,
        expires: float | Unchanged | None = UNCHANGED,
    ) -> None:
        """
        Change a service account.

        :param secret_key: ``None`` leaves it, as it does in the next three.
        :param policy: ``None`` takes the limit away.
        :param expires: ``None`` for never.
        :raises InvalidAccount:
        :raises NoSuchAccessKey: Also for a session.
        """
        if secret_key is not None:
            check_secret_key(secret_key)
        if not isinstance(expires, Unchanged):
            check_expiry(expires, self._clock.seconds())
        check_labels(name or "", description or "")
        changes: dict[str, object] = {
            "secret": secret_key,
            "enabled": enabled,
            "name": name,
            "description": description,
        }
        given = {field: value for field, value in changes.items() if value is not None}
        if not isinstance(policy, Unchanged):
            given["policy"] = None if policy is None else policy.text
        if not isinstance(expires, Unchanged):
            given["expires"] = expires

        async def work(draft: Draft) -> None:
            """
            Write it.
            """
            known = await draft.get(KeyRecord, key_key(access_key))
            if known is None or known.session:
                raise NoSuchAccessKey(access_key)
            draft.put(key_key(access_key), replace(known, updated=self._now(), **given))

        await self._ledger.change(work)

    async def remove_key(self, access_key: str) -> None:
        """
        Remove a service account, or end a session.

        :raises NoSuchAccessKey:
        """

        async def work(draft: Draft) -> None:
            """
            Remove it, and the notes of it.
            """
            known = await draft.get(KeyRecord, key_key(access_key))
            if known is None:
                raise NoSuchAccessKey(access_key)
            discard(draft, access_key, known)

        await self._ledger.change(work)

    async def key(self, access_key: str) -> KeyInfo:
        """
        Tell about a service account or a session, also one that has expired.

        :raises NoSuchAccessKey:
        """
        key = key_key(access_key)
        record = (await self._ledger.read((key,))).get(KeyRecord, key)
        if record is None:
            raise NoSuchAccessKey(access_key)
        return self._told(access_key, record)

    async def keys(self, parent: str | None = None, kind: Kind | None = None) -> Sequence[KeyInfo]:
        """
        Service accounts and sessions, in the order of their access keys.

        :param parent: Only of them: the root user, a user or a subject.
        :param kind: Only these.
        """
        if parent is None:
            found = [each async for each in self._ledger.scan(KeyRecord, KEYS)]
        else:
            found = await self._of_parent(parent)
        return [
            self._told(access_key, record)
            for access_key, record in found
            if kind is None or record.session == (kind is Kind.SESSION)
        ]

    async def key_secrets(self) -> Sequence[Secret]:
        """
        All service accounts with their secret keys: for nothing but an export that somebody may
        have.
        """
        return [
            Secret(self._told(access_key, record), record.secret)
            async for access_key, record in self._ledger.scan(KeyRecord, KEYS)
            if not record.session
        ]

    async def _of_parent(self, parent: str) -> list[tuple[str, KeyRecord]]:
        """
        The keys of all who have this name.
        """
        owners = [Owner.USER, Owner.SUBJECT]
        if parent == self._root.access_key:
            owners.append(Owner.ROOT)
        names = [
            name
            for owner in owners
            for name in await self._ledger.notes(children(owner, self._kept(owner, parent)))
        ]
        keys = [key_key(name) for name in sorted(names)]
        # One that has ended meanwhile is left out.
        records = (await self._ledger.read(keys)).several(KeyRecord, keys)
        return [(name, each) for name, each in zip(sorted(names), records, strict=True) if each]

    async def _parent(self, draft: Draft, parent: str, provider: str) -> tuple[Owner, bytes]:
        """
        Of what kind a parent is, and its birth.

        :raises KeyNotAllowed:
        :raises NoSuchUser:
        """
        if provider != BUILTIN:
            check_subject(parent)
            return Owner.SUBJECT, b""
        if parent == self._root.access_key:
            return Owner.ROOT, b""
        user = await draft.get(UserRecord, user_key(parent))
        if user is None:
            if await draft.holds(key_key(parent)):
                raise KeyNotAllowed("a service account or a session cannot own another")
            raise NoSuchUser(parent)
        return Owner.USER, user.birth

    def _kept(self, owner: Owner, parent: str) -> str:
        """
        The name of a parent as it is kept.
        """
        return "" if owner is Owner.ROOT else parent

    def _told(self, access_key: str, record: KeyRecord) -> KeyInfo:
        return KeyInfo(
            access_key=access_key,
            parent=self._root.access_key if record.owner is Owner.ROOT else record.parent,
            kind=Kind.SESSION if record.session else Kind.SERVICE,
            enabled=record.enabled,
            policy=limit(access_key, record),
            policies=record.policies,
            name=record.name,
            description=record.description,
            expires=record.expires,
            groups=record.groups,
            provider=record.provider,
            claims=record.claims,
            revoke_type=record.revoke_type,
            updated=record.updated,
        )


def discard(draft: Draft, access_key: str, record: KeyRecord) -> None:
    """
    Remove a key, with the notes of it.
    """
    draft.remove(key_key(access_key))
    draft.remove(child_key(record.owner, record.parent, access_key))
    if record.session and record.expires is not None:
        draft.remove(expiry_key(record.expires, access_key))


def limit(access_key: str, record: KeyRecord) -> Policy | None:
    """
    What limits a key.

    :raises Damaged: It is no policy: it was checked when it was kept.
    """
    if record.policy is None:
        return None
    try:
        return parse_session_policy(record.policy)
    except MalformedPolicy as error:
        raise Damaged(f"the policy of the access key {access_key}: {error.reason}") from error
