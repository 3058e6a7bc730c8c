# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Groups of users, by the administration API.
"""

from kypello.admin.call import Call
from kypello.admin.errors import invalid_argument
from kypello.admin.users import read_status, require_switch, tell_status
from kypello.admin.wire import DONE, Document, json_response, tell_update
from kypello.http.response import Response


class _Members(Document):
    """
    Members to be added or removed.
    """

    group: str
    members: list[str] | None = None
    is_remove: bool = False


async def update_members(call: Call) -> Response:
    """
    Add members to a group, which is made if there is none; remove some; or, without members,
    remove the group.
    """
    wanted = call.read(_Members)
    if not wanted.group:
        raise invalid_argument()
    members = tuple(wanted.members or ())
    if not wanted.is_remove:
        await call.require("admin:AddUserToGroup")
        await call.accounts.add_members(wanted.group, members)
        return DONE
    await call.require("admin:RemoveUserFromGroup", "admin:AddUserToGroup")
    if members:
        await call.accounts.remove_members(wanted.group, members)
    else:
        await call.accounts.remove_group(wanted.group)
    return DONE


async def set_group_status(call: Call) -> Response:
    """
    Enable or disable a group.
    """
    name, enabled = call.named("group"), read_status(call.parameter("status"))
    await require_switch(call, "Group", enabled)
    await call.accounts.set_group_enabled(name, enabled)
    return DONE


async def list_groups(call: Call) -> Response:
    """
    The names of all groups.
    """
    return json_response(list(await call.accounts.groups()))


async def group_info(call: Call) -> Response:
    """
    One group.
    """
    group = await call.accounts.group(call.named("group"))
    return json_response(
        {
            "name": group.name,
            "status": tell_status(group.enabled),
            "members": group.members,
            "policy": ",".join(group.policies),
            "updatedAt": tell_update(group.updated),
        }
    )
