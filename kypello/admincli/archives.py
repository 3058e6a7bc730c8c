# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello iam``: all accounts in one file.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kypello.admincli.target import CommandError
from kypello.admincli.work import Work

#: How long all accounts may take, in seconds: each of them is a commit.
_PATIENCE = 3600.0

#: What becomes of a thing, for people, in the order in which it is told.
_OUTCOMES = {
    "added": "added",
    "changed": "changed",
    "unchanged": "the same already",
    "left-out": "left out",
    "failed": "FAILED",
}


async def export(work: Work) -> int:
    """
    Write all accounts, with their secrets, to a file that nobody else can read.
    """
    _warn(work)
    content = await work.client.call("GET", "export-iam", patience=_PATIENCE)
    path: Path = work.options.file
    if str(path) == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return 0
    if work.options.force:
        path.unlink(missing_ok=True)  # noqa: ASYNC240  # nothing else waits
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise CommandError(f"{path} exists already: give --force to overwrite it") from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    with open(descriptor, "wb") as file:  # noqa: ASYNC230
        file.write(content)
    told = {"file": str(path), "bytes": len(content)}
    work.screen.done(f"{path} holds all accounts and their secret keys: keep it safe.", told)
    return 0


async def import_(work: Work) -> int:
    """
    Read accounts from a file into the server, or tell what that would do.

    :return: 1 when something failed or was left out.
    """
    _warn(work)
    query = [("dry-run", "true")] if work.options.dry_run else []
    if work.options.old_root:
        query.append(("old-root", work.options.old_root))
    answer = await work.client.call("PUT", "import-iam-v2", query, work.inputs.archive, _PATIENCE)
    details = work.client.read(answer).get("details")
    if details is None:
        raise CommandError("this server does not tell what it imported; it is no Kypello")
    if work.screen.json:
        work.screen.done("", {"dry_run": work.options.dry_run, "details": details})
    else:
        _tell(work, details)
    return 1 if any(one["outcome"] in ("failed", "left-out") for one in details) else 0


def _warn(work: Work) -> None:
    if work.client.access.in_clear:
        work.screen.note(
            f"Warning: without TLS, others on the way to {work.client.access.endpoint} can read all"
            " secret keys."
        )


def _tell(work: Work, details: Sequence[Any]) -> None:
    told = [one for outcome in _OUTCOMES for one in details if one["outcome"] == outcome]
    rows: list[dict[str, object]] = [
        {
            "what": one["kind"],
            "name": one["name"],
            "outcome": _OUTCOMES[one["outcome"]],
            "why": one.get("reason"),
        }
        for one in told
        if one["outcome"] != "unchanged"
    ]
    if rows:
        work.screen.table(rows, "")
    same = sum(one["outcome"] == "unchanged" for one in told)
    if same:
        work.screen.note(f"The same already: {same}.")
    if work.options.dry_run:
        work.screen.note("Nothing was changed: this was a dry run.")
