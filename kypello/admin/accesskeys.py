# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Everything that acts for users, service accounts and sessions alike, by the administration API.
"""

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from kypello.admin.call import Call
from kypello.admin.errors import Rejected, access_denied, invalid_argument
from kypello.admin.policies import entry
from kypello.admin.serviceaccounts import require_seen, tell_key, tell_whole_key
from kypello.admin.wire import DONE_SILENTLY
from kypello.errors import NoSuchAccessKey
from kypello.http.response import Response
from kypello.iam.values import BUILTIN, KeyInfo
from kypello.model import Kind

_TYPES = {Kind.SERVICE: "Service Account", Kind.SESSION: "STS"}


@frozen
class _Wanted:
    """
    What a listing asks for.

    :ivar actions: All of which it takes.
    """

    services: bool
    sessions: bool
    actions: tuple[str, ...]


_SERVICES, _SESSIONS = "admin:ListServiceAccounts", "admin:ListTemporaryAccounts"
_LISTS = {
    "all": _Wanted(True, True, (_SERVICES, _SESSIONS)),
    "svcacc-only": _Wanted(True, False, (_SERVICES,)),
    "sts-only": _Wanted(False, True, (_SESSIONS,)),
    "users-only": _Wanted(False, False, ("admin:ListUsers",)),
}


async def list_in_bulk(call: Call) -> Response:
    """
    What acts for some users, or for all of them.
    """
    wanted = _wanted(call)
    everybody, users = call.parameter("all") == "true", call.parameters("users")
    if everybody and users:
        raise invalid_argument("Either all users are asked for, or some.")
    if not everybody and set(users) <= {call.user}:
        users = [call.user]
        for action in wanted.actions:
            await call.require_own(action)
    else:
        for action in wanted.actions:
            await call.require(action)
        if everybody:
            users = [call.front.root, *(user.name for user in await call.accounts.users())]
    found = {user: await _of_user(call, user, wanted) for user in users}
    return await call.seal(found)


async def _of_user(call: Call, user: str, wanted: _Wanted) -> dict[str, Any]:
    if user not in (call.front.root, call.user):
        await call.accounts.user(user)
    keys: Sequence[KeyInfo] = ()
    if wanted.services or wanted.sessions:
        keys = await call.accounts.keys(user)
        if user == call.user:
            keys = [key for key in keys if await call.owns(key)]
        else:
            keys = [key for key in keys if key.provider == BUILTIN]
    return _told_of(keys, wanted)


def _wanted(call: Call) -> _Wanted:
    wanted = _LISTS.get(call.parameter("listType"))
    if wanted is None:
        raise Rejected(
            400, "InvalidRequest", "listType is none of all, svcacc-only, sts-only, users-only."
        )
    return wanted


def _told_of(keys: Sequence[KeyInfo], wanted: _Wanted) -> dict[str, Any]:
    return {
        "serviceAccounts": _told(keys, Kind.SERVICE) if wanted.services else None,
        "stsKeys": _told(keys, Kind.SESSION) if wanted.sessions else None,
    }


def _told(keys: Sequence[KeyInfo], kind: Kind) -> list[dict[str, Any]]:
    return [tell_key(key) for key in keys if key.kind is kind]


async def info(call: Call) -> Response:
    """
    One service account or session, and who stands behind it.
    """
    key = await call.accounts.key(call.named("accessKey"))
    await require_seen(call, key)
    told = await tell_whole_key(call, key)
    told["AccessKey"] = key.access_key
    told["userType"] = _TYPES[key.kind]
    told["userProvider"] = key.provider
    told["ldapSpecificInfo"] = {"username": _claim(key, "ldap:username")}
    told["openIDSpecificInfo"] = {
        "configName": "",
        "userID": _claim(key, "jwt:sub"),
        "userIDClaim": "sub" if "jwt:sub" in key.claims else "",
    }
    return await call.seal(told)


async def session_info(call: Call) -> Response:
    """
    One session.
    """
    access_key = call.named("accessKey")
    key = await call.accounts.key(access_key)
    if key.kind is not Kind.SESSION:
        raise NoSuchAccessKey(access_key)
    await require_seen(call, key)
    return await call.seal(await tell_whole_key(call, key))


async def revoke(call: Call) -> Response:
    """
    End sessions of a user.
    """
    user, provider = call.parameter("user") or call.user, call.tail
    if provider not in (BUILTIN, "ldap", "openid", "tls"):
        raise invalid_argument("There is no such provider of identities.")
    if provider == "ldap":
        user = entry(user).name
    if user == call.user and provider == await call.provider():
        await call.require_own("admin:RemoveServiceAccount")
    elif user == call.front.root:
        raise access_denied()
    else:
        await call.require("admin:RemoveServiceAccount")
    everything, kind = call.parameter("fullRevoke") == "true", call.parameter("tokenRevokeType")
    if everything == bool(kind):
        raise invalid_argument("Either all sessions are revoked, or those of a type.")
    await call.accounts.revoke(user, provider, None if everything else kind)
    return DONE_SILENTLY


async def list_of_subjects(call: Call) -> Response:
    """
    What acts for those whom an OpenID provider knows, by subject.
    """
    wanted = _wanted(call)
    for action in wanted.actions:
        await call.require(action)
    told = [
        {
            "minioAccessKey": subject,
            "ID": _claim(keys[0], "jwt:sub"),
            "readableName": _claim(keys[0], "jwt:preferred_username"),
            **_told_of(keys, wanted),
        }
        for subject, keys in (await _by_parent(call, "openid")).items()
    ]
    return await call.seal([{"configName": "_", "users": told}] if told else [])


async def list_of_entries(call: Call) -> Response:
    """
    What acts for some entries of a directory, or for all of them.
    """
    wanted = _wanted(call)
    everybody = call.parameter("all") == "true"
    names = [entry(name).name for name in call.parameters("userDNs")]
    if everybody and names:
        raise invalid_argument("Either all entries are asked for, or some.")
    here = await call.provider() == "ldap"
    if here and not everybody and set(names) <= {call.user}:
        names = [call.user]
        for action in wanted.actions:
            await call.require_own(action)
    else:
        for action in wanted.actions:
            await call.require(action)
    found = await _by_parent(call, "ldap")
    told = {name: _told_of(found.get(name, ()), wanted) for name in names or found}
    return await call.seal(told)


async def _by_parent(call: Call, provider: str) -> dict[str, list[KeyInfo]]:
    """
    What acts for those whom a provider of identities knows, by their names.
    """
    found: dict[str, list[KeyInfo]] = {}
    for key in await call.accounts.keys():
        if key.provider == provider:
            found.setdefault(key.parent, []).append(key)
    return {parent: found[parent] for parent in sorted(found)}


def _claim(key: KeyInfo, name: str) -> str:
    return next(iter(key.claims.get(name, ())), "")
