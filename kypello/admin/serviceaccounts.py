# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Service accounts, which clients also call access keys, by the administration API.

Whoever may sign can make, see, change and remove their own, but for what is limited by a policy:
what it makes is limited in the same way, and it changes nothing of its own, so that it cannot
become wider.  For others it takes an action of administration, and those of the root user are its
own business alone.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from attrs import evolve

from kypello.admin.call import Call
from kypello.admin.errors import Rejected, access_denied, invalid_argument
from kypello.admin.policies import entry
from kypello.admin.wire import DONE_SILENTLY, Document, read_expiry, read_value, tell_expiry
from kypello.errors import NoSuchAccessKey
from kypello.http.response import Response
from kypello.iam.values import UNCHANGED, KeyInfo, NewKey
from kypello.model import Kind
from kypello.policy.document import Policy, parse_session_policy

#: The largest policy of a service account, in bytes without white space.
_MAX_POLICY = 2048

_STATUSES = {"on": True, "enabled": True, "off": False, "disabled": False}


class _Add(Document):
    """
    A service account to be made.
    """

    policy: msgspec.Raw = msgspec.Raw(b"null")
    target_user: str = ""
    access_key: str = ""
    secret_key: str = ""
    name: str = ""
    description: str = ""
    expiration: str | None = None


class _Update(Document):
    """
    What is to be changed of one; what is empty stays.
    """

    new_policy: msgspec.Raw = msgspec.Raw(b"null")
    new_secret_key: str = ""
    new_status: str = ""
    new_name: str = ""
    new_description: str = ""
    new_expiration: str | None = None


async def add(call: Call) -> Response:
    """
    Make a service account.
    """
    return await _add(call, lambda name: name)


async def add_to_entry(call: Call) -> Response:
    """
    Make a service account for oneself, who has logged in by a directory: only that tells the
    groups, so nobody else can.
    """
    if await call.provider() != "ldap":
        raise Rejected(
            403,
            "XMinioIAMActionNotAllowed",
            "Service accounts of entries of a directory are made by these themselves, with"
            " credentials that they got by logging in.",
        )
    return await _add(call, lambda name: entry(name).name)


async def _add(call: Call, spell: Callable[[str], str]) -> Response:
    wanted = await call.open(_Add)
    target = spell(wanted.target_user) if wanted.target_user else call.user
    if target == call.user:
        await call.require_own("admin:CreateServiceAccount")
    elif target == call.front.root:
        raise access_denied()
    else:
        await call.require("admin:CreateServiceAccount")
    if bool(wanted.access_key) != bool(wanted.secret_key):
        missing = "SecretKey" if wanted.access_key else "AccessKey"
        raise Rejected(
            400, f"XMinioAdminNo{missing}", "An access key and its secret key come together."
        )
    access_key, secret_key = wanted.access_key, wanted.secret_key
    if not access_key:
        access_key, secret_key = call.accounts.fresh_pair()
    key = NewKey(
        access_key,
        secret_key,
        target,
        policy=_read_policy(wanted.policy),
        name=wanted.name,
        description=wanted.description,
        expires=read_expiry(wanted.expiration),
    )
    if target == call.user:
        key = await _as_limited(call, key)
    await call.accounts.create_key(key)
    told = {
        "accessKey": key.access_key,
        "secretKey": key.secret_key,
        "expiration": tell_expiry(key.expires),
    }
    return await call.seal({"credentials": told})


async def update(call: Call) -> Response:
    """
    Change a service account.
    """
    key = await _service_account(call)
    await require_about(call, key, "admin:UpdateServiceAccount")
    if await call.owns(key) and await _limit(call) is not None:
        raise access_denied()
    wanted = await call.open(_Update)
    enabled = _STATUSES.get(wanted.new_status)
    if wanted.new_status and enabled is None:
        raise invalid_argument("The status is neither 'on' nor 'off'.")
    # What is not bytes yet equals none, and the limit of a key would go away with any change.
    states_policy = bytes(wanted.new_policy) not in (b"", b"null")
    await call.accounts.update_key(
        key.access_key,
        secret_key=wanted.new_secret_key or None,
        enabled=enabled,
        name=wanted.new_name or None,
        description=wanted.new_description or None,
        policy=_read_policy(wanted.new_policy) if states_policy else UNCHANGED,
        expires=read_expiry(wanted.new_expiration) if wanted.new_expiration else UNCHANGED,
    )
    return DONE_SILENTLY


async def delete(call: Call) -> Response:
    """
    Remove a service account.
    """
    key = await _service_account(call)
    await require_about(call, key, "admin:RemoveServiceAccount")
    await call.accounts.remove_key(key.access_key)
    return DONE_SILENTLY


async def list_of_user(call: Call) -> Response:
    """
    The service accounts of one user.
    """
    user = call.parameter("user") or call.user
    if user == call.user:
        await call.require_own("admin:ListServiceAccounts")
    else:
        await call.require("admin:ListServiceAccounts")
    keys = await call.accounts.keys(user, Kind.SERVICE)
    told = [tell_key(key) for key in keys if user != call.user or await call.owns(key)]
    return await call.seal({"accounts": told})


async def info(call: Call) -> Response:
    """
    One service account.
    """
    key = await _service_account(call)
    await require_seen(call, key)
    return await call.seal(await tell_whole_key(call, key))


async def require_about(call: Call, key: KeyInfo, action: str) -> None:
    """
    See that whoever asks may do something about a service account.

    :raises Rejected: ``AccessDenied``.
    """
    if await call.owns(key):
        await call.require_own(action)
    elif key.parent == call.front.root:
        raise access_denied()
    else:
        await call.require(action)


async def require_seen(call: Call, key: KeyInfo) -> None:
    """
    See that whoever asks may be told about a service account or a session.

    :raises Rejected: ``AccessDenied``.
    """
    action = "ListServiceAccounts" if key.kind is Kind.SERVICE else "ListTemporaryAccounts"
    if await call.owns(key):
        await call.require_own(f"admin:{action}")
    else:
        await call.require(f"admin:{action}")


def tell_key(key: KeyInfo) -> dict[str, Any]:
    """
    A service account or a session, as lists tell it.
    """
    told: dict[str, Any] = {
        "parentUser": key.parent,
        "accountStatus": "on" if key.enabled else "off",
        "impliedPolicy": key.policy is None,
        "accessKey": key.access_key,
    }
    if key.name:
        told["name"] = key.name
    if key.description:
        told["description"] = key.description
    told["expiration"] = tell_expiry(key.expires)
    return told


async def tell_whole_key(call: Call, key: KeyInfo) -> dict[str, Any]:
    """
    A service account or a session, with its policy.
    """
    told = tell_key(key)
    del told["accessKey"]
    if key.expires is None:
        del told["expiration"]
    told["policy"] = (await call.accounts.effective_policy(key.access_key)).decode()
    return told


async def _service_account(call: Call) -> KeyInfo:
    access_key = call.named("accessKey")
    key = await call.accounts.key(access_key)
    if key.kind is not Kind.SERVICE:
        raise NoSuchAccessKey(access_key)
    return key


async def _limit(call: Call) -> Policy | None:
    """
    What limits whoever asks, beside their user's own policies.
    """
    if call.identity.kind not in (Kind.SERVICE, Kind.SESSION):
        return None
    return (await call.accounts.key(call.identity.access_key)).policy


async def _as_limited(call: Call, key: NewKey) -> NewKey:
    """
    A service account as whoever acts for a user may make it: it gets what they have, and no more.
    """
    if call.identity.kind not in (Kind.SERVICE, Kind.SESSION):
        return key
    maker = await call.accounts.key(call.identity.access_key)
    if maker.policy is not None:
        # One policy cannot tell what two of them allow together.
        if key.policy is not None and key.policy != maker.policy:
            raise access_denied()
        key = evolve(key, policy=maker.policy)
    return evolve(
        key,
        policies=maker.policies,
        groups=maker.groups,
        claims=maker.claims,
        provider=maker.provider,
    )


def _read_policy(text: msgspec.Raw) -> Policy | None:
    """
    The policy that limits a service account; ``None`` for one that says nothing.
    """
    document = read_value(text)
    if document in (None, {}, ""):
        return None
    if len(msgspec.json.encode(document)) > _MAX_POLICY:
        raise Rejected(
            400,
            "XMinioIAMServiceAccountSessionPolicyTooLarge",
            f"Session policy should not exceed {_MAX_POLICY} characters",
        )
    return parse_session_policy(bytes(text))
