# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes.chain``.
"""

import json
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis.strategies import DataObject, binary, data, integers, lists, sampled_from, text

from kypello.kes.chain import START, Examination, Finding, extend, read_line
from tests.cases import SyncCase

_KEYS = (b"", b"a key of the chain")
_PATHS = lists(text(max_size=20), min_size=2, max_size=8)


def chain(paths: Iterable[str], key: bytes = b"") -> list[bytes]:
    """
    The lines of some records.
    """
    lines, link = [], START
    for path in paths:
        record = json.dumps({"request": {"path": path}}, separators=(",", ":"))
        line, link = extend(record, link, key)
        lines.append(line)
    return lines


def findings(
    lines: Sequence[bytes], key: bytes = b"", heads: dict[int, str] | None = None, cut: bool = False
) -> list[Finding]:
    """
    What is found in some lines.

    :param cut: The last of them has no end.
    """
    examination = Examination(key, heads or {})
    for number, line in enumerate(lines, 1):
        examination.feed(f"line {number}", line, not (cut and number == len(lines)))
    examination.end()
    return examination.findings


def broken(*arguments: object, **more: object) -> list[str]:
    """
    Where the chain is broken.
    """
    found: list[Finding] = findings(*arguments, **more)  # type: ignore[arg-type]
    return [one.where for one in found if one.broken]


class ChainTests(SyncCase):
    """
    A chain shows what becomes of its lines.
    """

    @given(_PATHS, sampled_from(_KEYS))
    def test_unbroken(self, paths: list[str], key: bytes) -> None:
        """
        What was written is found to be right, and each line is JSON with what it was made of.
        """
        lines = chain(paths, key)
        self.assertEqual(findings(lines, key), [])
        self.assertEqual([json.loads(line)["request"]["path"] for line in lines], paths)

    @given(_PATHS, sampled_from(_KEYS), data())
    def test_any_change(self, paths: list[str], key: bytes, more: DataObject) -> None:
        """
        Any change of any byte of any line is found, and so is a byte more or less.
        """
        lines = chain(paths, key)
        number = more.draw(integers(0, len(lines) - 1))
        line = lines[number]
        place = more.draw(integers(0, len(line) - 1))
        other = more.draw(binary(max_size=2).filter(lambda one: one != line[place : place + 1]))
        changed = line[:place] + other.replace(b"\n", b" ") + line[place + 1 :]
        if changed == line:
            return
        self.assertTrue(broken([*lines[:number], changed, *lines[number + 1 :]], key))

    @given(_PATHS, data())
    def test_removed(self, paths: list[str], more: DataObject) -> None:
        """
        A line that is missing between others is found, and the place is named.
        """
        lines = chain([*paths, "last"])
        number = more.draw(integers(1, len(lines) - 2))
        found = findings(lines[:number] + lines[number + 1 :])
        self.assertEqual([one.where for one in found], [f"line {number + 1}"])
        self.assertIn(f"records {number + 1} to {number + 1} are missing", found[0].text)

    @given(_PATHS, data())
    def test_reordered(self, paths: list[str], more: DataObject) -> None:
        """
        Lines that have changed places, and one that is there twice, are found.
        """
        lines = chain(paths)
        number = more.draw(integers(0, len(lines) - 2))
        swapped = list(lines)
        swapped[number], swapped[number + 1] = swapped[number + 1], swapped[number]
        self.assertTrue(broken(swapped))
        self.assertEqual(broken([*lines, lines[number]]), [f"line {len(lines) + 1}"])

    def test_made_anew(self) -> None:
        """
        A changed line with a digest that fits breaks the chain behind it; with all lines behind
        it made anew only a head shows that, or a key.
        """
        lines, forged = chain("abc"), chain("xbc")
        self.assertEqual(broken([forged[0], *lines[1:]]), ["line 2"])
        self.assertEqual(broken(forged), [])
        last = read_line(lines[-1])
        assert last is not None
        self.assertEqual(broken(forged, b"", {3: last.link.digest}), ["line 3"])
        self.assertEqual(len(broken(forged, b"a key")), 3)

    def test_cut_off_at_the_end(self) -> None:
        """
        Lines that are missing at the end are found by a head alone.
        """
        lines = chain("abcd")
        last = read_line(lines[-1])
        assert last is not None
        self.assertEqual(broken(lines[:2]), [])
        found = findings(lines[:2], b"", {4: last.link.digest})
        self.assertEqual(
            [(one.broken, one.text) for one in found], [(True, "records 3 to 4 are missing")]
        )

    def test_torn(self) -> None:
        """
        A last line without an end is a note; so is one that the next record tells of, with the
        same bytes.  What nobody tells of is damage.
        """
        lines = chain("ab")
        read = read_line(lines[0])
        assert read is not None
        part = lines[1][:40]
        self.assertEqual([one.broken for one in findings([lines[0], part], cut=True)], [False])
        self.assertEqual(broken([lines[0], part]), ["line 2"])
        after, _link = extend('{"a":1}', read.link, b"", part, 3)
        found = findings([lines[0], part, after])
        self.assertEqual([one.broken for one in found], [False, False])
        self.assertIn("3 records before it could not be written", found[1].text)
        for other in ([lines[0], after], [lines[0], part[:-1], after]):
            self.assertEqual(len(broken(other)), 1)
        plain, _link = extend('{"a":1}', read.link, b"")
        self.assertEqual(broken([lines[0], part, plain]), ["line 2"])

    def test_part(self) -> None:
        """
        A chain whose beginning is elsewhere is one with a note.
        """
        found = findings(chain("abcd")[2:])
        self.assertEqual([one.broken for one in found], [False])
        self.assertIn("is record 3", found[0].text)

    @given(binary(max_size=300))
    def test_junk(self, junk: bytes) -> None:
        """
        Bytes that are no record are none, whatever they are.
        """
        lines = chain("ab")
        if b"\n" not in junk:
            self.assertTrue(broken([lines[0], junk, lines[1]]) or not junk)
