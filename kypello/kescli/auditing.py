# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kes log verify``: whether somebody has tampered with audit logs.
"""

import json
import re
from argparse import Namespace
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from kypello.kes.chain import Examination, Finding, Link, read_line
from kypello.kes_trail import head_path, read_chain_key, read_head
from kypello.kescli.command import CommandError, printable

_HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})")
#: How many findings are told in words: a chain with another key has one for each line.
_TOLD = 50


def verify(options: Namespace) -> int:
    """
    Follow the chain through all files, oldest first whatever the order of the arguments.

    :return: 1 when it is broken.
    :raises CommandError: A file cannot be read.
    """
    key = read_chain_key(options.key_file)
    try:
        # What a server writes meanwhile is behind the heads.
        heads = _heads(options)
        examination = Examination(key, heads)
        for path in sorted(options.files, key=_first):
            for where, line, whole in _lines(path):
                examination.feed(where, line, whole)
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from error
    examination.end()
    return _tell(options, examination, heads)


def _tell(options: Namespace, examination: Examination, heads: dict[int, str]) -> int:
    findings = examination.findings
    broken = [one for one in findings if one.broken]
    reached = examination.place or Link(0, "")
    if options.json:
        for one in findings:
            told = {"where": one.where, "message": one.text, "broken": one.broken}
            print(json.dumps(told))
        head = {"seq": reached.seq, "digest": reached.digest}
        print(json.dumps({"summary": {"broken": len(broken), "head": head}}))
        return 1 if broken else 0
    for one in islice(findings, _TOLD):
        print(printable(_line(one)))
    if len(findings) > _TOLD:
        print(f"and {len(findings) - _TOLD} more")
    if broken:
        print(f"BROKEN: {len(broken)} places.")
        return 1
    print(f"The chain is unbroken up to record {reached.seq}.")
    print(f"Its head is {reached.seq}:{reached.digest}")
    if not heads:
        print("Nothing was noted elsewhere: whether lines are missing at the end is not known.")
    return 0


def _line(finding: Finding) -> str:
    return f"{'BROKEN' if finding.broken else 'note  '} {finding.where}: {finding.text}"


def _heads(options: Namespace) -> dict[int, str]:
    heads = []
    for text in options.head:
        found = _HEAD.fullmatch(text)
        if found is None:
            raise CommandError(f"{text!r} is no head: give NUMBER:DIGEST")
        heads.append(Link(int(found.group(1)), found.group(2)))
    for path in options.files:
        try:
            kept = read_head(head_path(path))
        except ValueError:
            raise CommandError(f"{head_path(path)} is damaged") from None
        if kept is not None:
            heads.append(kept)
    digests: dict[int, str] = {}
    for head in heads:
        if digests.setdefault(head.seq, head.digest) != head.digest:
            raise CommandError(f"two heads contradict each other about record {head.seq}")
    return digests


def _lines(path: Path) -> Iterator[tuple[str, bytes, bool]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield f"{path}:{number}", line.removesuffix(b"\n"), line.endswith(b"\n")


def _first(path: Path) -> int:
    """
    The number of the first record in a file.
    """
    for _where, line, _whole in _lines(path):
        read = read_line(line)
        if read is not None:
            return read.link.seq
    return 0
