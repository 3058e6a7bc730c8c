# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key store that forgets everything when the process ends.
"""

from collections.abc import Sequence
from pathlib import Path

from attrs import define, field, frozen
from zope.interface import implementer

from kypello.errors import KeyExists, KeyNotFound
from kypello.interfaces import IKeyStore


@frozen
class MemorySettings:
    """
    There is nothing to set.

    :ivar where: Where the keys are, for people.
    :ivar secret_files: Files that nobody else may read.
    """

    where: str = "memory"
    secret_files: tuple[Path, ...] = ()


@implementer(IKeyStore)
@define(eq=False)
class MemoryKeyStore:
    """
    Keys in a dictionary.
    """

    _values: dict[str, bytes] = field(factory=dict, repr=False)

    async def prepare(self) -> None:
        """
        There is nothing to make ready.
        """

    async def create(self, name: str, value: bytes) -> None:
        """
        Store a value; see :meth:`IKeyStore.create`.

        :raises KeyExists:
        """
        if name in self._values:
            raise KeyExists(name)
        self._values[name] = value

    async def get(self, name: str) -> bytes:
        """
        Read a value; see :meth:`IKeyStore.get`.

        :raises KeyNotFound:
        """
        try:
            return self._values[name]
        except KeyError:
            raise KeyNotFound(name) from None

    async def delete(self, name: str) -> None:
        """
        Remove a value; see :meth:`IKeyStore.delete`.

        :raises KeyNotFound:
        """
        if self._values.pop(name, None) is None:
            raise KeyNotFound(name)

    async def names(self) -> Sequence[str]:
        """
        All names, sorted.
        """
        return sorted(self._values)

    async def status(self) -> float:
        """
        Always well, at once.
        """
        return 0.0

    async def close(self) -> None:
        """
        There is nothing to release.
        """
