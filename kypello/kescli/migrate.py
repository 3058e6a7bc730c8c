# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kes migrate``: keys from one key store to another.
"""

import json
import os
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from attrs import define, field

from kypello.document import Report, Value, read
from kypello.errors import ConfigurationError, KeyStoreUnreachable
from kypello.interfaces import IKeyStore
from kypello.kescli.command import CommandError, finish, printable
from kypello.keystore.fsconfig import FSSettings
from kypello.keystore.memory import MemoryKeyStore
from kypello.keystore.migration import BAD, Migration, Outcome, WayOut
from kypello.keystore.table import Parts, make_keystore, read_keystore
from kypello.store.lanes import Lanes

_THREADS = 4
#: How often progress is told, in keys.
_STEP = 500
_NEVER_LEAVE = (
    "{file} is a key server: keys never leave it. Give the configuration that it runs with, or one"
    " with the same section keystore"
)


def migrate(options: Namespace) -> int:
    """
    Copy what the options name, and tell about it.

    :return: 1 when the target does not hold all of it afterwards.
    :raises CommandError: It cannot be done, or only in part.
    """
    if options.force and options.merge:
        raise CommandError("--force and --merge contradict each other")
    source, target = (read_stores(file, os.environ) for file in (options.source, options.target))
    if source == target:
        raise CommandError("--from and --to name the same key store")
    if _directory(source) is not None and _directory(source) == _directory(target):
        raise CommandError("--from and --to name the same directory: see kypello kes seal --help")
    copying = _Copying(options, source, target, _Telling(options.json, options.quiet))
    try:
        finish(copying.run, "interrupted: run it again, and it goes on")
    except CommandError:
        copying.telling.conclude(options.dry_run, whole=False)
        raise
    return copying.telling.conclude(options.dry_run)


def read_stores(file: str, environment: Mapping[str, str]) -> Any:
    """
    The settings of the key store that a configuration names; its other sections do not matter.

    :raises ConfigurationError: It has mistakes.
    :raises CommandError: It is no file but a server.
    """
    if "://" in file:
        raise CommandError(_NEVER_LEAVE.format(file=file))
    try:
        text = Path(file).read_text("utf-8")
    except OSError as error:
        raise ConfigurationError((f"{file}: {error.strerror}",)) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError((f"{file}: is not UTF-8 text",)) from error
    report = Report(file)
    document = read(text, report, environment)
    settings = read_keystore(_section(document))
    if report.mistakes or settings is None:
        raise ConfigurationError(tuple(report.mistakes))
    return settings


def _directory(settings: object) -> Path | None:
    return settings.path.resolve() if isinstance(settings, FSSettings) else None


def _section(document: Value) -> Value:
    members = document.members()
    old = members.get("keys")
    # Before 2022 the section "keys" told where keys are kept.
    if "keystore" not in members and old is not None and old.is_mapping:
        return old
    return members.get("keystore", document.missing("keystore"))


@define(eq=False)
class _Telling:
    """
    Tells what becomes of keys: each that needs attention, and the sum.

    :ivar bad: The keys that the target does not have as the source has them.
    """

    _json: bool
    _quiet: bool
    counts: Counter[Outcome] = field(factory=Counter)
    bad: set[str] = field(factory=set)

    def tell(self, name: str, outcome: Outcome, reason: str) -> None:
        """
        Tell about one key.
        """
        self.counts[outcome] += 1
        if outcome in BAD:
            self.bad.add(name)
        if self._json:
            told = {"key": name, "outcome": outcome.value}
            print(json.dumps(told | ({"reason": reason} if reason else {})), flush=True)
        elif outcome in BAD:
            print(printable(f"{outcome.value}: {name}: {reason}"), file=sys.stderr, flush=True)
        elif not self._quiet and self.counts.total() % _STEP == 0:
            print(f"{self.counts.total()} keys ...", file=sys.stderr, flush=True)

    def conclude(self, dry: bool, whole: bool = True) -> int:
        """
        Tell the sum.

        :param whole: Whether all was done.
        :return: The exit code.
        """
        counts = self.counts
        if self._json:
            summary = {outcome.value: counts[outcome] for outcome in Outcome}
            print(json.dumps({"summary": summary, "dry_run": dry}), flush=True)
        else:
            migrated = counts[Outcome.COPIED] + counts[Outcome.REPLACED]
            if dry:
                print(f"{migrated} keys would be migrated; nothing was changed.")
            elif self.bad or not whole:
                print(f"Migrated {migrated} keys.")
            else:
                print(f"Migrated {migrated} keys successfully!")
            for outcome, words in _WORDS.items():
                if counts[outcome]:
                    print(f"{counts[outcome]} {words}.")
        return 1 if self.bad else 0


_WORDS = {
    Outcome.REPLACED: "of them in place of another key",
    Outcome.PRESENT: "were there already, with the same bytes",
    Outcome.KEPT: "are another key at the target, which stays (--merge)",
    Outcome.CONFLICT: "are another key at the target, which stays: see --merge and --force",
    Outcome.FAILED: "failed: run it again when the reason is gone",
}


@define(eq=False)
class _Copying:
    """
    A migration with its key stores.
    """

    _options: Namespace
    _source: Any
    _target: Any
    telling: _Telling

    async def run(self, reactor: Any) -> None:
        """
        Copy, with threads that end with it.

        :raises KeyStoreFailed: A key store cannot be used.
        :raises KeyStoreUnreachable:
        :raises CommandError: The source has keys that were not there in the beginning.
        """
        lanes = Lanes(reactor, _THREADS)
        lanes.start()
        parts = Parts(reactor, lanes, os.urandom)
        source = make_keystore(self._source, parts)
        target = make_keystore(self._target, parts)
        try:
            # Its directory is not made, nor is anything in it sealed.
            await source.status()
            if self._options.dry_run:
                target = await self._readable(target)
            else:
                await target.prepare()
            names = await self._names(source)
            migration = Migration(
                source, target, self._way_out(), self._options.dry_run, self.telling.tell
            )
            await migration.run(names)
            if not self._options.dry_run:
                await self._verify(source, target, names)
        finally:
            await source.close()
            await target.close()
            await lanes.stop()

    def _way_out(self) -> WayOut:
        if self._options.force:
            return WayOut.REPLACE
        return WayOut.KEEP if self._options.merge else WayOut.REPORT

    async def _readable(self, target: IKeyStore) -> IKeyStore:
        try:
            await target.status()
        except KeyStoreUnreachable:
            # A directory that is to be made yet.
            if not isinstance(self._target, FSSettings) or self._target.path.exists():
                raise
            await target.close()
            empty: IKeyStore = MemoryKeyStore()
            return empty
        return target

    async def _names(self, store: IKeyStore) -> list[str]:
        pattern = self._options.pattern
        return [name for name in await store.names() if fnmatchcase(name, pattern)]

    async def _verify(self, source: IKeyStore, target: IKeyStore, names: list[str]) -> None:
        there = set(await self._names(target))
        missing = [name for name in names if name not in there | self.telling.bad]
        if missing:
            raise CommandError(f"the target does not list {', '.join(missing[:10])}")
        late = set(await self._names(source)) - set(names)
        if late:
            raise CommandError(
                f"keys were made at the source meanwhile: {', '.join(sorted(late)[:10])}. Stop its"
                " servers, or point them to the target, and run it again"
            )
