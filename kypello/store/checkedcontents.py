# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The contents that a check of a store looks at.
"""

from collections.abc import Sequence
from hashlib import md5

from attrs import define, evolve, frozen

from kypello.crypto.keys import Domain
from kypello.crypto.metadata import domain_of, is_encrypted
from kypello.errors import (
    Damaged,
    KeyStoreUnreachable,
    KMSForbidden,
    KMSUnavailable,
    KypelloError,
    StorageFailed,
)
from kypello.interfaces import IBlobs, IBodySource, ILane, IObjectStore
from kypello.store.beside import beside
from kypello.store.checkednames import HEX, CheckedNames
from kypello.store.findings import Findings, Problem, told
from kypello.store.records import BlobRecord, ObjectRecord, PartRecord, unpack

#: After how many bytes the reactor gets a turn, as what lies in memory is read without one.
_TURN = 16 * 1024 * 1024


@frozen
class Kept:
    """
    An object, or a part of an upload.

    :ivar parts: The blobs that hold the content.
    :ivar sealed: Whether the object is encrypted, and the store has the keys.
    """

    where: Problem
    parts: tuple[PartRecord, ...] = ()
    sealed: bool = False


@define(eq=False)
class CheckedContents:
    """
    Opens blobs, and reads and decrypts what is in them.

    :ivar _names: Those of the blobs that were looked at.
    :ivar _turns: Gives the reactor a turn.
    :ivar _deep: Whether to read contents.
    :ivar _store: Decrypts objects; ``None`` without keys.
    """

    _blobs: IBlobs
    _names: CheckedNames
    _findings: Findings
    _turns: ILane
    _deep: bool
    _store: IObjectStore | None

    def opens(self, record: ObjectRecord, found: bool) -> bool:
        """
        Whether an object is to be decrypted; those whose keys are not at hand are counted.

        :param found: Whether the store finds it.
        """
        entries = record.metadata.internal
        if not self._deep or not is_encrypted(entries):
            return False
        if domain_of(entries) is Domain.SSE_C:
            self._findings.figures.client_keys += 1
            return False
        if self._store is None or not found:
            self._findings.figures.not_decrypted += 1
            return False
        return True

    def compare(self, where: Problem, content: bytes, record: ObjectRecord) -> None:
        """
        Look at the content of a small object that is not to be decrypted.
        """
        if self._deep:
            self._findings.figures.read += len(content)
            if not fits(content, record):
                self._findings.say(where, "its content has another MD5 than its ETag")

    async def look_at(self, kept: Sequence[Kept]) -> None:
        """
        Look at the contents of several.
        """
        named = [part.blob for each in kept for part in each.parts if HEX.fullmatch(part.blob)]
        twice = await self._names.add([(blob, "") for blob in named])
        await beside(lambda each: self._whole(each, twice), kept)

    async def _whole(self, kept: Kept, twice: set[str]) -> None:
        sound = True
        for part in kept.parts:
            if part.blob in twice:
                self._findings.say(kept.where, f"blob {part.blob} is named by something else, too")
            sound &= await self._blob(kept.where, part, self._deep and not kept.sealed)
        if sound and kept.sealed and not await self._decrypt(kept.where):
            for part in kept.parts:
                await self._blob(kept.where, part, True)

    async def _blob(self, where: Problem, part: PartRecord, read: bool) -> bool:
        where = evolve(where, part=part.number)
        if not HEX.fullmatch(part.blob):
            self._findings.unreadable(where, f"its record names no blob: {part.blob}")
            return False
        try:
            blob = await self._blobs.open(part.blob)
            try:
                if blob.size != part.size:
                    size = f"{blob.size} bytes instead of {part.size}"
                    raise Damaged(f"blob {part.blob} has {size}")
                if self._deep:
                    unpack(BlobRecord, await self._blobs.describe(part.blob))
                if read:
                    await self._drain(blob.read(0, blob.size))
            finally:
                blob.close()
        except (Damaged, StorageFailed) as error:
            self._findings.say(where, told(error))
            return False
        return True

    async def _decrypt(self, where: Problem) -> bool:
        """
        Read an encrypted object to its end.

        :return: Whether there are keys to do so.
        """
        try:
            if self._store is not None:
                opened = await self._store.open(where.bucket, where.key, None, where.version)
                try:
                    await self._drain(await opened.read(None))
                finally:
                    opened.close()
                self._findings.figures.decrypted += 1
                return True
        except (KMSUnavailable, KMSForbidden, KeyStoreUnreachable) as error:
            if self._store is not None:
                self._store = None
                self._findings.say(Problem(), f"nothing is decrypted any more: {told(error)}")
        except KypelloError as error:
            self._findings.say(where, told(error))
            return True
        self._findings.figures.not_decrypted += 1
        return False

    async def _drain(self, source: IBodySource) -> None:
        unturned = 0
        try:
            while size := len(await source.read()):
                self._findings.figures.read += size
                unturned += size
                if unturned >= _TURN:
                    unturned = 0
                    await self._turns.run(int)
        finally:
            source.close()


def fits(content: bytes, record: ObjectRecord) -> bool:
    """
    Whether the content of a small object is that of its ETag, as far as that can tell.
    """
    etag = record.metadata.etag
    if is_encrypted(record.metadata.internal) or not HEX.fullmatch(etag):
        return True
    return md5(content, usedforsecurity=False).hexdigest() == etag
