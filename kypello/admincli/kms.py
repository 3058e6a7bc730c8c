# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kms usage``: what needs which master key.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import define, field

from kypello.admincli.target import CommandError
from kypello.admincli.work import Work
from kypello.adminclient import AdminClient

#: How long a count may take, in seconds: it goes through all versions.
_PATIENCE = 86400.0


async def usage(work: Work) -> int:
    """
    Count what needs each master key, or one of them.
    """
    screen = work.screen

    def follow(progress: Any) -> None:
        """
        Show how far it is.
        """
        if not screen.json:
            screen.note(
                f"{progress['versions']} versions so far; in bucket {progress['done'] + 1} of"
                f" {progress['buckets']}"
            )

    keys = await count(work.client, work.options.key or "", follow)
    if screen.json:
        screen.table(keys, "")
        return 0
    rows = [row for key in keys for row in _rows(key)]
    if rows:
        screen.table(rows, "")
    for key in keys:
        screen.note(sentence(key))
    return 0


async def count(
    client: AdminClient, key_name: str = "", follow: Callable[[Any], None] = lambda _: None
) -> Sequence[dict[str, Any]]:
    """
    Ask a server what needs its master keys.

    :param key_name: One of them; empty for all.
    :param follow: Called with the progress from time to time.
    :return: One for each key, as the administration API tells it.
    :raises KypelloError: The server does not answer, or refuses.
    :raises CommandError: The count is not complete.
    """
    lines = _Lines(follow)
    query = [("key-id", key_name)] if key_name else []
    await client.call("GET", "kypello/key-usage", query, b"", _PATIENCE, lines.take)
    if lines.end != len(lines.keys):
        raise CommandError("the count broke off; the log of the server says why")
    return lines.keys


@define(eq=False)
class _Lines:
    """
    What the server tells, line by line.

    :ivar end: How many keys there are; ``None`` until the count is complete.
    """

    _follow: Callable[[Any], None]
    keys: list[dict[str, Any]] = field(factory=list)
    end: int | None = None
    _rest: bytes = b""

    def take(self, part: bytes) -> None:
        """
        Take a part of the answer.
        """
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            try:
                ((name, value),) = json.loads(line).items()
            except (ValueError, AttributeError):
                # What is no line of a count ends none.
                continue
            if name == "progress":
                self._follow(value)
            elif name == "key":
                self.keys.append(value)
            else:
                self.end = value


def _rows(key: Any) -> list[dict[str, object]]:
    return [
        {
            "key": key["name"] or "(unreadable)",
            "bucket": bucket["name"],
            "objects": bucket["objects"],
            "versions": bucket["versions"],
            "uploads": bucket["uploads"],
            "parts": bucket["parts"],
            "metadata_key": bucket["metadataKey"],
            "default": bucket["default"],
        }
        for bucket in key["buckets"]
    ]


def sentence(key: Any) -> str:
    """
    What to think of a key.
    """
    told = [
        f"{key['objects']} objects, {key['versions']} versions, {key['uploads']} unfinished uploads"
        f" with {key['parts']} parts, the metadata keys of {key['metadataKeys']} buckets"
    ]
    if key["accounts"]:
        told.append("the accounts")
    if key["events"]:
        told.append(f"{key['events']} events that wait for their targets")
    words = [f"{key['name'] or '(unreadable)'}: {' and '.join(told)} need it."]
    if key["fingerprint"]:
        since = datetime.fromtimestamp(key["since"], UTC).strftime("%Y-%m-%d %H:%M UTC")
        words.append(f"In use since {since}, fingerprint {key['fingerprint']}.")
    if key["default"]:
        words.append("It is the default key of the server.")
    if key["defaults"]:
        words.append(f"{key['defaults']} buckets encrypt with it by default.")
    if not (key["needed"] or key["default"] or key["defaults"]):
        words.append("It can be deleted, unless another server needs it.")
    return " ".join(words)
