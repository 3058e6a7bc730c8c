# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello policy``.
"""

import json
from collections.abc import Iterable
from typing import Any

from kypello.admincli.work import Work
from kypello.adminclient import AdminClient, CallRefused

_UNCHANGED = "XMinioAdminPolicyChangeAlreadyApplied"
_VERSION = "2012-10-17"


async def create(work: Work) -> int:
    """
    Make a policy, or replace one.
    """
    name = work.options.name
    body = json.dumps(work.inputs.policy).encode()
    await work.client.call("PUT", "add-canned-policy", [("name", name)], body)
    work.screen.done(f"Policy {name} is kept.", {"policy": name})
    return 0


async def remove(work: Work) -> int:
    """
    Remove a policy that nobody has.
    """
    name = work.options.name
    await work.client.call("DELETE", "remove-canned-policy", [("name", name)])
    work.screen.done(f"Policy {name} is gone.", {"policy": name})
    return 0


async def show_all(work: Work) -> int:
    """
    List the policies.
    """
    found = work.client.read(await work.client.call("GET", "list-canned-policies"))
    work.screen.table([{"policy": name} for name in sorted(found)], "There are no policies.")
    return 0


async def show(work: Work) -> int:
    """
    Print a policy.
    """
    work.screen.document(await _policy(work.client, work.options.name))
    return 0


async def attach(work: Work) -> int:
    """
    Give policies to a user or a group.
    """
    return await _change(work, "attach", "policiesAttached", "got")


async def detach(work: Work) -> int:
    """
    Take policies from a user or a group.
    """
    return await _change(work, "detach", "policiesDetached", "lost")


async def show_entities(work: Work) -> int:
    """
    Tell who has which policies.
    """
    options = work.options
    query = [
        *(("user", name) for name in options.user),
        *(("group", name) for name in options.group),
        *(("policy", name) for name in options.policy),
    ]
    answer = await work.client.call("GET", "idp/builtin/policy-entities", query)
    work.screen.table(_entities(await work.client.unseal(answer)), "Nobody has any.")
    return 0


async def merged(client: AdminClient, names: Iterable[str]) -> Any:
    """
    One document with the statements of several policies.  One that is gone gives none.
    """
    statements: list[Any] = []
    for name in names:
        try:
            found = await _policy(client, name)
        except CallRefused as error:
            if error.status == 404:
                continue
            raise
        statements += found.get("Statement") or []
    return {"Version": _VERSION, "Statement": statements}


async def _policy(client: AdminClient, name: str) -> Any:
    query = [("name", name), ("v", "2")]
    told = client.read(await client.call("GET", "info-canned-policy", query))
    return told["Policy"]


async def _change(work: Work, verb: str, changed: str, did: str) -> int:
    options = work.options
    kind = "user" if options.user is not None else "group"
    holder = options.user if options.user is not None else options.group
    body = await work.client.seal({"policies": options.policies, kind: holder})
    try:
        answer = await work.client.call("POST", f"idp/builtin/policy/{verb}", (), body)
    except CallRefused as error:
        if error.code != _UNCHANGED:
            raise
        work.screen.done(f"Nothing to do for {kind} {holder}.", {kind: holder, "policies": []})
        return 0
    names = (await work.client.unseal(answer)).get(changed) or []
    text = f"{kind.capitalize()} {holder} {did}: {', '.join(names)}."
    work.screen.done(text, {kind: holder, "policies": names})
    return 0


def _entities(told: Any) -> list[dict[str, object]]:
    """
    Rows of who has what: the server tells it from both sides.
    """
    rows: list[dict[str, object]] = []
    for one in told.get("userMappings") or ():
        rows.append(_row("user", one["user"], one.get("policies")))
        for group in one.get("memberOfMappings") or ():
            rows.append(_row("group", group["group"], group.get("policies")))
    for one in told.get("groupMappings") or ():
        rows.append(_row("group", one["group"], one.get("policies")))
    for one in told.get("policyMappings") or ():
        for kind in ("user", "group"):
            for name in one.get(f"{kind}s") or ():
                rows.append(_row(kind, name, [one["policy"]]))
    return [row for number, row in enumerate(rows) if row not in rows[:number]]


def _row(kind: str, name: str, policies: Any) -> dict[str, object]:
    return {"kind": kind, "name": name, "policies": list(policies or ())}
