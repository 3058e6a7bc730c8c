# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the commands for accounts print: plain text for people, JSON for scripts.
"""

import json
from collections.abc import Mapping, Sequence
from shutil import get_terminal_size
from typing import TextIO

from attrs import define

#: What JSON can hold.
Told = Mapping[str, object]


@define(eq=False)
class Screen:
    """
    Where a command prints.

    :ivar json: Whether each line is a JSON object.
    """

    _out: TextIO
    _err: TextIO
    json: bool = False

    def table(self, rows: Sequence[Told], nothing: str) -> None:
        """
        Print things of one kind: a line for each, and a line of headings for people.

        :param rows: With the same names in the same order, which are the headings.
        :param nothing: What to say when there are none.
        """
        if self.json:
            for row in rows:
                self._print(json.dumps(row))
            return
        if not rows:
            self.note(nothing)
            return
        lines = [[name.upper().replace("_", " ") for name in rows[0]]]
        lines += [[text(value) for value in row.values()] for row in rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = zip(line, widths, strict=True)
            self._print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())

    def facts(self, told: Told) -> None:
        """
        Print what is known of one thing.
        """
        if self.json:
            self._print(json.dumps(told))
            return
        named = {name.capitalize().replace("_", " "): value for name, value in told.items()}
        width = max(map(len, named)) + 2
        for name, value in named.items():
            self._print(f"{name + ':':<{width}}{text(value)}".rstrip())

    def done(self, sentence: str, told: Told) -> None:
        """
        Say that something was done.

        :param told: The same for scripts.
        """
        self._print(json.dumps(told) if self.json else sentence)

    def document(self, value: object) -> None:
        """
        Print a policy.
        """
        self._print(json.dumps(value, indent=None if self.json else 2))

    @property
    def is_terminal(self) -> bool:
        """
        Whether a line can be shown that the next one replaces.
        """
        return self._err.isatty()

    def status(self, line: str) -> None:
        """
        Show a line on a terminal, in place of the one before.

        :param line: Empty to remove that.
        """
        if self.is_terminal:
            width = get_terminal_size().columns - 1
            shown = text(line)[:width] if line else ""
            print(f"\r\x1b[K{shown}", end="", file=self._err, flush=True)

    def note(self, sentence: str) -> None:
        """
        Say something that is no result.
        """
        print(sentence, file=self._err, flush=True)

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


def text(value: object) -> str:
    """
    A value as people read it: a blank dash for nothing, names after each other.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    printed = "-" if value is None or value == "" else str(value)
    # Names come from the server: none may move the cursor of a terminal.
    return "".join(one if one.isprintable() else "?" for one in printed)
