# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which master keys the data in a directory depends on, and how much of it.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define

from kypello.doctor.findings import Chart, Tell
from kypello.errors import KeyMismatch, KeyNotFound, KypelloError
from kypello.events.queue import waiting_keys
from kypello.iam.ledger import accounts_key
from kypello.interfaces import IKMS, IIndex, ILanes
from kypello.objects.canary import GuardedKMS, Known, known_keys
from kypello.objects.keyusage import KeyUsage, KeyUse
from kypello.store.files import FileBlobs
from kypello.store.layout import LayoutStore
from kypello.store.readonly import ReadOnly
from kypello.store.sqlite import SQLiteIndex


@define(eq=False)
class Data:
    """
    What is in a data directory that is held; nothing in it is changed.

    :ivar known: The master keys that were used.
    """

    _reactor: Any
    _databases: ReadOnly
    _sqlite: SQLiteIndex
    _store: LayoutStore
    _chart: Chart
    known: Sequence[Known] = ()
    _counted: Mapping[str, KeyUse] | None = None

    @classmethod
    async def open(cls, reactor: Any, directory: Path, lanes: ILanes, tell: Tell) -> "Data":
        """
        Read which master keys were used.

        :raises KypelloError: It cannot be read.
        """
        databases = ReadOnly()
        sqlite = SQLiteIndex(directory / "index", lanes, connect=databases.connect)
        blobs = FileBlobs(directory / "blobs", lanes)
        store = LayoutStore(sqlite, blobs, reactor, os.urandom)
        data = cls(reactor, databases, sqlite, store, Chart(tell, str(directory)))
        try:
            data.known = await known_keys(sqlite)
        except BaseException:
            await data.close()
            raise
        if not data.known:
            data._chart.ok("data", "nothing is encrypted with a master key yet")
        return data

    @property
    def index(self) -> IIndex:
        """
        Where everything is recorded.
        """
        return self._sqlite

    def guard(self, kms: IKMS) -> GuardedKMS:
        """
        What has a key service prove that it holds what was used.
        """
        return GuardedKMS(kms, self._sqlite, self._reactor)

    async def check(self, kms: IKMS, default_key: str) -> None:
        """
        See that a key service without key servers holds all master keys that were used.
        """
        guard, lost = self.guard(kms), []
        for known in self.known:
            try:
                await guard.holds(kms, known.name)
            except (KeyMismatch, KeyNotFound) as error:
                if isinstance(error, KeyNotFound) and not await self.needs(known.name, default_key):
                    gone = f"the key {known.name} is not there, and nothing needs it any more"
                    self._chart.ok("canary", gone)
                    continue
                lost.append(known.name)
                self._chart.failed(
                    "canary", str(error), f"restore the key {known.name}; do not make a new one"
                )
            except KypelloError as error:
                self._chart.failed("canary", str(error), "make the keys readable")
            else:
                self._chart.ok("canary", f"the key {known.name} opens what it sealed")
        await self.tell_need(lost, default_key)

    async def tell_need(self, lost: Sequence[str], default_key: str) -> None:
        """
        Tell what depends on master keys that somebody does not hold.
        """
        for name in lost:
            use = (await self._uses(default_key))[name]
            self._chart.failed("need", f"{use} need the key {name}", "keep all backups of this key")

    async def needs(self, name: str, default_key: str) -> bool:
        """
        Whether anything that is stored, or will be, depends on a master key that was used.

        :raises KypelloError: It cannot be read.
        """
        use = (await self._uses(default_key))[name]
        return use.needed or use.named

    async def _uses(self, default_key: str) -> Mapping[str, KeyUse]:
        """
        What depends on which master key, counted once.
        """
        if self._counted is None:
            walk = KeyUsage(
                self._store,
                self._sqlite,
                partial(accounts_key, self._sqlite),
                partial(waiting_keys, self._sqlite),
                default_key,
            ).walk()
            async for _ in walk.pages():
                pass
            self._counted = walk.found
        return self._counted

    async def close(self) -> None:
        """
        Close everything, and leave the directory as it was.
        """
        await self._sqlite.close()
        self._databases.clean()
