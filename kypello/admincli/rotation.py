# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello encrypt rotate``: other master keys for what is stored.

The server does a page at a time and keeps nothing between two; this decides about the pace, goes
on when the server was away, and counts.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field

from kypello.admincli.target import CommandError
from kypello.admincli.work import Work
from kypello.adminclient import CallRefused, NoAnswer
from kypello.store.directory import write_private

#: Versions in one page, and in one whose content may be written again.
_PAGE, _REWRITING = 1000, 16

#: How long a page may take, in seconds: content may be written again.
_PATIENCE = 86_400.0

#: How long to wait for a server that is away, in seconds, one after the other.
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0)

#: How often it is told how far it has come, in seconds, where that is no terminal.
_TOLD = 10.0

_BAR = 24
_UNAVAILABLE = 503
_GONE = "NoSuchBucket"

#: What is changed, in this order: an upload that is completed meanwhile becomes a version.
_UPLOADS, _VERSIONS = "uploads", "objects"

#: How the id is called that a page of each follows, and those that it tells.
_AFTER = {_UPLOADS: ("afterUpload", "uploadId"), _VERSIONS: ("afterVersion", "versionId")}

#: What the server counts in a page, and how the same is called of unfinished uploads here.
_COUNTED = {
    _VERSIONS: {name: name for name in ("seen", "changed", "encrypted", "plain", "customers")},
    _UPLOADS: {"seen": "uploads", "changed": "uploads_changed", "customers": "uploads_customers"},
}
_COUNTS = (*_COUNTED[_VERSIONS], *_COUNTED[_UPLOADS].values(), "failed", "events")
_TYPES = {None: "", "sse-s3": "AES256", "sse-kms": "aws:kms"}


@define
class _Position:
    """
    How far it has come.

    :ivar bucket: Empty before the first one.
    :ivar key: The next page follows this key, and version or upload.
    :ivar kind: Which of both.
    """

    bucket: str = ""
    key: str = ""
    id: str = ""
    kind: str = _VERSIONS


@define(eq=False)
class _Rotating:
    """
    One run of the command.

    :ivar _wanted: What all calls ask for.
    :ivar _total: How many versions and uploads there are to see; 0 when that is not known.
    :ivar _notes: What has to be done beside that, for people.
    """

    _work: Work
    _wanted: Mapping[str, object]
    _prefix: str
    _counts: dict[str, int] = field(factory=lambda: dict.fromkeys(_COUNTS, 0))
    _position: _Position = field(factory=_Position)
    _total: int = 0
    _notes: list[str] = field(factory=list)
    _last: float = 0.0

    async def run(self, bucket: str) -> int:
        """
        Change all that is wanted.

        :param bucket: Empty for all, and the accounts.
        :return: 1 when something is left that should have been changed.
        """
        self._load()
        self._last = self._work.client.now()
        screen, dry = self._work.screen, bool(self._wanted["dryRun"])
        buckets = [bucket] if bucket else await self._rotate_key("")
        if screen.is_terminal and not dry:
            for each in buckets:
                with _removed_is_done(bucket):
                    self._total += await self._count(each)
            self._total += self._seen
        for each in buckets:
            if each >= self._position.bucket:
                with _removed_is_done(bucket):
                    await self._bucket(each)
        if not bucket:
            await self._count_events()
        screen.status("")
        self._forget()
        for note in self._notes:
            screen.note(note)
        counts = self._counts
        # Under what version of a master key an event is does not show.
        left = counts["failed"] + (0 if self._wanted["again"] else counts["events"])
        told = {**counts, "dry_run": dry, "complete": not left}
        screen.done(_sentence(counts, dry=dry), told)
        return int(bool(left) and not dry)

    @property
    def _seen(self) -> int:
        return self._counts["seen"] + self._counts["uploads"]

    async def _bucket(self, bucket: str) -> None:
        if bucket != self._position.bucket:
            self._position = _Position(bucket, kind=_UPLOADS)
        await self._rotate_key(bucket)
        if self._position.kind == _UPLOADS:
            await self._pages(bucket)
            self._position = _Position(bucket)
            self._save()
        await self._pages(bucket)

    async def _pages(self, bucket: str) -> None:
        """
        Change all uploads, or versions, of a bucket.
        """
        following = True
        while following:
            began = self._work.client.now()
            page = await self._page(bucket, self._position, dry=bool(self._wanted["dryRun"]))
            for name, here in _COUNTED[self._position.kind].items():
                self._counts[here] += int(page[name])
            for trouble in page["troubles"]:
                self._tell_trouble(bucket, trouble)
            following = page["next"] is not None
            if following:
                self._position = _behind(self._position, page["next"])
                self._save()
            self._tell(bucket)
            await self._pace(int(page["changed"]), began)

    async def _rotate_key(self, bucket: str) -> list[str]:
        """
        Change the key of a bucket's metadata, or of the accounts.

        :return: With the accounts, all buckets.
        """
        told = await self._call("rotate-key", {**self._wanted, "bucket": bucket})
        named = f"The bucket {bucket}" if bucket else "The server"
        if told["default"]:
            self._notes.append(
                f"{named} is set to encrypt what is new under {told['default']}; what is new needs"
                " that key until this is changed."
            )
        return list(told["buckets"])

    async def _count_events(self) -> None:
        """
        See whether events wait for their targets that need another master key.
        """
        told = await self._call("rotate-key", {**self._wanted, "bucket": "", "dryRun": True})
        self._counts["events"] = told["events"]
        if told["events"]:
            self._notes.append(
                f"{told['events']} events that wait for their targets are sealed under other master"
                " keys, and need them until they are sent."
            )

    async def _page(self, bucket: str, position: _Position, *, dry: bool) -> Any:
        plain = bool(self._wanted["plain"])
        limit = _REWRITING if plain and not dry else _PAGE
        if self._work.options.rate:
            limit = max(1, min(limit, int(self._work.options.rate)))
        asked = {
            **self._wanted,
            "bucket": bucket,
            "prefix": self._prefix,
            "afterKey": position.key,
            _AFTER[position.kind][0]: position.id,
            "limit": _PAGE if dry else limit,
            "dryRun": dry,
        }
        return await self._call(f"rotate-{position.kind}", asked)

    async def _call(self, operation: str, asked: Mapping[str, object]) -> Any:
        """
        Ask the server, again and again while it is away: what is done twice is done once.
        """
        client, body = self._work.client, json.dumps(asked).encode()
        for pause in (*_PAUSES, None):
            try:
                answer = await client.call(
                    "POST", f"encryption/{operation}", body=body, patience=_PATIENCE
                )
                return client.read(answer)
            except (CallRefused, NoAnswer) as error:
                away = isinstance(error, NoAnswer) or error.status == _UNAVAILABLE
                if pause is None or not away:
                    raise
                self._work.screen.status("")
                self._work.screen.note(f"{error}; trying again in {pause:g} s")
                await client.wait(pause)
        raise AssertionError

    async def _count(self, bucket: str) -> int:
        """
        How many uploads and versions of a bucket are still to be seen.
        """
        if bucket < self._position.bucket:
            return 0
        begins = [_Position(bucket, kind=_UPLOADS), _Position(bucket)]
        if bucket == self._position.bucket:
            uploads = self._position.kind == _UPLOADS
            begins = [self._position, begins[1]] if uploads else [self._position]
        found = 0
        for begin in begins:
            position: _Position | None = begin
            while position is not None:
                page = await self._page(bucket, position, dry=True)
                found += page["seen"]
                position = None if page["next"] is None else _behind(position, page["next"])
                self._work.screen.status(f"counting: {self._total + found:,}")
        return found

    async def _pace(self, changed: int, began: float) -> None:
        """
        Wait until no more than the wanted number was changed in a second.
        """
        rate = self._work.options.rate
        if rate:
            early = began + changed / rate - self._work.client.now()
            if early > 0:
                await self._work.client.wait(early)

    def _tell(self, bucket: str) -> None:
        screen, seen, total = self._work.screen, self._seen, self._total
        changed = self._counts["changed"] + self._counts["uploads_changed"]
        line = f"{seen:,} seen, {changed:,} changed: {bucket}/{self._position.key}"
        if screen.is_terminal:
            if total:
                done = min(seen, total) * _BAR // total
                bar = "#" * done + "." * (_BAR - done)
                line = f"[{bar}] {min(seen, total) * 100 // total:3} %  {line}"
            screen.status(line)
            return
        now = self._work.client.now()
        if now - self._last >= _TOLD:
            self._last = now
            screen.note(line)

    def _tell_trouble(self, bucket: str, trouble: Mapping[str, str]) -> None:
        self._counts["failed"] += 1
        self._work.screen.status("")
        id_ = trouble[_AFTER[self._position.kind][1]]
        upload = "upload " if self._position.kind == _UPLOADS else ""
        name = f"{bucket}/{trouble['key']} ({upload}{id_})"
        told = {"bucket": bucket, **trouble}
        self._work.screen.done(f"FAILED {name}: {trouble['reason']}", {"failed": told})

    def _load(self) -> None:
        """
        Go on where an earlier run has ended; blocking.

        :raises CommandError: The file is of another run, or is none of these.
        """
        path: Path | None = self._work.options.resume
        if path is None:
            return
        try:
            told = json.loads(path.read_bytes())
            if told["wanted"] != self._identity():
                raise CommandError(f"{path} tells of a run that wanted something else")
            self._position = _Position(*told["position"])
            # A file of an earlier release tells less.
            self._counts = {name: int(told["counts"].get(name, 0)) for name in _COUNTS}
        except FileNotFoundError:
            return
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{path} does not tell how far a run has come") from error

    def _save(self) -> None:
        """
        Tell how far this run has come; blocking.

        :raises CommandError: The file cannot be written.
        """
        path: Path | None = self._work.options.resume
        if path is None:
            return
        position = self._position
        told = {
            "wanted": self._identity(),
            "position": [position.bucket, position.key, position.id, position.kind],
            "counts": self._counts,
        }
        try:
            write_private(path, json.dumps(told).encode(), os.urandom)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error

    def _forget(self) -> None:
        if self._work.options.resume is not None:
            self._work.options.resume.unlink(missing_ok=True)

    def _identity(self) -> dict[str, object]:
        options = self._work.options
        return {**self._wanted, "target": options.target or "", "prefix": self._prefix}


def _behind(position: _Position, following: Mapping[str, str]) -> _Position:
    """
    Where the page after that of a position begins, as the server told.
    """
    id_ = following[_AFTER[position.kind][1]]
    return _Position(position.bucket, following["key"], id_, position.kind)


@contextmanager
def _removed_is_done(wanted: str) -> Iterator[None]:
    """
    Of all buckets one may be removed meanwhile; the one that is wanted must be there.
    """
    try:
        yield
    except CallRefused as error:
        if wanted or error.code != _GONE:
            raise


async def rotate(work: Work) -> int:
    """
    Give what is stored other master keys.

    :return: 1 when something is left that should have been changed.
    :raises CommandError: The options do not fit together.
    """
    options = work.options
    if bool(options.target) == options.all:
        raise CommandError("name a bucket, as BUCKET or BUCKET/PREFIX, or give --all")
    wanted = {
        "keyName": options.to or "",
        "source": options.source or "",
        "algorithm": _TYPES[options.type],
        "context": _context(options.context),
        "again": options.again,
        "plain": options.encrypt_plain,
        "dryRun": options.dry_run,
    }
    bucket, _, prefix = (options.target or "").partition("/")
    return await _Rotating(work, wanted, prefix).run(bucket)


def _context(text: str | None) -> Mapping[str, str] | None:
    if text is None:
        return None
    try:
        context = json.loads(text)
    except ValueError:
        context = None
    if not isinstance(context, dict) or not all(isinstance(one, str) for one in context.values()):
        raise CommandError("--context takes a JSON object of texts")
    return context


def _sentence(counts: Mapping[str, int], *, dry: bool) -> str:
    changed = "would get other keys" if dry else "got other keys"
    parts = [f"{counts['seen']:,} versions seen, {counts['changed']:,} {changed}"]
    for name, text in (
        ("encrypted", "of them were not encrypted"),
        ("plain", "are not encrypted"),
        ("customers", "have keys of their clients"),
        ("uploads", "unfinished uploads seen"),
        ("uploads_changed", f"of these {changed}"),
        ("uploads_customers", "of these have keys of their clients"),
        ("failed", "FAILED"),
    ):
        if counts[name]:
            parts.append(f"{counts[name]:,} {text}")
    return "; ".join(parts) + "."
