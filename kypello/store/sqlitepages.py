# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The rows of a damaged SQLite database, read from its pages; blocking.

First those pages of the table that hang on its root; and, when its tree is torn, all others that
look like a part of the table and that the list of free pages does not name.  When that list is
damaged, too, rows that were removed may come back.  The indexes of the database are not needed.

The format is described at https://www.sqlite.org/fileformat2.html.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from kypello.store.sqlitelog import Log, read_log

#: Where the root of the table is: ``store/database.py`` makes it first.  In a database whose pages
#: can be moved, page 2 tells where others belong.
_ROOT, _MOVABLE_ROOT = 2, 3

#: The pages of a table, by their first byte, and how long their headers are.
_INNER, _LEAF = 5, 13
_INNER_HEADER, _LEAF_HEADER = 12, 8

#: Where a database tells the size of its pages, and where the list of free ones begins.
_MAGIC = b"SQLite format 3\x00"
_SIZE_AT, _FREE_AT = 16, 32

#: Where it tells whether its pages can be moved.
_MOVABLE_AT = 52
_USUAL_SIZE = 4096

# What a page that is no such page makes of the code that reads it.
_NONSENSE = (IndexError, ValueError)


@contextmanager
def opened_pages(path: Path) -> "Iterator[Pages]":
    """
    The pages of a database, those in its log included.

    :raises OSError: A file is there and cannot be opened.
    """
    database = log = -1
    log_path = Path(f"{path}-wal")
    try:
        if path.exists():
            database = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if log_path.exists():
            log = os.open(log_path, os.O_RDONLY | os.O_CLOEXEC)
        yield Pages(database, log, read_log(log_path, _page_size(database)))
    finally:
        for descriptor in (database, log):
            if descriptor != -1:
                os.close(descriptor)


@define(eq=False)
class Pages:
    """
    The newest version of each page, as far as it can be read.

    :ivar _database: The descriptor of the file; -1 when there is none.
    :ivar _log_file: That of the log.
    :ivar _count: How many pages there may be.
    :ivar _seen: Which of them hang on the root, or are free.
    :ivar _torn: Whether something that should hang on the root does not.
    """

    _database: int
    _log_file: int
    _log: Log
    _count: int = field(init=False)
    _seen: bytearray = field(init=False)
    _torn: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Nothing was seen yet.
        """
        size = os.fstat(self._database).st_size if self._database != -1 else 0
        self._count = max(size // self._log.page_size, *self._log.pages, 0)
        self._seen = bytearray(self._count + 1)

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """
        Keys and values, those of pages that were written last first.
        """
        leaves = self._leaves()
        yield from self._rows(leaves)
        if self._torn:
            self._mark_free()
            yield from self._rows(self._strays())

    def _rows(self, leaves: list[int]) -> Iterator[tuple[bytes, bytes]]:
        for number in sorted(leaves, key=lambda number: -self._log.pages.get(number, 0)):
            page = self._page(number)
            for at in _cells(page, _LEAF_HEADER):
                try:
                    yield self._row(page, at)
                except _NONSENSE:
                    # What can be read of the others still counts.
                    continue

    def _leaves(self) -> list[int]:
        """
        The pages with rows that hang on the root.
        """
        leaves = []
        hanging = [self._root()]
        while hanging:
            number = hanging.pop()
            page = self._page(number)
            kind = page[0] if page else 0
            if kind not in (_INNER, _LEAF) or self._seen[number]:
                self._torn = True
                continue
            self._seen[number] = True
            if kind == _LEAF:
                leaves.append(number)
            else:
                hanging.append(_number(page, 8))
                hanging += [_number(page, at) for at in _cells(page, _INNER_HEADER)]
        return leaves

    def _root(self) -> int:
        first = self._page(1)
        if first.startswith(_MAGIC):
            return _MOVABLE_ROOT if _number(first, _MOVABLE_AT) else _ROOT
        # What begins the page that tells where others belong is no kind of a page of a table: it
        # is that of the root.
        return (
            _ROOT if self._page(_ROOT)[:1] in (bytes([_INNER]), bytes([_LEAF])) else _MOVABLE_ROOT
        )

    def _strays(self) -> list[int]:
        """
        Other pages that look like pages with rows.
        """
        numbers = (number for number in range(2, self._count + 1) if not self._seen[number])
        return [number for number in numbers if self._page(number)[:1] == bytes([_LEAF])]

    def _mark_free(self) -> None:
        """
        Note which pages are free, as far as their list can be read.
        """
        trunk = _number(self._page(1), _FREE_AT)
        while 1 < trunk <= self._count and not self._seen[trunk]:
            self._seen[trunk] = True
            page = self._page(trunk)
            for place in range(min(_number(page, 4), self._log.page_size // 4 - 2)):
                number = _number(page, 8 + 4 * place)
                if number <= self._count:
                    self._seen[number] = True
            trunk = _number(page, 0)

    def _row(self, page: bytes, at: int) -> tuple[bytes, bytes]:
        size, at = _varint(page, at)
        _, at = _varint(page, at)
        most = self._log.page_size - 35
        here = size
        if size > most:
            least = (self._log.page_size - 12) * 32 // 255 - 23
            here = least + (size - least) % (self._log.page_size - 4)
            here = here if here <= most else least
        payload = page[at : at + here]
        if size > here:
            payload += self._overflow(_number(page, at + here), size - here)
        header, at = _varint(payload, 0)
        sizes = []
        while at < header:
            kind, at = _varint(payload, at)
            if kind < 12 or kind % 2:
                raise ValueError("this is no row of bytes")
            sizes.append((kind - 12) // 2)
        key_size, value_size = sizes
        if not header + key_size + value_size == size == len(payload):
            raise ValueError("a row has another size than it tells")
        return payload[header : header + key_size], payload[header + key_size :]

    def _overflow(self, number: int, size: int) -> bytes:
        """
        Follow the pages that hold the rest of a row.
        """
        found = []
        if size > self._count * self._log.page_size:
            raise ValueError("a row is larger than the database")
        while size > 0:
            page = self._page(number)
            if not page:
                raise ValueError("a row ends nowhere")
            found.append(page[4 : 4 + size])
            size -= len(found[-1])
            number = _number(page, 0)
        return b"".join(found)

    def _page(self, number: int) -> bytes:
        """
        A page; empty when it cannot be read.
        """
        if not 0 < number <= self._count:
            return b""
        size, at = self._log.page_size, self._log.pages.get(number)
        try:
            if at is not None:
                page = os.pread(self._log_file, size, at)
            elif self._database != -1:
                page = os.pread(self._database, size, (number - 1) * size)
            else:
                page = b""
        except OSError:
            # The device cannot read it.
            page = b""
        return page if len(page) == size else b""


def _page_size(descriptor: int) -> int:
    try:
        header = os.pread(descriptor, 100, 0) if descriptor != -1 else b""
    except OSError:
        header = b""
    size = int.from_bytes(header[_SIZE_AT : _SIZE_AT + 2], "big")
    size = 65536 if size == 1 else size
    known = header.startswith(_MAGIC) and size >= 512 and not size & (size - 1)
    return size if known else _USUAL_SIZE


def _cells(page: bytes, header: int) -> list[int]:
    """
    Where the cells of a page begin.
    """
    count = int.from_bytes(page[3:5], "big")
    places = range(header, min(header + 2 * count, len(page) - 1), 2)
    return [int.from_bytes(page[at : at + 2], "big") for at in places]


def _number(page: bytes, at: int) -> int:
    return int.from_bytes(page[at : at + 4], "big")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """
    A number of variable length, and where it ends.
    """
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    return value << 8 | data[at + 8], at + 9
