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
    wanted = _LISTS.get(call.parameter("listType"))
    if wanted is None:
        raise Rejected(
            400, "InvalidRequest", "listType is none of all, svcacc-only, sts-only, users-only."
        )
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
    user = call.parameter("user") or call.user
    if user == call.user:
        await call.require_own("admin:RemoveServiceAccount")
    elif user == call.front.root:
        raise access_denied()
    else:
        await call.require("admin:RemoveServiceAccount")
    everything, kind = call.parameter("fullRevoke") == "true", call.parameter("tokenRevokeType")
    if everything == bool(kind):
        raise invalid_argument("Either all sessions are revoked, or those of a type.")
    if call.tail not in (BUILTIN, "ldap", "openid", "tls"):
        raise invalid_argument("There is no such provider of identities.")
    await call.accounts.revoke(user, call.tail, None if everything else kind)
    return DONE_SILENTLY


async def list_of_subjects(call: Call) -> Response:
    """
    What acts for those whom an OpenID provider knows, by subject.
    """
    wanted = _LISTS.get(call.parameter("listType") or "all")
    if wanted is None:
        raise invalid_argument("listType is none of all, svcacc-only, sts-only, users-only.")
    for action in wanted.actions:
        await call.require(action)
    subjects: dict[str, list[KeyInfo]] = {}
    for key in await call.accounts.keys():
        if key.provider == "openid":
            subjects.setdefault(key.parent, []).append(key)
    told = [
        {
            "minioAccessKey": subject,
            "ID": _claim(keys[0], "jwt:sub"),
            "readableName": _claim(keys[0], "jwt:preferred_username"),
            "serviceAccounts": _told(keys, Kind.SERVICE) if wanted.services else None,
            "stsKeys": _told(keys, Kind.SESSION) if wanted.sessions else None,
        }
        for subject, keys in sorted(subjects.items())
    ]
    return await call.seal([{"configName": "_", "users": told}] if told else [])


def _claim(key: KeyInfo, name: str) -> str:
    return next(iter(key.claims.get(name, ())), "")
