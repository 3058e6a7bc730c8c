# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Users, by the administration API.
"""

from collections.abc import Mapping
from typing import Any

from kypello.admin.call import Call
from kypello.admin.errors import access_denied, invalid_argument, not_offered
from kypello.admin.wire import DONE, Document, json_response, tell_update
from kypello.http.response import Response
from kypello.iam.values import UserInfo
from kypello.model import Kind

_STATUSES: Mapping[str, bool] = {"enabled": True, "disabled": False}


class _AddUser(Document):
    """
    A user to be made.  What policies it is to have is asked for in other ways only.
    """

    secret_key: str
    status: str = "enabled"


def read_status(text: str) -> bool:
    """
    Whether a user or a group is enabled.

    :raises Rejected: It is no status.
    """
    enabled = _STATUSES.get(text)
    if enabled is None:
        raise invalid_argument("The status is neither 'enabled' nor 'disabled'.")
    return enabled


def tell_status(enabled: bool) -> str:
    """
    The same, told.
    """
    return "enabled" if enabled else "disabled"


async def add_user(call: Call) -> Response:
    """
    Make a user, or replace the secret key of one.

    Users may do that to themselves.  What acts for a user may not: it would become the user.
    """
    name = call.named("accessKey")
    own = name == call.user
    if own and call.identity.kind in (Kind.SERVICE, Kind.SESSION):
        raise access_denied()
    if own:
        await call.require_own("admin:CreateUser")
    else:
        await call.require("admin:CreateUser")
    wanted = await call.open(_AddUser)
    enabled = read_status(wanted.status or "enabled")
    await call.accounts.set_user(name, wanted.secret_key, enabled or own)
    return DONE


async def set_user_status(call: Call) -> Response:
    """
    Enable or disable a user, but never oneself.
    """
    name, enabled = call.named("accessKey"), read_status(call.parameter("status"))
    await require_switch(call, "User", enabled)
    if name == call.user:
        raise access_denied()
    await call.accounts.set_user_enabled(name, enabled)
    return DONE


async def require_switch(call: Call, what: str, enabled: bool) -> None:
    """
    See that whoever asks may enable or disable a user or a group.

    Who may enable may also disable, as clients know it; not the other way round.

    :raises Rejected: ``AccessDenied``.
    """
    actions = (
        (f"admin:Enable{what}",) if enabled else (f"admin:Disable{what}", f"admin:Enable{what}")
    )
    await call.require(*actions)


async def remove_user(call: Call) -> Response:
    """
    Remove a user, and what acts for it.
    """
    name = call.named("accessKey")
    if name == call.user:
        raise invalid_argument("Nobody can remove themselves.")
    await call.accounts.remove_user(name)
    return DONE


async def list_users(call: Call) -> Response:
    """
    All users.
    """
    if call.parameter("bucket"):
        raise not_offered("Users are not listed by bucket.")
    users = await call.accounts.users()
    return await call.seal({user.name: _told(user) for user in users})


async def user_info(call: Call) -> Response:
    """
    One user.  Users may see themselves.
    """
    name = call.named("accessKey")
    if await call.is_oneself(name):
        await call.require_own("admin:GetUser")
    else:
        await call.require("admin:GetUser")
    return json_response(_told(await call.accounts.user(name)))


def _told(user: UserInfo) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if user.policies:
        told["policyName"] = ",".join(user.policies)
    told["status"] = tell_status(user.enabled)
    if user.groups:
        told["memberOf"] = user.groups
    told["updatedAt"] = tell_update(user.updated)
    return told
