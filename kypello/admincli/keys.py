# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello key``: service accounts, which act for a user and can be given away.
"""

import json
from typing import Any

from kypello.admincli.work import Work

_NEVER = "1970-01-01T00:00:00Z"
_NEVER_SET = "0001-01-01T00:00:00Z"
_STATUSES = {"on": "enabled", "off": "disabled"}


async def create(work: Work) -> int:
    """
    Make a key.
    """
    options, inputs = work.options, work.inputs
    wanted = {
        "targetUser": options.user,
        "accessKey": options.access_key,
        "secretKey": inputs.secret,
        "policy": inputs.policy,
        "name": options.label,
        "description": options.description,
        "expiration": options.expires,
    }
    body = await work.client.seal({name: value for name, value in wanted.items() if value})
    answer = await work.client.call("PUT", "add-service-account", (), body)
    made = (await work.client.unseal(answer))["credentials"]
    work.screen.facts(
        {
            "access_key": made["accessKey"],
            "secret_key": made["secretKey"],
            "expires": _moment(made.get("expiration")),
        }
    )
    return 0


async def show_all(work: Work) -> int:
    """
    List keys: those of some users, of all, or one's own.
    """
    options, client = work.options, work.client
    rows: list[dict[str, object]] = []
    if options.all:
        query = [("listType", "svcacc-only"), ("all", "true")]
        found = await client.unseal(await client.call("GET", "list-access-keys-bulk", query))
        for parent, told in sorted(found.items()):
            rows += [_row(parent, one) for one in told.get("serviceAccounts") or ()]
    else:
        for user in options.users or [None]:
            asked = [] if user is None else [("user", user)]
            answer = await client.call("GET", "list-service-accounts", asked)
            accounts = (await client.unseal(answer)).get("accounts") or ()
            rows += [_row(user or one.get("parentUser"), one) for one in accounts]
    work.screen.table(rows, "There are no keys.")
    return 0


async def show(work: Work) -> int:
    """
    Tell what is known of a key.
    """
    query = [("accessKey", work.options.key)]
    told = await work.client.unseal(await work.client.call("GET", "info-service-account", query))
    row = _row(told.get("parentUser"), {**told, "accessKey": work.options.key})
    policy = told.get("policy") or "null"
    work.screen.facts({**row, "inherits": bool(told.get("impliedPolicy"))})
    if not work.screen.json:
        work.screen.document(json.loads(policy))
    return 0


async def edit(work: Work) -> int:
    """
    Change something of a key.
    """
    options, inputs = work.options, work.inputs
    changes = {
        "newSecretKey": inputs.secret,
        "newPolicy": inputs.policy,
        "newName": options.label,
        "newDescription": options.description,
        "newExpiration": options.expires,
    }
    return await _update(work, {name: value for name, value in changes.items() if value}, "changed")


async def set_status(work: Work) -> int:
    """
    Enable or disable a key.
    """
    status = work.options.status
    return await _update(work, {"newStatus": status}, _STATUSES[status])


async def remove(work: Work) -> int:
    """
    Remove a key.
    """
    key = work.options.key
    await work.client.call("DELETE", "delete-service-account", [("accessKey", key)])
    work.screen.done(f"Key {key} is gone.", {"access_key": key})
    return 0


async def _update(work: Work, changes: dict[str, object], what: str) -> int:
    key, body = work.options.key, await work.client.seal(changes)
    await work.client.call("POST", "update-service-account", [("accessKey", key)], body)
    work.screen.done(f"Key {key} is {what}.", {"access_key": key, "status": what})
    return 0


def _row(parent: str | None, told: Any) -> dict[str, object]:
    return {
        "access_key": told.get("accessKey"),
        "user": parent,
        "status": _STATUSES.get(told.get("accountStatus")),
        "expires": _moment(told.get("expiration")),
        "name": told.get("name") or "",
        "description": told.get("description") or "",
    }


def _moment(told: str | None) -> str:
    return "never" if told in (None, "", _NEVER, _NEVER_SET) else str(told)
