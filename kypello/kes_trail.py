# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The audit log of a key server in a file of its own, as a chain of records.

What was written when the process is killed is there.  A restart goes on where the chain stands,
and so does a new file when the old one was moved away.
"""

import fcntl
import json
import os
import stat
from pathlib import Path

from attrs import define, field, frozen
from twisted.logger import Logger

from kypello.crypto.randomness import Random
from kypello.errors import ConfigurationError
from kypello.interfaces import ILane
from kypello.kes.auditconfig import TrailSettings
from kypello.kes.chain import START, Link, extend, read_line
from kypello.store.directory import write_private

#: How much of the end of a file is searched for its last record, in bytes: more than the longest.
_END = 1 << 20

_log = Logger()


def head_path(file: Path) -> Path:
    """
    Where the head of an audit log is kept.
    """
    return file.with_name(f"{file.name}.head")


def read_head(path: Path) -> Link | None:
    """
    Read a head; blocking.

    :return: ``None`` when there is none.
    :raises ValueError: It is damaged.
    :raises OSError:
    """
    try:
        told = json.loads(path.read_bytes())
        return Link(int(told["seq"]), str(told["digest"]))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise ValueError("no head") from error


def read_chain_key(path: Path | None) -> bytes:
    """
    Read what a chain is keyed with; empty for nothing.  Blocking.

    :raises ConfigurationError: It cannot be read, or is too short.
    """
    if path is None:
        return b""
    try:
        key = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise ConfigurationError((f"{path}: {error.strerror}",)) from error
    if len(key) < 16:
        raise ConfigurationError((f"{path}: a key for the audit log has 16 bytes or more",))
    return key


@frozen
class _File:
    """
    An open file.

    :ivar identity: Of the file itself, whatever it is called.
    """

    settings: TrailSettings
    descriptor: int
    identity: tuple[int, int]
    key: bytes = field(repr=False)


@frozen
class _Found:
    """
    An open file with what is in it.

    :ivar torn: What was cut off behind the last record.
    :ivar ended: Whether the last line has an end.
    """

    file: _File
    link: Link
    torn: bytes
    ended: bool


@define(eq=False)
class Trail:
    """
    Writes records, if there is a file to write them to.

    All methods belong to the reactor thread.

    :ivar _lane: For what blocks.
    :ivar _link: Where the chain stands.
    :ivar _torn: What was cut off behind its last record.
    :ivar _ended: Whether the last line has an end.
    :ivar _lost: How many records could not be written since.
    :ivar _kept: The head that was written last.
    """

    _lane: ILane
    _random: Random
    _file: _File | None = None
    _link: Link = START
    _torn: bytes = field(default=b"", repr=False)
    _ended: bool = True
    _lost: int = 0
    _kept: Link = START

    async def use(self, settings: TrailSettings | None) -> None:
        """
        Write to another file from now on; the same one is opened again when it was moved.

        :raises ConfigurationError: It cannot be used, and nothing has changed.
        """
        old = self._file
        if settings is None:
            await self.close()
            return
        if old is not None and old.settings == settings:
            await self._reopen(old)
            return
        found: _Found = await self._lane.run(_recover, settings)
        await self.close()
        self._file, self._link = found.file, found.link
        self._torn, self._ended, self._lost = found.torn, found.ended, 0
        self._kept = START

    def write(self, record: str) -> bytes:
        """
        Write a record, a JSON object, at once.

        What cannot be written is told in the log, and how much that was in the next record.

        :return: The line, without its end; the bare record when it is in no file.
        """
        file = self._file
        if file is None:
            return record.encode()
        line, link = extend(record, self._link, file.key, self._torn, self._lost)
        content = b"".join((b"" if self._ended else b"\n", line, b"\n"))
        try:
            written = os.write(file.descriptor, content)
        except OSError as error:
            self._failed(error.strerror or "")
            return record.encode()
        if written >= len(content) - 1:
            self._link, self._torn, self._lost = link, b"", 0
            self._ended = written == len(content)
            return line
        if written:
            separator = b"\n" if self._torn else b""
            part = content[:written]
            self._torn += separator + part.removeprefix(b"" if self._ended else b"\n")
            self._ended = False
        self._failed("only a part was written")
        return record.encode()

    async def keep_head(self) -> None:
        """
        Write down durably where the chain stands, if it has gone on.
        """
        file, link = self._file, self._link
        if file is None or link == self._kept:
            return
        copy = os.dup(file.descriptor)
        try:
            await self._lane.run(_write_head, copy, file.settings.file, link, self._random)
        except OSError as error:
            _log.error(
                "the head of the audit log cannot be written: {reason}", reason=error.strerror
            )
            return
        finally:
            os.close(copy)
        self._kept = link

    def tell_head(self) -> None:
        """
        Tell the log where the chain stands: it goes elsewhere, where nobody can change it.
        """
        if self._file is not None:
            _log.info(
                "the audit log {file} has {seq} records, the digest of the last is {digest}",
                file=str(self._file.settings.file),
                seq=self._link.seq,
                digest=self._link.digest,
            )

    async def close(self) -> None:
        """
        Write no more.
        """
        await self.keep_head()
        self.tell_head()
        file, self._file = self._file, None
        if file is not None:
            os.close(file.descriptor)

    async def _reopen(self, old: _File) -> None:
        fresh: _File = await self._lane.run(_open, old.settings, old.identity)
        if fresh.identity == old.identity:
            return
        await self.keep_head()
        self.tell_head()
        # What was cut off in the old file is told of in the new one.
        self._file, self._ended = fresh, True
        os.close(old.descriptor)

    def _failed(self, reason: str) -> None:
        if not self._lost:
            _log.critical(
                "the audit log cannot be written, requests are served on: {reason}", reason=reason
            )
        self._lost += 1


# From here on in a thread.


def _open(settings: TrailSettings, known: tuple[int, int] | None = None) -> _File:
    """
    Open a file for this process alone.

    :param known: The identity of the file that is open already.
    :raises ConfigurationError:
    """
    path = settings.file
    key = read_chain_key(settings.key_file)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigurationError((f"{path}: {error.strerror}",)) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ConfigurationError((f"{path}: the audit log has to be a regular file",))
    identity = (found.st_dev, found.st_ino)
    if identity == known:
        os.close(descriptor)
        return _File(settings, -1, identity, key)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ConfigurationError((f"{path}: another process writes to it",)) from error
    return _File(settings, descriptor, identity, key)


def _recover(settings: TrailSettings) -> _Found:
    file = _open(settings)
    try:
        head = read_head(head_path(settings.file))
    except (OSError, ValueError):
        _log.error("{file} cannot be read", file=str(head_path(settings.file)))
        head = None
    size = os.fstat(file.descriptor).st_size
    content = os.pread(file.descriptor, _END, max(0, size - _END))
    ended = content.endswith(b"\n") or not content
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    behind: list[bytes] = []
    link = None
    while lines and link is None:
        line = lines.pop()
        read = read_line(line)
        if read is None:
            behind.insert(0, line)
        else:
            link = read.link
    if link is None:
        link = head or START
    elif head is not None and head.seq > link.seq:
        _log.critical(
            "records {first} to {last} of the audit log {file} are missing",
            first=link.seq + 1,
            last=head.seq,
            file=str(settings.file),
        )
        # So the gap stays visible.
        link = head
    return _Found(file, link, b"\n".join(behind), ended)


def _write_head(descriptor: int, file: Path, link: Link, random: Random) -> None:
    # No head of what could be lost with the power.
    os.fsync(descriptor)
    content = json.dumps({"seq": link.seq, "digest": link.digest}) + "\n"
    write_private(head_path(file), content.encode("ascii"), random)
