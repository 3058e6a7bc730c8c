# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello bucket``.
"""

from datetime import UTC, datetime
from typing import Any

from kypello.admincli.target import CommandError
from kypello.admincli.work import Work

#: What becomes of a version, by what the server calls it.
_WORDS = {"expire": "expires", "remove": "is removed"}


async def show_expiring(work: Work) -> int:
    """
    Tell what the lifecycle of a bucket removes, without removing it.
    """
    query = [("bucket", work.options.name)]
    if work.options.at:
        query.append(("at", str(_seconds(work.options.at))))
    after: str | None = ""
    found = False
    while after is not None:
        answer = await work.client.call("GET", "expiring", [*query, ("after", after)])
        told = work.client.read(answer)
        rows = [_version(one) for one in told["versions"]]
        rows += [_upload(one) for one in told["uploads"]]
        if rows:
            # A bucket may have millions: they are shown as they come.
            found = True
            work.screen.table(rows, "")
        after = told["next"]
    if not found:
        work.screen.table([], "Nothing is over.")
    return 0


def _version(told: dict[str, Any]) -> dict[str, object]:
    what = "delete marker" if told["marker"] else "version"
    return _row(told, what, _WORDS.get(told["action"], told["action"]), told["versionId"])


def _upload(told: dict[str, Any]) -> dict[str, object]:
    return _row(told, "upload", "is aborted", told["uploadId"])


def _row(told: dict[str, Any], what: str, becomes: str, id_: str) -> dict[str, object]:
    return {
        "since": told["since"],
        "rule": told["rule"],
        "what": what,
        "becomes": becomes,
        "size": told.get("size"),
        "id": id_,
        "key": told["key"],
    }


def _seconds(text: str) -> float:
    """
    A time, in seconds since the epoch; without a zone it is UTC.

    :raises CommandError: It is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is no time such as 2027-01-31T00:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
