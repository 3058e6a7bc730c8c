# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is found when everything that is encrypted is opened, and how errors become findings.
"""

from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum
from itertools import count
from typing import Any, TypeAlias

from attrs import define, evolve, field, frozen

from kypello.errors import (
    Damaged,
    InvalidKeyName,
    IsDeleteMarker,
    KeyMismatch,
    KeyNotFound,
    KeyStoreFailed,
    KMSForbidden,
    KMSNotConfigured,
    KMSUnavailable,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    NotAuthentic,
    StorageFailed,
)
from kypello.interfaces import IBodySource, ILane
from kypello.model import Buffer
from kypello.store.findings import told

#: Blocks up to this size, in bytes, are digested at once; less than the way to a lane and back.
_AT_ONCE = 16 * 1024

#: After how many bytes the reactor gets a turn.
_TURN = 4 * 1024 * 1024

_VANISHED = (NoSuchKey, NoSuchVersion, NoSuchUpload, NoSuchBucket, IsDeleteMarker)


class Kind(Enum):
    """
    What may be wrong with an object.
    """

    #: It is not what was written.
    DAMAGED = "damaged"
    #: Nobody has the master key.
    MISSING_KEY = "missing key"
    #: Another master key has its name.
    WRONG_KEY = "wrong key"
    #: The key server does not let us use the master key.
    FORBIDDEN_KEY = "key forbidden"
    #: It lies in clear, and its bucket, or the server, encrypts what comes, or refuses it.
    PLAINTEXT = "plaintext"
    #: It is encrypted in a way that its bucket refuses.
    REFUSED = "refused encryption"


@frozen
class Finding:
    """
    Something that is wrong, and where.

    :ivar what: For people.
    :ivar key: Empty for a whole bucket.
    :ivar upload: An unfinished one; empty for a version.
    :ivar part: Of that; 0 for all of it.
    """

    kind: Kind
    bucket: str
    key: str = ""
    version: str = ""
    what: str = ""
    upload: str = ""
    part: int = 0


@define
class Verified:
    """
    What was seen so far.

    :ivar versions: Of objects, but for delete markers.
    :ivar opened: Encrypted ones that are sound to their end.
    :ivar structure: Those of clients' keys whose packages are where they should be; that nobody
        changed them only the key tells.
    :ivar plain: Those that are not encrypted.
    :ivar uploads: That are unfinished.
    :ivar parts: Of these; encrypted ones that are sound to their end.
    :ivar parts_structure: As *structure*, of these.
    :ivar vanished: What was removed, or completed, meanwhile.
    :ivar bytes: Of content, as it lies on the disk or as it was decrypted.
    """

    buckets: int = 0
    versions: int = 0
    opened: int = 0
    structure: int = 0
    plain: int = 0
    uploads: int = 0
    parts: int = 0
    parts_structure: int = 0
    vanished: int = 0
    bytes: int = 0
    damaged: int = 0
    missing_keys: int = 0
    wrong_keys: int = 0
    forbidden_keys: int = 0
    plaintext: int = 0
    refused: int = 0

    @property
    def findings(self) -> int:
        """
        How much is wrong.
        """
        return sum(getattr(self, name) for name in COUNTS.values())


#: What counts findings of each kind.
COUNTS = {
    Kind.DAMAGED: "damaged",
    Kind.MISSING_KEY: "missing_keys",
    Kind.WRONG_KEY: "wrong_keys",
    Kind.FORBIDDEN_KEY: "forbidden_keys",
    Kind.PLAINTEXT: "plaintext",
    Kind.REFUSED: "refused",
}


@frozen
class Position:
    """
    The version, or unfinished upload, that was looked at last; what comes after it is left.  In a
    bucket uploads come after versions.
    """

    bucket: str = ""
    key: str = ""
    version: str = ""
    upload: str = ""


@frozen
class Wanted:
    """
    What is to be verified.

    :ivar bucket: Empty for all.
    :ivar prefix: Of its keys.
    """

    bucket: str = ""
    prefix: str = ""


#: Waits until so many bytes may have been read.
Pace: TypeAlias = Callable[[int], Awaitable[None]]

#: Waits while no key server answers; given why, and how often one was waited for in vain.  Gives
#: whether to try again.
Patience: TypeAlias = Callable[[KMSUnavailable, int], Awaitable[bool]]


@define(eq=False)
class Judge:
    """
    Looks at one thing at a time, and tells what is wrong with it.

    :ivar _lane: Digests large blocks, and gives the reactor a turn.
    :ivar _tell: Called with each finding.
    :ivar _pace: Called with the bytes of each block.
    :ivar _patience: Called when no key server answers.
    :ivar figures: Grow while it runs.
    """

    _lane: ILane
    _tell: Callable[[Finding], object]
    _pace: Pace
    _patience: Patience
    figures: Verified = field(factory=Verified)
    _unturned: int = field(init=False, default=0)

    async def look(self, where: Finding, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """
        Look at something.

        :param where: That; its kind and words are those of what is found.
        :param work: Raises what is wrong; is called again when no key server answered.
        :return: Whether it is sound.
        :raises KMSUnavailable: Nobody opens keys, for longer than there is patience.
        :raises KypelloError: It says nothing of this thing.
        """
        try:
            await self._patiently(work)
        except _VANISHED:
            self.figures.vanished += 1
        except KeyMismatch as error:
            self.found(where, Kind.WRONG_KEY, str(error))
        except KeyNotFound as error:
            self.found(where, Kind.MISSING_KEY, str(error))
        except KMSForbidden as error:
            self.found(where, Kind.FORBIDDEN_KEY, str(error))
        except KMSNotConfigured:
            self.found(where, Kind.MISSING_KEY, "no keys were given")
        except KeyStoreFailed as error:
            self.found(where, Kind.MISSING_KEY, f"the master key cannot be read: {error.reason}")
        except InvalidKeyName:
            self.found(where, Kind.DAMAGED, "it names a master key as none can be named")
        except (NotAuthentic, Damaged, StorageFailed) as error:
            self.found(where, Kind.DAMAGED, told(error))
        else:
            return True
        return False

    async def drain(self, source: IBodySource, feed: Callable[[Buffer], None]) -> None:
        """
        Read all of a source.

        :raises KypelloError: What the source, or *feed*, raises.
        """
        try:
            while size := len(block := await source.read()):
                if size <= _AT_ONCE:
                    feed(block)
                else:
                    await self._lane.run(feed, block)
                # What is overwritten next is not held.
                del block
                self.figures.bytes += size
                self._unturned += size
                if self._unturned >= _TURN:
                    self._unturned = 0
                    await self._lane.run(int)
                await self._pace(size)
        finally:
            source.close()

    def found(self, where: Finding, kind: Kind, what: str) -> None:
        """
        Tell what is wrong.
        """
        name = COUNTS[kind]
        setattr(self.figures, name, getattr(self.figures, name) + 1)
        self._tell(evolve(where, kind=kind, what=what))

    async def _patiently(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        for tries in count():
            try:
                return await work()
            except KMSUnavailable as error:
                if not await self._patience(error, tries):
                    raise
        raise AssertionError
