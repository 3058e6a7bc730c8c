# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Whether every encrypted object can be opened as it lies on the disk, with the keys at hand.

Each version is opened on its own, whatever it is remembered as: its data key by the KMS, its
sealed key, its metadata, and then all of its packages, whose plaintext must have the checksums
and the ETag that were sealed with it.  Of what a client has the key of, the packages are looked at.
"""

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import TypeAlias

from attrs import define, field, frozen

from kypello.crypto.keys import Domain
from kypello.crypto.metadata import domain_of, is_encrypted
from kypello.errors import (
    Damaged,
    InvalidKeyName,
    IsDeleteMarker,
    KeyMismatch,
    KeyNotFound,
    KeyStoreFailed,
    KeyStoreUnreachable,
    KMSForbidden,
    KMSNotConfigured,
    KMSUnavailable,
    KypelloError,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    NotAuthentic,
    StorageFailed,
)
from kypello.interfaces import IBodySource, ILane, IObjectStore
from kypello.model import BucketInfo, Buffer, ListedVersion, ObjectInfo, VersionQuery
from kypello.objects.contents import Contents, Streams
from kypello.objects.demands import Demands, Server
from kypello.objects.objectkeys import ObjectKeys

#: Versions that are listed at once.
_PAGE = 1000

#: Blocks up to this size, in bytes, are digested at once; less than the way to a lane and back.
_AT_ONCE = 16 * 1024

#: After how many bytes the reactor gets a turn.
_TURN = 4 * 1024 * 1024


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
    """

    kind: Kind
    bucket: str
    key: str = ""
    version: str = ""
    what: str = ""


@define
class Verified:
    """
    What was seen so far.

    :ivar versions: Of objects, but for delete markers.
    :ivar opened: Encrypted ones that are sound to their end.
    :ivar structure: Those of clients' keys whose packages are where they should be; that nobody
        changed them only the key tells.
    :ivar plain: Those that are not encrypted.
    :ivar vanished: Those that were removed meanwhile.
    :ivar bytes: Of content, as it lies on the disk or as it was decrypted.
    """

    buckets: int = 0
    versions: int = 0
    opened: int = 0
    structure: int = 0
    plain: int = 0
    vanished: int = 0
    bytes: int = 0
    damaged: int = 0
    missing_keys: int = 0
    wrong_keys: int = 0
    plaintext: int = 0
    refused: int = 0

    @property
    def findings(self) -> int:
        """
        How much is wrong.
        """
        wrong = self.damaged + self.missing_keys + self.wrong_keys
        return wrong + self.plaintext + self.refused


@frozen
class Position:
    """
    The version that was looked at last; what comes after it is left.
    """

    bucket: str = ""
    key: str = ""
    version: str = ""


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

_COUNTS = {
    Kind.DAMAGED: "damaged",
    Kind.MISSING_KEY: "missing_keys",
    Kind.WRONG_KEY: "wrong_keys",
    Kind.PLAINTEXT: "plaintext",
    Kind.REFUSED: "refused",
}

#: These say nothing of a single object: there is nobody who could open any.
_NOBODY = (KMSUnavailable, KMSForbidden, KeyStoreUnreachable)


@define(eq=False)
class Verifier:
    """
    Opens objects one after the other, in the order of their names, newest versions first.

    :ivar _below: The store, as it keeps objects.
    :ivar _above: The same store, decrypted.
    :ivar _keys: Opens the keys of objects.
    :ivar _lane: Digests large blocks, and gives the reactor a turn.
    :ivar _tell: Called with each finding.
    :ivar _pace: Called with the bytes of each block.
    :ivar _server: What it demands of objects beside their buckets.
    :ivar figures: Grow while it runs.
    :ivar position: Where it is.
    """

    _below: IObjectStore
    _above: IObjectStore
    _keys: ObjectKeys
    _lane: ILane
    _tell: Callable[[Finding], object]
    _pace: Pace
    _server: Server
    figures: Verified = field(factory=Verified)
    position: Position = field(factory=Position)
    _unturned: int = field(init=False, default=0)

    async def run(self, wanted: Wanted) -> None:
        """
        Look at what is wanted and comes after :attr:`position`.

        :raises NoSuchBucket: There is no such bucket.
        :raises KMSUnavailable: Nobody opens keys, as with :class:`KMSForbidden` and
            :class:`KeyStoreUnreachable`.  What was seen so far counts.
        :raises KypelloError: The buckets cannot be listed.
        """
        if wanted.bucket:
            buckets: Sequence[BucketInfo] = [await self._below.bucket(wanted.bucket)]
        else:
            buckets = sorted(await self._below.buckets(), key=lambda each: each.name)
        for info in buckets:
            if info.name >= self.position.bucket:
                await self._bucket(info, wanted.prefix)

    async def _bucket(self, info: BucketInfo, prefix: str) -> None:
        if info.name != self.position.bucket:
            self.position = Position(info.name)
            self.figures.buckets += 1
        demands = Demands.of(info, self._server)
        for what in demands.unreadable:
            self._say(Finding(Kind.DAMAGED, info.name, what=f"{what} cannot be read"))
        try:
            await self._versions(info, prefix, demands)
        except (Damaged, StorageFailed) as error:
            what = f"not all versions can be listed: {told(error)}"
            self._say(Finding(Kind.DAMAGED, info.name, what=what))
        except NoSuchBucket:
            # It was empty, or is by now.
            self.figures.vanished += 1

    async def _versions(self, info: BucketInfo, prefix: str, demands: Demands) -> None:
        following: tuple[str, str] | None = self.position.key, self.position.version
        while following is not None:
            query = VersionQuery(prefix, "", *following, limit=_PAGE)
            page = await self._below.list_versions(info.name, query)
            for each in page.versions:
                if not each.marker:
                    await self._version(demands, each)
                self.position = Position(info.name, each.info.key, each.info.version_id)
            following = page.next

    async def _version(self, demands: Demands, listed: ListedVersion) -> None:
        """
        Look at one version, and tell what is wrong with it.

        :raises KypelloError: It says nothing of this version.
        """
        stored = listed.info
        try:
            await self._verify(demands, stored)
        except (NoSuchKey, NoSuchVersion, NoSuchBucket, IsDeleteMarker):
            self.figures.vanished += 1
        except _NOBODY:
            raise
        except KeyMismatch as error:
            self._found(Kind.WRONG_KEY, stored, str(error))
        except KeyNotFound as error:
            self._found(Kind.MISSING_KEY, stored, str(error))
        except KMSNotConfigured:
            self._found(Kind.MISSING_KEY, stored, "no keys were given")
        except KeyStoreFailed as error:
            self._found(Kind.MISSING_KEY, stored, f"the master key cannot be read: {error.reason}")
        except InvalidKeyName:
            self._found(Kind.DAMAGED, stored, "it names a master key as none can be named")
        except (NotAuthentic, Damaged, StorageFailed) as error:
            self._found(Kind.DAMAGED, stored, told(error))
        self.figures.versions += 1

    async def _verify(self, demands: Demands, stored: ObjectInfo) -> None:
        entries = stored.metadata.internal
        encrypted = is_encrypted(entries)
        if not encrypted:
            self.figures.plain += 1
        elif domain_of(entries) is Domain.SSE_C:
            await self._look_at_packages(stored)
            self.figures.structure += 1
        else:
            await self._open(stored)
            self.figures.opened += 1
        against = demands.against(stored)
        if against:
            self._found(Kind.REFUSED if encrypted else Kind.PLAINTEXT, stored, against)

    async def _open(self, stored: ObjectInfo) -> None:
        """
        Open a version with a key of the KMS, and read it to its end.
        """
        bucket, key, version = stored.bucket, stored.key, stored.version_id
        # Also of what has no content the key must open.
        await self._keys.opening(bucket, key, stored.metadata.internal)()
        opened = await self._above.open(bucket, key, None, version)
        try:
            contents = Contents(opened.info)
            await self._drain(await opened.read(None), contents.feed)
        finally:
            opened.close()
        contents.finish()

    async def _look_at_packages(self, stored: ObjectInfo) -> None:
        opened = await self._below.open(stored.bucket, stored.key, None, stored.version_id)
        try:
            streams = Streams(opened.info)
            await self._drain(await opened.read(None), streams.feed)
        finally:
            opened.close()
        streams.finish()

    async def _drain(self, source: IBodySource, feed: Callable[[Buffer], None]) -> None:
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

    def _found(self, kind: Kind, stored: ObjectInfo, what: str) -> None:
        self._say(Finding(kind, stored.bucket, stored.key, stored.version_id, what))

    def _say(self, finding: Finding) -> None:
        name = _COUNTS[finding.kind]
        setattr(self.figures, name, getattr(self.figures, name) + 1)
        self._tell(finding)


def told(error: KypelloError) -> str:
    """
    What an error says, for people.
    """
    if isinstance(error, Damaged):
        return error.what
    if isinstance(error, StorageFailed):
        return error.reason
    if isinstance(error, NotAuthentic):
        return f"it is not authentic ({error.what})"
    return str(error)
