# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello bucket require`` and ``kypello bucket rules``.
"""

import json
from collections.abc import Sequence
from typing import Any

from kypello.admincli.target import CommandError
from kypello.admincli.work import Work
from kypello.crypto.required import KINDS, RequiredEncryption

_ROUTE = "kypello/required-encryption"

#: What becomes of an object whose client asks for nothing, where that is no kind of encryption.
_UNASKED = {"none": "in clear", "refused": "refused"}


async def require(work: Work) -> int:
    """
    Set which encryption a bucket requires, or that it requires none.
    """
    name, client, screen = work.options.name, work.client, work.screen
    query = [("bucket", name)]
    if work.options.none:
        if work.options.keys:
            raise CommandError("--key does not go with --none")
        told = client.read(await client.call("DELETE", _ROUTE, query))
        screen.done(f"{name} requires no encryption.", told)
        return 0
    body = json.dumps({"kinds": _kinds(work), "keys": work.options.keys}).encode()
    told = client.read(await client.call("PUT", _ROUTE, query, body))
    required = RequiredEncryption(tuple(told["required"]["kinds"]), tuple(told["required"]["keys"]))
    screen.done(f"{name} requires encryption by {required.demand}.", told)
    if told["unasked"] == "refused":
        screen.note("What asks for no encryption is refused: no default of the bucket meets it.")
    screen.note(
        "Objects that are there already are not changed: kypello encrypt verify tells which of them"
        " do not meet it."
    )
    return 0


async def show(work: Work) -> int:
    """
    Tell the rules of a bucket.
    """
    query = [("bucket", work.options.name)]
    answer = await work.client.call("GET", "kypello/encryption-rules", query)
    told = work.client.read(answer)
    default, required, unasked = (told[name] for name in ("default", "required", "unasked"))
    rows = [
        _row("default", *([], []) if default is None else _of_default(default)),
        _row("required", *([], []) if required is None else (required["kinds"], required["keys"])),
        _row("blocked", told["blocked"], []),
        _row("unasked", [_UNASKED.get(unasked, unasked)], []),
    ]
    work.screen.table(rows, "")
    return 0


def _kinds(work: Work) -> list[str]:
    stated: str | None = work.options.kinds
    if stated is None:
        return ["sse-kms"] if work.options.keys else list(KINDS.values())
    return [kind.strip() for kind in stated.split(",")]


def _of_default(default: dict[str, Any]) -> tuple[list[str], list[str]]:
    return [default["kind"]], [default["key"]] if default["key"] else []


def _row(rule: str, kinds: Sequence[str], keys: Sequence[str]) -> dict[str, object]:
    return {"rule": rule, "encryption": kinds, "keys": keys}
