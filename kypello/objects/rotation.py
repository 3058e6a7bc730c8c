# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Other keys for many objects: page by page, so that whoever asks can stop, and go on, at any time.

Nothing is kept of what was done, as the objects tell: what has the keys that it shall have is left.
"""

from collections.abc import Mapping
from functools import partial

from attrs import define, evolve, field, frozen

from kypello.crypto.sse import check_accepted, master_key_name
from kypello.errors import (
    IsDeleteMarker,
    KeyNotFound,
    KMSForbidden,
    KMSNotConfigured,
    KMSUnavailable,
    KypelloError,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
    StorageFailed,
    StorageFull,
)
from kypello.interfaces import ILane, IObjectStore, IRewrapping
from kypello.model import (
    SSE_C,
    EncryptionRequest,
    ListedVersion,
    ObjectInfo,
    Sealing,
    UploadQuery,
    VersionQuery,
)
from kypello.objects.rewriting import Rewritten
from kypello.objects.workers import for_each

#: What fails for all objects when it fails for one.
_FOR_ALL = (
    KMSForbidden,
    KMSNotConfigured,
    KMSUnavailable,
    NoSuchBucket,
    StorageFailed,
    StorageFull,
)

#: Who comes between has removed or replaced the version: what it wrote is not concerned.
_GONE = (IsDeleteMarker, NoSuchKey, NoSuchVersion, PreconditionFailed)

#: How many unfinished uploads are counted at most.
_UPLOADS = 100_000


@frozen
class Plan:
    """
    Which objects are to have which keys.

    :ivar key_name: The master key that they shall have.
    :ivar source: The master key that they have now; empty for any.
    :ivar algorithm: ``AES256`` or ``aws:kms``; empty for the one that each has.
    :ivar context: For ``aws:kms``, what their keys are bound to; ``None`` for what each is.
    :ivar again: Also those that have all that already: the master key has another version.
    :ivar plain: Also those that are not encrypted, whose content is written again.
    """

    key_name: str
    source: str = ""
    algorithm: str = ""
    context: Mapping[str, str] | None = None
    again: bool = False
    plain: bool = False

    def concerns(self, key_name: str) -> bool:
        """
        Whether what is under a master key is to be under the one of this plan.
        """
        if self.source and key_name != self.source:
            return False
        return self.again or key_name != self.key_name

    def choose(self, info: ObjectInfo) -> EncryptionRequest | None:
        """
        The encryption that an object is to have; ``None`` to leave it as it is.
        """
        return self.wanted(info.metadata.sealing)

    def wanted(self, sealing: Sealing | None) -> EncryptionRequest | None:
        """
        The same for what is encrypted in some way.
        """
        if sealing is None or sealing.algorithm == SSE_C:
            return None
        name = master_key_name(sealing.key_id)
        if self.source and name != self.source:
            return None
        wanted = self._encryption(sealing)
        same = (wanted.algorithm, wanted.context) == (sealing.algorithm, sealing.context)
        return None if same and not self.concerns(name) else wanted

    def for_plain(self) -> EncryptionRequest:
        """
        The encryption that a plain object is to have.
        """
        return self._encryption(Sealing(self.algorithm or "AES256", bucket_key=True))

    def _encryption(self, before: Sealing) -> EncryptionRequest:
        if (self.algorithm or before.algorithm) == "AES256":
            return EncryptionRequest("AES256", self.key_name, bucket_key=True)
        context = before.context if self.context is None else self.context
        shared = before.bucket_key or before.algorithm == "AES256"
        key_id = f"arn:aws:kms:{self.key_name}"
        return EncryptionRequest("aws:kms", key_id, context, shared and not context)


@frozen
class Trouble:
    """
    A version whose key could not be changed, which stays as it was.
    """

    key: str
    version_id: str
    error: KypelloError


@define
class Page:
    """
    What became of some versions.

    :ivar seen: How many there were; no delete markers.
    :ivar changed: How many got other keys, or are to get them.
    :ivar encrypted: How many of them were not encrypted before.
    :ivar plain: How many are not encrypted now.
    :ivar customers: How many have keys of their clients.
    :ivar troubles: What could not be changed.
    :ivar next: The key and version that the next page follows; ``None`` at the end.
    """

    seen: int = 0
    changed: int = 0
    encrypted: int = 0
    plain: int = 0
    customers: int = 0
    troubles: list[Trouble] = field(factory=list)
    next: tuple[str, str] | None = None


@frozen(eq=False)
class Rotation:
    """
    Gives objects other keys.

    :ivar _store: As clients see it.
    :ivar _keys: What seals keys below that.
    :ivar _lane: Where content is digested that is written again.
    """

    _store: IObjectStore
    _keys: IRewrapping
    _lane: ILane

    async def page(self, bucket: str, query: VersionQuery, plan: Plan, *, dry: bool) -> Page:
        """
        Change one page of versions.

        :param dry: Change nothing: tell what would be changed.
        :raises KypelloError: Something that concerns them all; some may have been changed.
        """
        if plan.again and not dry:
            # What was made before may be under an earlier version of the master key.
            self._keys.renew()
        listing = await self._store.list_versions(bucket, query)
        page = Page(next=listing.next)
        settings = (await self._store.bucket(bucket)).settings
        await for_each(listing.versions, partial(self._change, plan, page, settings, dry))
        return page

    async def uploads(self, bucket: str, plan: Plan) -> int:
        """
        How many unfinished uploads have keys that are not changed: as long as they last, they need
        their master key.

        :raises NoSuchBucket:
        """
        found, query = 0, UploadQuery()
        while found < _UPLOADS:
            listing = await self._store.uploads(bucket, query)
            found += sum(
                plan.wanted(upload.metadata.sealing) is not None for upload in listing.uploads
            )
            if listing.next is None:
                break
            key, upload_id = listing.next
            query = evolve(query, after_key=key, after_upload=upload_id)
        return found

    async def _change(
        self,
        plan: Plan,
        page: Page,
        settings: Mapping[str, bytes],
        dry: bool,
        version: ListedVersion,
    ) -> None:
        if version.marker:
            return
        info = version.info
        page.seen += 1
        try:
            if info.metadata.sealing is None:
                await self._encrypt(plan, page, settings, dry, version)
            elif info.metadata.sealing.algorithm == SSE_C:
                page.customers += 1
            elif (wanted := plan.choose(info)) is not None:
                if dry:
                    check_accepted(wanted, settings, plan.key_name)
                else:
                    await self._keys.rewrap(info.bucket, info.key, info.version_id, plan.choose)
                page.changed += 1
        except _GONE:
            return
        except _FOR_ALL:
            raise
        except KypelloError as error:
            if isinstance(error, KeyNotFound) and error.name == plan.key_name:
                raise
            page.troubles.append(Trouble(info.key, info.version_id, error))

    async def _encrypt(
        self,
        plan: Plan,
        page: Page,
        settings: Mapping[str, bytes],
        dry: bool,
        version: ListedVersion,
    ) -> None:
        """
        Write an object again, encrypted.  Where there are versions that makes a new one, and those
        below it stay as they are.
        """
        if plan.source or not (plan.plain and version.latest):
            page.plain += 1
            return
        info = version.info
        if dry:
            check_accepted(plan.for_plain(), settings, plan.key_name)
        else:
            opened = await self._store.open(info.bucket, info.key, None, info.version_id)
            try:
                body = Rewritten(await opened.read(None), opened.info, self._lane)
                made = await self._store.put(
                    info.bucket,
                    info.key,
                    body,
                    body.describe,
                    plan.for_plain(),
                    partial(_see_the_same, info),
                )
            finally:
                opened.close()
            if plan.choose(made) is not None:
                # With SSE-S3 a client cannot name a master key, so it has the default one.
                await self._keys.rewrap(made.bucket, made.key, made.version_id, plan.choose)
            page.plain += made.version_id != info.version_id
        page.changed += 1
        page.encrypted += 1


def _see_the_same(info: ObjectInfo, current: ObjectInfo | None) -> None:
    if current is None or (current.version_id, current.modified, current.etag) != (
        info.version_id,
        info.modified,
        info.etag,
    ):
        raise PreconditionFailed("another version")
