# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What ``kypello store`` prints.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from attrs import asdict, define, field

from kypello.store.findings import Figures, Problem
from kypello.store.rebuilt import Rebuilt


@define(eq=False)
class Report:
    """
    What is printed: problems as they are found, and a summary.

    :ivar sound: Whether all is, at the end.
    :ivar _json: Whether each line is a JSON object.
    :ivar _shown: Whether the progress stands in the last line of the terminal.
    """

    _out: TextIO
    _err: TextIO
    _json: bool = False
    sound: bool = field(init=False, default=False)
    _shown: bool = field(init=False, default=False)

    def tell(self, problem: Problem) -> None:
        """
        Print a problem.
        """
        self.clear()
        if self._json:
            told = asdict(problem, filter=lambda _, value: bool(value))
            self._print(json.dumps({"problem": told}))
        else:
            self._print(describe(problem))

    def follow(self, reactor: Any, figures: Figures, began: float) -> None:
        """
        Show on a terminal how far the check has come.

        :param began: When, in seconds of the reactor.
        """
        size = figures.read or figures.bytes
        rate = size / max(reactor.seconds() - began, 0.001)
        self._show(f"{figures.objects:,} objects, {amount(size)}, {amount(rate)}/s")

    def follow_rebuild(self, figures: Rebuilt) -> None:
        """
        Show on a terminal how far the rebuild has come.
        """
        self._show(f"{figures.records:,} records, {figures.blobs:,} blobs")

    def _show(self, text: str) -> None:
        if self._json or not self._err.isatty():
            return
        print(f"\r{text}\x1b[K", end="", file=self._err, flush=True)
        self._shown = True

    def clear(self) -> None:
        """
        Remove the progress from the terminal.
        """
        if self._shown:
            print("\r\x1b[K", end="", file=self._err, flush=True)
            self._shown = False

    def conclude(self, figures: Figures, deep: bool) -> None:
        """
        Print the summary.
        """
        self.clear()
        self.sound = figures.sound
        if self._json:
            self._print(json.dumps({"summary": {**asdict(figures), "sound": figures.sound}}))
            return
        for name, number, text in _summary(figures, deep):
            self._print(f"{name:<14}{number:,}{text}")
        self._print("All is sound." if figures.sound else "Something is wrong: see above.")
        if figures.broken:
            self._print("The index is damaged: kypello store rebuild makes it anew.")
        elif figures.orphans:
            self._print("kypello store rebuild brings back, or sets aside, what nothing names.")

    def conclude_rebuild(self, figures: Rebuilt, kept: Path | None, dry_run: bool) -> None:
        """
        Print the summary of a rebuild.

        :param kept: Where what was set aside is; ``None`` for nothing.
        """
        self.clear()
        self.sound = figures.complete
        if self._json:
            told = {"set_aside": "" if kept is None else str(kept), "dry_run": dry_run}
            summary = {**asdict(figures), "complete": figures.complete, **told}
            self._print(json.dumps({"summary": summary}))
            return
        for name, number, text in _rebuilt(figures):
            self._print(f"{name:<14}{number:,}{text}")
        if dry_run:
            self._print("Nothing was changed.")
        elif kept is not None:
            self._print(f"What was there before is kept in {kept}.")
        self._print("Nothing is lost." if figures.complete else "Something is lost: see above.")

    def _print(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        known = text.encode(encoding, "backslashreplace").decode(encoding)
        print(known, file=self._out, flush=True)


def describe(problem: Problem) -> str:
    """
    A problem in one line.
    """
    where = [problem.bucket + (f"/{problem.key}" if problem.key else "")]
    for name in ("version", "upload", "part"):
        value = getattr(problem, name)
        where += [f"{name} {value}"] if value else []
    place = ", ".join(filter(None, where))
    text = f"{place}: {problem.what}" if place else problem.what
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


def amount(size: float) -> str:
    """
    Bytes for people.
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def _rebuilt(figures: Rebuilt) -> Iterator[tuple[str, int, str]]:
    damaged = f", {figures.damaged:,} of them damaged" if figures.damaged else ""
    yield "Databases", figures.databases, damaged
    yield "Records", figures.records, " were read from them"
    yield "Buckets", figures.buckets, ""
    yield "Objects", figures.objects, ""
    yield "Parts", figures.parts, ""
    yield "Uploads", figures.uploads, ""
    yield "Described", figures.described, " objects and parts, which only their blobs told of"
    yield "Unused", figures.unused, " blobs"
    yield "Problems", figures.problems, ""


def _summary(figures: Figures, deep: bool) -> Iterator[tuple[str, int, str]]:
    for name in ("buckets", "objects", "parts", "uploads", "blobs"):
        yield name.capitalize(), getattr(figures, name), ""
    contents = "" if deep else "; contents were not read, for want of --deep"
    yield "Bytes", figures.bytes, f" ({amount(figures.bytes)}){contents}"
    if deep:
        yield "Decrypted", figures.decrypted, " objects"
        yield "Not decrypted", figures.client_keys, " objects, as clients have the keys"
        if figures.not_decrypted:
            yield "", figures.not_decrypted, " objects, for want of keys"
    yield "Leftovers", figures.leftovers, ", which the next start of the server removes"
    if figures.undecided:
        why = " blobs may belong to records that cannot be read"
        yield "Undecided", figures.undecided, why
    yield "Orphans", figures.orphans, ""
    yield "Problems", figures.problems, ""
