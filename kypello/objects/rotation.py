# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Other keys for many objects: page by page, so that whoever asks can stop, and go on, at any time.

Nothing is kept of what was done, as the objects tell: what has the keys that it shall have is left.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from attrs import define, field, frozen

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
    NoSuchUpload,
    NoSuchVersion,
    PreconditionFailed,
    QuotaExceeded,
    StorageFailed,
    StorageFull,
)
from kypello.interfaces import ILane, IObjectStore, IRewrapping
from kypello.model import (
    DSSE,
    SSE_C,
    EncryptionRequest,
    ListedVersion,
    ObjectInfo,
    Sealing,
    UploadInfo,
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
_GONE = (IsDeleteMarker, NoSuchKey, NoSuchUpload, NoSuchVersion, PreconditionFailed)


@frozen
class Plan:
    """
    Which objects are to have which keys.

    :ivar key_name: The master key that they shall have.
    :ivar source: The master key that they have now; empty for any.
    :ivar algorithm: ``AES256`` or ``aws:kms``; empty for the one that each has.  What is in two
        layers stays so, as another number of them would be other content.
    :ivar context: For all but ``AES256``, what their keys are bound to; ``None`` for what each is.
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

    def choose(self, info: ObjectInfo | UploadInfo) -> EncryptionRequest | None:
        """
        The encryption that an object, or an upload, is to have; ``None`` to leave it as it is.
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
        key_id = f"arn:aws:kms:{self.key_name}"
        context = before.context if self.context is None else self.context
        if before.algorithm == DSSE:
            return EncryptionRequest(DSSE, key_id, context, bucket_key=False)
        if (self.algorithm or before.algorithm) == "AES256":
            return EncryptionRequest("AES256", self.key_name, bucket_key=True)
        shared = before.bucket_key or before.algorithm == "AES256"
        return EncryptionRequest("aws:kms", key_id, context, shared and not context)


@frozen
class Trouble:
    """
    A version, or an upload, whose key could not be changed, which stays as it was.

    :ivar id: Of either.
    """

    key: str
    id: str
    error: KypelloError


@define
class Page:
    """
    What became of some versions, or of some unfinished uploads.

    :ivar seen: How many there were; no delete markers.
    :ivar changed: How many got other keys, or are to get them.
    :ivar encrypted: How many of them were not encrypted before.
    :ivar plain: How many are not encrypted now.
    :ivar customers: How many have keys of their clients.
    :ivar troubles: What could not be changed.
    :ivar next: The key, and version or upload, that the next page follows; ``None`` at the end.
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
        if not (query.after_key or query.after_version):
            await self._begin(bucket, plan, dry)
        listing = await self._store.list_versions(bucket, query)
        versions = [version for version in listing.versions if not version.marker]
        page, crowded = Page(len(versions), next=listing.next), list[ListedVersion]()
        await for_each(versions, partial(self._change, plan, page, dry, crowded))
        for version in crowded:
            # Under a quota there may be room for one at a time.
            await self._change(plan, page, dry, None, version)
        return page

    async def uploads(self, bucket: str, query: UploadQuery, plan: Plan, *, dry: bool) -> Page:
        """
        Change one page of unfinished uploads; their objects have the keys that these have.

        Who changes uploads first and versions then leaves no object that was completed meanwhile.

        :param dry: As in :meth:`page`.
        :raises KypelloError: As :meth:`page`.
        """
        if not (query.after_key or query.after_upload):
            await self._begin(bucket, plan, dry)
        listing = await self._store.uploads(bucket, query)
        page = Page(next=listing.next)
        await for_each(listing.uploads, partial(self._change_upload, plan, page, dry))
        return page

    async def _begin(self, bucket: str, plan: Plan, dry: bool) -> None:
        if plan.again and not dry:
            # What was made before may be under an earlier version of the master key.
            await self._keys.renew(bucket)

    async def _change_upload(self, plan: Plan, page: Page, dry: bool, upload: UploadInfo) -> None:
        page.seen += 1
        sealing = upload.metadata.sealing
        if sealing is None:
            page.plain += 1
        elif sealing.algorithm == SSE_C:
            page.customers += 1
        elif (wanted := plan.choose(upload)) is not None:
            with self._told(plan, page, upload.key, upload.upload_id):
                if dry:
                    await self._see_accepted(upload.bucket, wanted)
                else:
                    await self._keys.rewrap_upload(
                        upload.bucket, upload.key, upload.upload_id, plan.choose
                    )
                page.changed += 1

    async def _change(
        self,
        plan: Plan,
        page: Page,
        dry: bool,
        crowded: list[ListedVersion] | None,
        version: ListedVersion,
    ) -> None:
        """
        Change one version.

        :param crowded: Takes it if there is no room to write it beside others.
        """
        info = version.info
        with self._told(plan, page, info.key, info.version_id):
            if info.metadata.sealing is None:
                try:
                    await self._encrypt(plan, page, dry, version)
                except QuotaExceeded:
                    if crowded is None:
                        raise
                    crowded.append(version)
            elif info.metadata.sealing.algorithm == SSE_C:
                page.customers += 1
            elif (wanted := plan.choose(info)) is not None:
                if dry:
                    await self._see_accepted(info.bucket, wanted)
                else:
                    await self._keys.rewrap(info.bucket, info.key, info.version_id, plan.choose)
                page.changed += 1

    async def _see_accepted(self, bucket: str, wanted: EncryptionRequest) -> None:
        """
        See that a bucket accepts an encryption, which names its master key.

        :raises Refused: It requires another one.
        """
        check_accepted(wanted, (await self._store.bucket(bucket)).settings, wanted.key_id)

    @contextmanager
    def _told(self, plan: Plan, page: Page, key: str, id_: str) -> Iterator[None]:
        """
        Have an error that concerns one thing only told in the page.
        """
        try:
            yield
        except _GONE:
            return
        except _FOR_ALL:
            raise
        except KypelloError as error:
            if isinstance(error, KeyNotFound) and error.name == plan.key_name:
                raise
            page.troubles.append(Trouble(key, id_, error))

    async def _encrypt(self, plan: Plan, page: Page, dry: bool, version: ListedVersion) -> None:
        """
        Write an object again, encrypted.  Where there are versions that makes a new one, and those
        below it stay as they are.
        """
        if plan.source or not (plan.plain and version.latest):
            page.plain += 1
            return
        info = version.info
        if dry:
            await self._see_accepted(info.bucket, plan.for_plain())
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
