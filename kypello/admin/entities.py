# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who has which policy: an answer from each side.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kypello.admin.call import Call
from kypello.admin.policies import entry
from kypello.admin.wire import tell_time
from kypello.http.response import Response
from kypello.iam.values import Holder, HolderKind


async def policy_entities(call: Call) -> Response:
    """
    Tell by user, by group and by policy who has what; by policy alone if nothing is asked for.
    """
    users, groups = call.parameters("user"), call.parameters("group")
    policies = call.parameters("policy")
    holders = await call.accounts.holders()
    told: dict[str, Any] = {"timestamp": tell_time(call.front.clock.seconds())}
    if users:
        told["userMappings"] = [await _of_user(call, name, holders) for name in users]
    if groups:
        told["groupMappings"] = [_of_group(name, holders) for name in groups]
    if policies or not (users or groups):
        told["policyMappings"] = _by_policy(holders, policies)
    return await call.seal(told)


async def entries_with_policies(call: Call) -> Response:
    """
    The same of the entries of a directory: which are users and which are groups only that knows,
    so all are told as users, unless a group is asked for.
    """
    holders = await call.accounts.holders()
    entries = {
        holder: names for holder, names in holders.items() if holder.kind is HolderKind.SUBJECT
    }
    users, groups = call.parameters("user"), call.parameters("group")
    policies = call.parameters("policy")
    told: dict[str, Any] = {"timestamp": tell_time(call.front.clock.seconds())}
    if users:
        told["userMappings"] = [
            {"user": name, "policies": list(entries.get(entry(name), ()))} for name in users
        ]
    if groups:
        told["groupMappings"] = [
            {"group": name, "policies": list(entries.get(entry(name), ()))} for name in groups
        ]
    if policies or not (users or groups):
        as_users = {Holder(HolderKind.USER, one.name): names for one, names in entries.items()}
        told["policyMappings"] = _by_policy(as_users, policies)
    return await call.seal(told)


async def _of_user(
    call: Call, name: str, holders: Mapping[Holder, Sequence[str]]
) -> dict[str, Any]:
    user = await call.accounts.user(name)
    mappings = [_of_group(group, holders) for group in user.groups]
    return {"user": name, "policies": user.policies, "memberOfMappings": mappings}


def _of_group(name: str, holders: Mapping[Holder, Sequence[str]]) -> dict[str, Any]:
    return {"group": name, "policies": list(holders.get(Holder(HolderKind.GROUP, name), ()))}


def _by_policy(
    holders: Mapping[Holder, Sequence[str]], wanted: Collection[str]
) -> list[dict[str, Any]]:
    found: dict[str, dict[HolderKind, list[str]]] = {}
    for holder, names in holders.items():
        for name in names:
            if not wanted or name in wanted:
                found.setdefault(name, {}).setdefault(holder.kind, []).append(holder.name)
    return [
        {
            "policy": name,
            "users": sorted(kinds.get(HolderKind.USER, ())) or None,
            "groups": sorted(kinds.get(HolderKind.GROUP, ())) or None,
        }
        for name, kinds in sorted(found.items())
        if HolderKind.USER in kinds or HolderKind.GROUP in kinds
    ]
