# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key store in a directory whose files are sealed under a passphrase.

Who has the files alone has nothing.  Files that are not sealed are read as they are, and sealed
when a server starts.
"""

from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from kypello.crypto.masterkey import MasterKey
from kypello.crypto.randomness import Random
from kypello.errors import KeyNotFound, KeyStoreFailed
from kypello.interfaces import IKeyStore, ILane
from kypello.keystore.fs import FSKeyStore
from kypello.keystore.fsconfig import Passphrase
from kypello.keystore.seal import Cost, Sealer, WrongPassphrase, is_sealed

_log = Logger()


@implementer(IKeyStore)
@define(eq=False)
class SealedFSKeyStore:
    """
    Keys in sealed files.

    Nothing is written before the passphrase has opened what is sealed already: under another one
    the directory would hold keys that no single passphrase opens.

    :ivar _lane: Where the passphrase is read and used.
    :ivar _cost: Of files when none is sealed yet.
    """

    _files: FSKeyStore
    _passphrase: Passphrase
    _lane: ILane
    _random: Random
    _cost: Cost = field(factory=Cost)
    _sealer: Sealer | None = None
    _lock: DeferredLock = field(factory=DeferredLock)

    async def prepare(self) -> None:
        """
        Make the directory when it is missing, and seal what is not sealed.

        :raises WrongPassphrase: Nothing has changed.
        :raises KeyStoreFailed:
        """
        await self._files.make_directory()
        sealer = await self._proved()
        for name in await self._files.names():
            try:
                value = await self._files.raw(name)
                if is_sealed(value):
                    await self._lane.run(sealer.open, name, value)
                else:
                    await self._seal(sealer, name, value)
            except (KeyNotFound, KeyStoreFailed) as error:
                # Others can be used; it is told before somebody needs this one.
                _log.error("the key {name} cannot be used: {error}", name=name, error=error)

    async def create(self, name: str, value: bytes) -> None:
        """
        Seal and store a value; see :meth:`IKeyStore.create`.

        :raises InvalidKeyName: It is no file name.
        :raises KeyExists:
        :raises WrongPassphrase: That of other files; nothing has changed.
        """
        sealer = await self._proved()
        await self._files.create(name, await self._lane.run(sealer.seal, name, value))

    async def get(self, name: str) -> bytes:
        """
        Read and open a value; see :meth:`IKeyStore.get`.

        :raises InvalidKeyName: It is no file name.
        :raises KeyNotFound:
        :raises WrongPassphrase:
        """
        value = await self._files.raw(name)
        if not is_sealed(value):
            _log.warn("the key {name} is not sealed; the next start seals it", name=name)
            return value
        sealer = await self._proved()
        opened: bytes = await self._lane.run(sealer.open, name, value)
        return opened

    async def delete(self, name: str) -> None:
        """
        Remove a value; see :meth:`IKeyStore.delete`.

        :raises InvalidKeyName: It is no file name.
        :raises KeyNotFound:
        """
        await self._files.delete(name)

    async def names(self) -> Sequence[str]:
        """
        The names of all files that can be keys, sorted.
        """
        return await self._files.names()

    async def status(self) -> float:
        """
        Look whether the directory is there, and the passphrase opens what is in it.

        :raises KeyStoreUnreachable: The directory is not there.
        :raises WrongPassphrase:
        """
        took = await self._files.status()
        await self._proved()
        return took

    async def close(self) -> None:
        """
        There is nothing to release.
        """

    async def _proved(self) -> Sealer:
        """
        What seals and opens, with the passphrase that has opened a file, if any is sealed.
        """
        await self._lock.acquire()
        try:
            if self._sealer is None:
                passphrase = await self._lane.run(self._passphrase.read)
                sealer = Sealer(passphrase, self._random, self._cost)
                await self._prove(sealer)
                self._sealer = sealer
            return self._sealer
        finally:
            self._lock.release()

    async def _prove(self, sealer: Sealer) -> None:
        refusal: KeyStoreFailed | None = None
        for name in await self._files.names():
            value = await self._files.raw(name)
            if is_sealed(value):
                try:
                    await self._lane.run(sealer.open, name, value)
                    return
                except KeyStoreFailed as error:
                    # A damaged one does not tell whether the passphrase is right.
                    if not isinstance(refusal, WrongPassphrase):
                        refusal = error
        if refusal is not None:
            raise refusal

    async def _seal(self, sealer: Sealer, name: str, value: bytes) -> None:
        try:
            MasterKey.from_bytes(value)
        except KeyStoreFailed:
            _log.warn("the file {name} is no key and stays as it is", name=name)
            return
        await self._files.replace(name, await self._lane.run(sealer.seal_and_try, name, value))
        _log.info("the key {name} has been sealed under the passphrase", name=name)
