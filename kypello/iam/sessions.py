# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Sessions: credentials for a bounded time.
"""

from base64 import b32encode, b64encode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Final

from kypello.iam.keys import Keys, discard
from kypello.iam.ledger import Draft
from kypello.iam.limits import check_duration
from kypello.iam.records import (
    EXPIRIES,
    KeyRecord,
    Owner,
    child_key,
    expired_key,
    expiry_bound,
    expiry_key,
    key_key,
    root_birth,
    user_key,
)
from kypello.iam.values import BUILTIN, Session
from kypello.policy.document import Policy

#: How long it is still told of a session that it has expired, in seconds.
TOLD: Final = 86400.0

#: How many sessions one commit removes at most.
_BATCH = 100


class Sessions(Keys):
    """
    Service accounts, and sessions.

    Failures are those of :class:`kypello.iam.users.Users`.
    """

    async def create_session(
        self,
        parent: str,
        *,
        duration: float,
        policy: Policy | None = None,
        policies: Sequence[str] | None = None,
        groups: Sequence[str] = (),
        claims: Mapping[str, Sequence[str]] | None = None,
        provider: str = BUILTIN,
        revoke_type: str = "",
    ) -> Session:
        """
        Make credentials for somebody who has proved who they are.

        :param parent: The root user or a user; with another *provider*, a subject.
        :param duration: How long it lives, in seconds.
        :param policy: What limits it, as ``parse_session_policy`` read it.
        :param policies: The names of the policies that it has in place of those of its parent;
            they are bound to this session alone.
        :param groups: Of a subject.
        :param claims: Condition keys by lower-case name.
        :param revoke_type: By what :meth:`revoke` can tell it from others.
        :raises InvalidAccount: The duration.
        :raises KeyNotAllowed: The parent is a service account or a session.
        :raises NoSuchUser: The parent.
        """
        check_duration(duration)

        async def work(draft: Draft) -> Session:
            """
            Write it, and the notes of it.
            """
            access_key, secret_key = self.fresh_pair()
            owner, birth = await self._parent(draft, parent, provider)
            if owner is Owner.ROOT:
                birth = root_birth(self._root)
            elif owner is Owner.USER:
                # It must not be removed at the same time.
                user = user_key(parent)
                (draft.expected[user],) = await self._ledger.raw((user,))
            session = Session(
                access_key,
                secret_key,
                urlsafe_b64encode(self._random(32)).decode().rstrip("="),
                self._clock.seconds() + duration,
            )
            record = KeyRecord(
                owner=owner,
                parent=self._kept(owner, parent),
                birth=birth,
                secret=secret_key,
                enabled=True,
                session=True,
                token=session.token,
                policy=None if policy is None else policy.text,
                policies=None if policies is None else tuple(policies),
                name="",
                description="",
                expires=session.expires,
                groups=tuple(groups),
                provider=provider,
                claims={name: tuple(values) for name, values in (claims or {}).items()},
                revoke_type=revoke_type,
                updated=self._now(),
            )
            draft.expected |= {user_key(access_key): None, key_key(access_key): None}
            draft.put(key_key(access_key), record)
            draft.note(child_key(owner, record.parent, access_key))
            draft.note(expiry_key(session.expires, access_key))
            return session

        return await self._ledger.add(work)

    async def revoke(self, user: str, provider: str, revoke_type: str | None) -> int:
        """
        End sessions of somebody.

        :param provider: Who knows them.
        :param revoke_type: Only sessions of this type; ``None`` for all.
        :return: How many ended.
        """

        async def work(draft: Draft) -> int:
            """
            Remove them.
            """
            ended = [
                (access_key, record)
                for access_key, record in await self._of_parent(user)
                if record.session
                and record.provider == provider
                and revoke_type in {None, record.revoke_type}
            ]
            for access_key, record in ended:
                discard(draft, access_key, record)
            return len(ended)

        return await self._ledger.change(work)

    async def sweep(self) -> int:
        """
        Remove some sessions that expired more than a day ago.

        :return: How many; none when there are no others for now.
        """

        async def work(draft: Draft) -> int:
            """
            Remove the oldest ones.
            """
            stop = expiry_bound(self._clock.seconds() - TOLD)
            notes = await self._ledger.first((EXPIRIES[0], stop), _BATCH)
            names = [expired_key(note) for note in notes]
            keys = [key_key(name) for name in names]
            records = (await self._ledger.read(keys)).several(KeyRecord, keys)
            for note, name, record in zip(notes, names, records, strict=True):
                draft.remove(note)
                if record is not None:
                    discard(draft, name, record)
            return len(notes)

        return await self._ledger.add(work)

    def fresh_pair(self) -> tuple[str, str]:
        """
        An access key of 20 characters that nobody has, and a secret key of 40.
        """
        return b32encode(self._random(15))[:20].decode(), b64encode(self._random(30)).decode()
