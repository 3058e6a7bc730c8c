# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Other passphrases for the files of a key store.
"""

from attrs import define, field

from kypello.crypto.masterkey import MasterKey
from kypello.crypto.randomness import Random
from kypello.errors import KeyStoreFailed
from kypello.interfaces import ILane
from kypello.keystore.fs import FSKeyStore
from kypello.keystore.fsconfig import Passphrase
from kypello.keystore.seal import Cost, Sealer, WrongPassphrase, is_sealed


@define(eq=False)
class Resealing:
    """
    Brings all keys of a directory under one passphrase, or out of it.

    Nothing is written before all of them were opened.  When the machine stops in between, doing
    it again with the same passphrases goes on.

    :ivar _old: What opens the files that are sealed; ``None`` when none is to be.
    :ivar _new: What seals them; ``None`` leaves them in clear.
    :ivar _lane: Where passphrases are read and used.
    """

    _files: FSKeyStore
    _old: Passphrase | None
    _new: Passphrase | None
    _lane: ILane
    _random: Random
    _cost: Cost = field(factory=Cost)

    async def run(self) -> int:
        """
        Do it; no server may use the directory meanwhile.

        :return: How many files have changed.
        :raises WrongPassphrase: A file is under neither; nothing has changed.
        :raises KeyStoreFailed: A file is damaged, or is no key; nothing has changed.
        """
        old, new = await self._sealer(self._old), await self._sealer(self._new)
        values: dict[str, bytes] = {}
        for name in await self._files.names():
            held = await self._files.raw(name)
            if is_sealed(held) and new is not None and await self._opens(new, name, held):
                continue
            value = await self._value(old, name, held)
            if value != held or new is not None:
                values[name] = value
        for name, value in values.items():
            if new is not None:
                value = await self._lane.run(new.seal_and_try, name, value)  # noqa: PLW2901
            await self._files.replace(name, value)
        return len(values)

    async def _sealer(self, passphrase: Passphrase | None) -> Sealer | None:
        if passphrase is None:
            return None
        return Sealer(await self._lane.run(passphrase.read), self._random, self._cost)

    async def _opens(self, sealer: Sealer, name: str, held: bytes) -> bool:
        try:
            await self._lane.run(sealer.open, name, held)
        except WrongPassphrase:
            return False
        return True

    async def _value(self, old: Sealer | None, name: str, held: bytes) -> bytes:
        value = held
        if is_sealed(held):
            if old is None:
                raise WrongPassphrase(f"{name} is sealed, and no passphrase to open it is given")
            value = await self._lane.run(old.open, name, held)
        try:
            MasterKey.from_bytes(value)
        except KeyStoreFailed:
            raise KeyStoreFailed(f"{name} is no key: move it elsewhere") from None
        return value
