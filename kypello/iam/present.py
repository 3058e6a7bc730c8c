# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is on a server that an archive of accounts is imported into, and whether it is the same.
"""

import json
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from kypello.iam.accounts import Accounts
from kypello.iam.archivefile import ArchivedGroup, ArchivedUser
from kypello.iam.values import Holder, KeyInfo, NewKey
from kypello.policy.document import Policy


@define(eq=False)
class Present:
    """
    What is on this server, or would be if this were no dry run.

    :ivar refused: Policies of the archive that are not here as they are in it.
    :ivar keys: Sessions, too.
    :ivar secrets: Of keys.
    """

    policies: dict[str, Policy]
    users: dict[str, ArchivedUser]
    groups: dict[str, ArchivedGroup]
    keys: dict[str, KeyInfo | NewKey]
    secrets: dict[str, str] = field(repr=False)
    holders: Mapping[Holder, tuple[str, ...]]
    refused: set[str] = field(factory=set)


async def look_around(accounts: Accounts) -> Present:
    """
    Read what is here.
    """
    users: dict[str, ArchivedUser] = {}
    secrets: dict[str, str] = {}
    for secret in await accounts.secrets():
        if isinstance(secret.about, KeyInfo):
            secrets[secret.about.access_key] = secret.secret_key
        else:
            users[secret.about.name] = ArchivedUser(secret.secret_key, secret.about.enabled)
    groups = await accounts.all_groups()
    return Present(
        policies={each.name: each.policy for each in await accounts.policies()},
        users=users,
        groups={each.name: ArchivedGroup(each.enabled, each.members) for each in groups},
        keys={each.access_key: each for each in await accounts.keys()},
        secrets=secrets,
        holders=await accounts.holders(),
    )


def same_document(one: bytes, other: bytes) -> bool:
    """
    Whether two policies say the same: lists in them are sets, and MinIO writes these in any order.
    """
    try:
        return bool(_settled(json.loads(one)) == _settled(json.loads(other)))
    except (ValueError, RecursionError):
        return False


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _settled(each) for name, each in value.items()}
    if isinstance(value, list):
        return sorted((_settled(each) for each in value), key=repr)
    return value


def same_limit(one: Policy | None, other: Policy | None) -> bool:
    """
    The same of what limits keys; ``None`` is no limit.
    """
    if one is None or other is None:
        return one is other
    return same_document(one.text, other.text)
