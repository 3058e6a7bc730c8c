# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Policies and who has them, by the administration API.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from kypello.admin.call import Call
from kypello.admin.errors import Rejected, invalid_argument, not_offered
from kypello.admin.wire import DONE, Document, json_response, tell_time, tell_update
from kypello.http.response import Response
from kypello.iam.ldapnames import normal_name
from kypello.iam.values import Holder, HolderKind
from kypello.policy.document import parse_policy

#: The largest policy, in bytes.
MAX_POLICY = 20 * 1024


class _Attachment(Document):
    """
    Policies that a user or a group is to get, or to lose.
    """

    policies: list[str]
    user: str = ""
    group: str = ""


async def add_policy(call: Call) -> Response:
    """
    Make a policy, or replace one.
    """
    name = call.named("name")
    if len(call.content) > MAX_POLICY:
        raise Rejected(400, "EntityTooLarge", "The policy has more than 20 KiB.")
    if not call.content:
        raise invalid_argument()
    policy = parse_policy(call.content)
    if not policy.statements:
        raise invalid_argument("The policy has no statements.")
    await call.accounts.put_policy(name, policy)
    return DONE


async def list_policies(call: Call) -> Response:
    """
    All policies, with those that come with the server.
    """
    if call.parameter("bucket"):
        raise not_offered("Policies are not listed by bucket.")
    policies = await call.accounts.policies()
    return json_response({info.name: msgspec.Raw(info.policy.text) for info in policies})


async def policy_info(call: Call) -> Response:
    """
    One policy.
    """
    info = await call.accounts.policy(call.named("name"))
    document = msgspec.Raw(info.policy.text)
    if call.parameter("v") != "2":
        return json_response(document)
    told: dict[str, Any] = {"PolicyName": info.name, "Policy": document}
    if info.created is not None:
        told["CreateDate"] = tell_update(info.created)
    if info.updated is not None:
        told["UpdateDate"] = tell_update(info.updated)
    return json_response(told)


async def remove_policy(call: Call) -> Response:
    """
    Remove a policy that nobody has.
    """
    await call.accounts.remove_policy(call.named("name"))
    return DONE


async def set_policies(call: Call) -> Response:
    """
    Give a user or a group these policies, in place of all that it has.
    """
    names = [name for name in call.parameter("policyName").split(",") if name]
    kind = HolderKind.GROUP if call.parameter("isGroup") == "true" else HolderKind.USER
    await call.accounts.set_policies(names, Holder(kind, call.named("userOrGroup")))
    return DONE


async def attach(call: Call) -> Response:
    """
    Give a user or a group some more policies.
    """
    return await _change(call, call.accounts.attach, _held_here, "policiesAttached")


async def detach(call: Call) -> Response:
    """
    Take some policies from a user or a group.
    """
    return await _change(call, call.accounts.detach, _held_here, "policiesDetached")


async def attach_to_entry(call: Call) -> Response:
    """
    Give an entry of a directory, which is a user or a group, some more policies.
    """
    return await _change(call, call.accounts.attach, _held_there, "policiesAttached")


async def detach_from_entry(call: Call) -> Response:
    """
    Take some policies from an entry of a directory.
    """
    return await _change(call, call.accounts.detach, _held_there, "policiesDetached")


def entry(name: str) -> Holder:
    """
    An entry of a directory, by any spelling of its name.
    """
    try:
        return Holder(HolderKind.SUBJECT, normal_name(name))
    except ValueError as error:
        raise invalid_argument(f"{error}.") from error


def _held_here(wanted: _Attachment) -> Holder:
    if wanted.user:
        return Holder(HolderKind.USER, wanted.user)
    return Holder(HolderKind.GROUP, wanted.group)


def _held_there(wanted: _Attachment) -> Holder:
    return entry(wanted.user or wanted.group)


async def _change(
    call: Call,
    change: Callable[[Sequence[str], Holder], Awaitable[Sequence[str]]],
    holder: Callable[[_Attachment], Holder],
    told: str,
) -> Response:
    wanted = await call.open(_Attachment)
    if not wanted.policies or bool(wanted.user) == bool(wanted.group):
        raise invalid_argument()
    changed = await change(wanted.policies, holder(wanted))
    now = tell_time(call.front.clock.seconds())
    return await call.seal({told: list(changed), "updatedAt": now})
