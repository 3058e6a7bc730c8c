# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello user`` and ``kypello group``.
"""

import json
from typing import Any

from kypello.admincli.policies import merged
from kypello.admincli.work import Work


async def add_user(work: Work) -> int:
    """
    Make a user, or give one another secret key.
    """
    name, secret = work.options.name, work.inputs.secret
    body = await work.client.seal({"secretKey": secret, "status": "enabled"})
    await work.client.call("PUT", "add-user", [("accessKey", name)], body)
    if work.options.generate:
        work.screen.facts({"user": name, "secret_key": secret})
    else:
        work.screen.done(f"User {name} has this secret key now.", {"user": name})
    return 0


async def remove_user(work: Work) -> int:
    """
    Remove a user with all keys.
    """
    name = work.options.name
    await work.client.call("DELETE", "remove-user", [("accessKey", name)])
    work.screen.done(f"User {name} and the keys of it are gone.", {"user": name})
    return 0


async def list_users(work: Work) -> int:
    """
    List the users.
    """
    found = await work.client.unseal(await work.client.call("GET", "list-users"))
    rows = [_user(name, told) for name, told in sorted(found.items())]
    work.screen.table(rows, "There are no users.")
    return 0


async def show_user(work: Work) -> int:
    """
    Tell what is known of a user.
    """
    work.screen.facts(_user(work.options.name, await _told(work)))
    return 0


async def set_user_status(work: Work) -> int:
    """
    Enable or disable a user.
    """
    name, status = work.options.name, work.options.status
    query = [("accessKey", name), ("status", status)]
    await work.client.call("PUT", "set-user-status", query)
    work.screen.done(f"User {name} is {status}.", {"user": name, "status": status})
    return 0


async def show_user_policy(work: Work) -> int:
    """
    Print one document of all policies that a user has, groups included.
    """
    user = await _told(work)
    names = _names(user.get("policyName"))
    for group in user.get("memberOf") or ():
        told = work.client.read(await work.client.call("GET", "group", [("group", group)]))
        if told.get("status") == "enabled":
            names += _names(told.get("policy"))
    work.screen.document(await merged(work.client, dict.fromkeys(names)))
    return 0


async def add_members(work: Work) -> int:
    """
    Put users into a group, which is made when there is none.
    """
    await _change_members(work, remove=False)
    members = ", ".join(work.options.users)
    work.screen.done(
        f"In group {work.options.name} now: {members}." if members else "The group is there.",
        {"group": work.options.name, "members": work.options.users},
    )
    return 0


async def remove_members(work: Work) -> int:
    """
    Take users out of a group; the group itself, when no users are named.
    """
    name, members = work.options.name, work.options.users
    await _change_members(work, remove=True)
    text = f"Not in group {name} any more: {', '.join(members)}."
    told = {"group": name, "members": members}
    work.screen.done(text if members else f"Group {name} is gone.", told)
    return 0


async def list_groups(work: Work) -> int:
    """
    List the groups.
    """
    found = work.client.read(await work.client.call("GET", "groups")) or []
    work.screen.table([{"group": name} for name in sorted(found)], "There are no groups.")
    return 0


async def show_group(work: Work) -> int:
    """
    Tell what is known of a group.
    """
    name = work.options.name
    told = work.client.read(await work.client.call("GET", "group", [("group", name)]))
    work.screen.facts(
        {
            "group": name,
            "status": told.get("status"),
            "members": told.get("members") or [],
            "policies": _names(told.get("policy")),
        }
    )
    return 0


async def set_group_status(work: Work) -> int:
    """
    Enable or disable a group.
    """
    name, status = work.options.name, work.options.status
    query = [("group", name), ("status", status)]
    await work.client.call("PUT", "set-group-status", query)
    work.screen.done(f"Group {name} is {status}.", {"group": name, "status": status})
    return 0


async def _told(work: Work) -> Any:
    query = [("accessKey", work.options.name)]
    return work.client.read(await work.client.call("GET", "user-info", query))


async def _change_members(work: Work, *, remove: bool) -> None:
    body = {
        "group": work.options.name,
        "members": work.options.users,
        "groupStatus": "",
        "isRemove": remove,
    }
    await work.client.call("PUT", "update-group-members", body=json.dumps(body).encode())


def _user(name: str, told: Any) -> dict[str, object]:
    return {
        "user": name,
        "status": told.get("status"),
        "policies": _names(told.get("policyName")),
        "groups": list(told.get("memberOf") or ()),
    }


def _names(text: str | None) -> list[str]:
    """
    The policies of a list in one text.
    """
    return [name for name in (text or "").split(",") if name]
