# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A chain of records: each tells the digest of the one before it, and its own.

Whoever changes, removes, adds or reorders lines breaks it, unless all that follows is made anew.
With a key nobody can do that who does not have it.  Without one, and for lines that are cut off at
the end, what was noted elsewhere has to be compared: the *head*, the number and the digest of the
last record at some time.
"""

import hmac
import re
from collections.abc import Mapping
from hashlib import sha256

from attrs import define, field, frozen

_CHAIN = re.compile(
    rb',"chain":\{"seq":(\d{1,18}),"prev":"([0-9a-f]{64})"(?:,"torn":"([0-9a-f]{64})")?'
    rb'(?:,"lost":(\d{1,18}))?(,"digest":"([0-9a-f]{64})"\}\})'
)
#: Of a line behind its digest, and what the digest takes with its name.
_TAIL = len(',"digest":""}}') + 64


@frozen
class Link:
    """
    Where a chain stands.

    :ivar seq: How many records it has.
    :ivar digest: Of the last one, in hex.
    """

    seq: int
    digest: str


#: A chain without records.
START = Link(0, "0" * 64)


@frozen
class Line:
    """
    One line of a chain, read.

    :ivar prev: The digest that it tells of the one before.
    :ivar torn: The digest of what was cut off before it; empty for nothing.
    :ivar lost: How many records could not be written before it.
    :ivar covered: The bytes that its own digest is about.
    """

    link: Link
    prev: str
    torn: str
    lost: int
    covered: bytes


def digest_of(content: bytes, key: bytes) -> str:
    """
    SHA-256 of some bytes in hex, or with a key HMAC-SHA-256.
    """
    return hmac.digest(key, content, "sha256").hex() if key else sha256(content).hexdigest()


def extend(
    record: str, after: Link, key: bytes, torn: bytes = b"", lost: int = 0
) -> tuple[bytes, Link]:
    """
    Make a line of a record.

    :param record: A JSON object without spaces behind it.
    :param torn: What was cut off behind the record before; empty for nothing.
    :param lost: How many records could not be written since.
    :return: The line, without its end, and where the chain stands then.
    """
    seq = after.seq + 1
    more = f',"torn":"{digest_of(torn, key)}"' if torn else ""
    if lost:
        more += f',"lost":{lost}'
    covered = f'{record[:-1]},"chain":{{"seq":{seq},"prev":"{after.digest}"{more}'.encode()
    digest = digest_of(covered, key)
    return covered + f',"digest":"{digest}"}}}}'.encode("ascii"), Link(seq, digest)


def read_line(line: bytes) -> Line | None:
    """
    Read a line; ``None`` when it is none of a chain.

    :param line: Without its end.
    """
    # What a client sent cannot look so: its quotation marks are escaped.
    start = line.rfind(b',"chain":{')
    found = None if start < 0 else _CHAIN.fullmatch(line, start)
    if found is None:
        return None
    seq, prev, torn, lost, _tail, digest = found.groups()
    return Line(
        Link(int(seq), digest.decode("ascii")),
        prev.decode("ascii"),
        (torn or b"").decode("ascii"),
        int(lost or 0),
        line[:-_TAIL],
    )


@frozen
class Finding:
    """
    Something about a chain.

    :ivar where: The line, for people.
    :ivar broken: Whether somebody has tampered with it; a note otherwise.
    """

    where: str
    text: str
    broken: bool


@define(eq=False)
class Examination:
    """
    Follows a chain, line by line.

    :ivar _key: Empty for none.
    :ivar _heads: Digests that were noted elsewhere, by the number of the record.
    :ivar findings: So far.
    :ivar place: Where the chain stands; ``None`` before its first record.
    """

    _key: bytes = field(repr=False)
    _heads: Mapping[int, str] = field(factory=dict)
    findings: list[Finding] = field(factory=list)
    place: Link | None = None
    _first: int = 0
    _strange: list[bytes] = field(factory=list)
    _strange_at: str = ""
    _whole: bool = True

    def feed(self, where: str, line: bytes, whole: bool = True) -> None:
        """
        Look at the next line.

        :param line: Without its end.
        :param whole: Whether it has one.
        """
        read = read_line(line)
        self._whole = whole
        if read is None:
            if not self._strange:
                self._strange_at = where
            self._strange.append(line)
            return
        self._settle(where, read)
        if digest_of(read.covered, self._key) != read.link.digest:
            self._broken(where, "was changed, or is of a chain with another key")
        self._follow(where, read)
        if read.lost:
            self._note(where, f"{read.lost} records before it could not be written")
        noted = self._heads.get(read.link.seq)
        if noted is not None and noted != read.link.digest:
            self._broken(where, f"is not the record {read.link.seq} that was noted as the head")
        self.place = read.link

    def end(self) -> None:
        """
        There are no more lines.
        """
        if self._strange:
            if self._whole:
                self._broken(self._strange_at, "is no record")
            else:
                self._note(self._strange_at, "is cut off: the server was killed while it wrote")
        reached = 0 if self.place is None else self.place.seq
        for seq in sorted(self._heads):
            if seq > reached:
                self._broken("the end", f"records {reached + 1} to {seq} are missing")
            elif seq < self._first:
                self._note("the beginning", f"the head {seq} is of a file that is not here")

    def _settle(self, where: str, read: Line) -> None:
        """
        Decide what to think of lines before this one that are no records.
        """
        cut, self._strange = b"\n".join(self._strange), []
        if read.torn and (not cut or digest_of(cut, self._key) != read.torn):
            self._broken(where, "tells of something cut off before it, which was changed")
        elif cut and not read.torn:
            self._broken(self._strange_at, "is no record")
        elif cut:
            self._note(self._strange_at, "is cut off: the server was killed, or the disk was full")

    def _follow(self, where: str, read: Line) -> None:
        seq, place = read.link.seq, self.place
        if place is None:
            self._first = seq
            if seq > 1:
                self._note(where, f"is record {seq}; those before are in another file")
            elif read.prev != START.digest:
                self._broken(where, "is the first record, and tells of one before")
        elif seq > place.seq + 1:
            self._broken(where, f"records {place.seq + 1} to {seq - 1} are missing before it")
        elif seq <= place.seq:
            self._broken(where, f"is record {seq}, and comes after record {place.seq}")
        elif read.prev != place.digest:
            self._broken(where, "does not follow the record before it, which was changed")

    def _broken(self, where: str, text: str) -> None:
        self.findings.append(Finding(where, text, True))

    def _note(self, where: str, text: str) -> None:
        self.findings.append(Finding(where, text, False))
