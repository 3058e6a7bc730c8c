# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What needs which master key, counted: before a key is retired, and when one is lost.

Every version, every unfinished upload and every setting is looked at, page by page, without a call
of the KMS.  What changes meanwhile counts as the walk met it.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import define, field, frozen

from kypello.crypto.keys import Domain
from kypello.crypto.metadata import KEY_NAME, domain_of, is_encrypted
from kypello.crypto.sse import SETTING, ServerSideEncryption, master_key_name
from kypello.errors import Damaged, NoSuchBucket, NoSuchUpload, Refused
from kypello.interfaces import IIndex, IObjectStore
from kypello.model import BucketInfo, UploadQuery, VersionQuery
from kypello.objects.bucketkeys import sealing_key
from kypello.objects.canary import Known, known_keys

#: Tells page by page how many events that wait need which master key.
Events: TypeAlias = Callable[[], AsyncIterator[Mapping[str, int]]]

#: How many parts are counted at a time.
_PARTS = 1000


@define
class BucketUse:
    """
    What of a bucket needs a master key.

    :ivar objects: Current versions.
    :ivar versions: All of them, the current ones included.
    :ivar uploads: That are unfinished.
    :ivar parts: Of these.
    :ivar metadata_key: Whether it seals the bucket's metadata key.
    :ivar default: Whether the default encryption of the bucket uses it, so that it is needed for
        new objects.
    """

    objects: int = 0
    versions: int = 0
    uploads: int = 0
    parts: int = 0
    metadata_key: bool = False
    default: bool = False

    @property
    def holds(self) -> bool:
        """
        Whether something could not be read without the key.
        """
        return bool(self.versions or self.uploads or self.metadata_key)


@define
class KeyUse:
    """
    What needs a master key.

    :ivar name: Empty for what does not tell its master key, since it is damaged.
    :ivar known: Since when it is used, and its fingerprint; ``None`` for one that was never used.
    :ivar default: Whether it is the default one of the server.
    :ivar accounts: Whether it seals the accounts.
    :ivar events: How many events that wait for their targets need it.
    :ivar buckets: By their names; those that do not need it are left out.
    """

    name: str
    known: Known | None = None
    default: bool = False
    accounts: bool = False
    events: int = 0
    buckets: dict[str, BucketUse] = field(factory=dict)

    @property
    def needed(self) -> bool:
        """
        Whether something could not be read without the key.
        """
        return self.accounts or bool(self.events) or any(use.holds for use in self.buckets.values())

    @property
    def named(self) -> bool:
        """
        Whether something new would be encrypted with it.
        """
        return self.default or any(use.default for use in self.buckets.values())

    def total(self, of: str) -> int:
        """
        The sum over all buckets of a number of :class:`BucketUse`, by its name.
        """
        return sum(int(getattr(use, of)) for use in self.buckets.values())

    def __str__(self) -> str:
        """
        Tell people what needs it.
        """
        held = sum(use.holds for use in self.buckets.values())
        told = [
            f"{self.total('objects')} objects ({self.total('versions')} versions) and"
            f" {self.total('uploads')} unfinished uploads in {held} buckets"
        ]
        if self.accounts:
            told.append("the accounts")
        if self.events:
            told.append(f"{self.events} events that wait for their targets")
        return " and ".join(told)


@frozen
class Progress:
    """
    How far a walk is.

    :ivar bucket: Which is looked at.
    :ivar buckets: How many there are.
    :ivar done: How many of them were looked at.
    :ivar versions: That were looked at, of all buckets.
    """

    bucket: str
    buckets: int
    done: int
    versions: int


@define(eq=False)
class KeyUsage:
    """
    Counts what needs which master key.

    :ivar _store: The store below the encryption.
    :ivar _index: Where the canaries are.
    :ivar _accounts: Tells which master key seals the accounts; empty when none does.
    :ivar _events: Tells how many waiting events need which master key, page by page.
    """

    _store: IObjectStore
    _index: IIndex
    _accounts: Callable[[], Awaitable[str]]
    _events: Events
    default_key: str

    def walk(self) -> "Walk":
        """
        Begin to count.
        """
        return Walk(self._store, self._index, self._accounts, self._events, self.default_key)

    async def waiting_events(self) -> Mapping[str, int]:
        """
        How many events that wait for their targets need which master key; an empty name stands for
        those that do not tell.

        :raises StorageFailed:
        """
        waiting: Counter[str] = Counter()
        async for page in self._events():
            waiting.update(page)
        return waiting

    async def of(self, key_name: str) -> KeyUse:
        """
        Count what needs one master key.

        :raises StorageFailed:
        :raises Damaged: What is kept of the keys is unreadable.
        """
        walk = self.walk()
        async for _ in walk.pages():
            pass
        return walk.found.get(key_name) or KeyUse(key_name)


@define(eq=False)
class Walk:
    """
    One count.

    :ivar found: The master keys by name; complete when :meth:`pages` has ended.
    """

    _store: IObjectStore
    _index: IIndex
    _accounts: Callable[[], Awaitable[str]]
    _events: Events
    _default_key: str
    found: dict[str, KeyUse] = field(init=False, factory=dict)
    _versions: int = field(init=False, default=0)

    async def pages(self) -> AsyncIterator[Progress]:
        """
        Look at everything; to be read to its end, once.

        :return: Gives the progress after each page.
        :raises StorageFailed:
        :raises Damaged: What is kept of the keys is unreadable.
        """
        self._key(self._default_key).default = True
        for known in await known_keys(self._index):
            self._key(known.name).known = known
        accounts = await self._accounts()
        if accounts:
            self._key(accounts).accounts = True
        buckets = await self._store.buckets()
        async for waiting in self._events():
            for name, count in waiting.items():
                self._key(name).events += count
            yield Progress("", len(buckets), 0, 0)
        for done, bucket in enumerate(buckets):
            self._settings(bucket)
            for pages in (self._all_versions(bucket.name), self._all_uploads(bucket.name)):
                try:
                    async for _ in pages:
                        yield Progress(bucket.name, len(buckets), done, self._versions)
                except NoSuchBucket:
                    # It was removed meanwhile: it was empty then.
                    self._forget(bucket.name)

    def _settings(self, bucket: BucketInfo) -> None:
        name = sealing_key(bucket)
        if name is not None:
            self._use(name, bucket.name).metadata_key = True
        setting = bucket.settings.get(SETTING)
        if setting is None:
            return
        try:
            default = ServerSideEncryption.from_bytes(setting)
            name = master_key_name(default.key_id) if default.key_id else self._default_key
        except (Damaged, Refused):
            name = ""
        self._use(name, bucket.name).default = True

    async def _all_versions(self, bucket: str) -> AsyncIterator[None]:
        query: VersionQuery | None = VersionQuery()
        while query is not None:
            page = await self._store.list_versions(bucket, query)
            for version in page.versions:
                name = _needed(version.info.metadata.internal)
                if name is not None:
                    use = self._use(name, bucket)
                    use.versions += 1
                    use.objects += version.latest
            self._versions += len(page.versions)
            yield
            query = None if page.next is None else VersionQuery("", "", *page.next)

    async def _all_uploads(self, bucket: str) -> AsyncIterator[None]:
        query: UploadQuery | None = UploadQuery()
        while query is not None:
            page = await self._store.uploads(bucket, query)
            for upload in page.uploads:
                name = _needed(upload.metadata.internal)
                if name is not None:
                    use = self._use(name, bucket)
                    use.uploads += 1
                    use.parts += await self._count_parts(bucket, upload.key, upload.upload_id)
                    yield
            query = None if page.next is None else UploadQuery("", "", *page.next)

    async def _count_parts(self, bucket: str, key: str, upload_id: str) -> int:
        count = after = 0
        try:
            while parts := await self._store.parts(bucket, key, upload_id, after, _PARTS):
                count += len(parts)
                after = parts[-1].number
        except NoSuchUpload:
            # It has ended meanwhile.
            return count
        return count

    def _key(self, name: str) -> KeyUse:
        return self.found.setdefault(name, KeyUse(name))

    def _use(self, name: str, bucket: str) -> BucketUse:
        return self._key(name).buckets.setdefault(bucket, BucketUse())

    def _forget(self, bucket: str) -> None:
        for key in self.found.values():
            key.buckets.pop(bucket, None)


def _needed(entries: Mapping[str, str]) -> str | None:
    """
    The master key that an object needs; ``None`` for one that needs none.
    """
    if not is_encrypted(entries) or domain_of(entries) is Domain.SSE_C:
        return None
    return entries.get(KEY_NAME, "")


def tell(keys: Sequence[KeyUse]) -> list[dict[str, Any]]:
    """
    The counts for programs: a member for each key, and each bucket in it.
    """
    return [
        {
            "name": key.name,
            "default": key.default,
            "fingerprint": key.known.fingerprint if key.known else "",
            "since": key.known.since if key.known else 0.0,
            "accounts": key.accounts,
            "events": key.events,
            "needed": key.needed,
            "objects": key.total("objects"),
            "versions": key.total("versions"),
            "uploads": key.total("uploads"),
            "parts": key.total("parts"),
            "metadataKeys": key.total("metadata_key"),
            "defaults": key.total("default"),
            "buckets": [
                {
                    "name": bucket,
                    "objects": use.objects,
                    "versions": use.versions,
                    "uploads": use.uploads,
                    "parts": use.parts,
                    "metadataKey": use.metadata_key,
                    "default": use.default,
                }
                for bucket, use in sorted(key.buckets.items())
            ],
        }
        for key in keys
    ]
