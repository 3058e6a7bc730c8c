# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a process that is killed told of its uploads, and what must therefore be found.

It prints ``B key what ...`` before each step and ``A key what ...`` after it; *what* is
``begin``, ``part upload number size seed``, ``complete upload seed`` or ``abort upload``, and the
answer to ``begin`` tells the upload.  Each key has one writer, so that one step at most has no
answer.
"""

import random

from attrs import define, field

from kypello.errors import NoSuchKey, NoSuchUpload
from kypello.interfaces import IObjectStore
from kypello.model import Assembly, ObjectInfo, ObjectMetadata, PartInfo, UploadInfo, UploadQuery
from tests.contracts.object_store import pattern

#: Keys of uploads begin so.
PREFIX = "up-"

#: Size and seed of the content of each part, by number.
Content = dict[int, tuple[int, int]]


async def finish(store: IObjectStore, key: str, upload_id: str, seed: int) -> ObjectInfo:
    """
    Complete an upload with all its parts; the ETag of the object is the seed.
    """

    def assemble(_: UploadInfo, parts: tuple[PartInfo, ...]) -> Assembly:
        """
        Take all.
        """
        return Assembly(tuple(part.number for part in parts), ObjectMetadata(str(seed)))

    return await store.complete_upload("b", key, upload_id, b"%d" % seed, assemble)


def content_of(parts: tuple[PartInfo, ...]) -> Content:
    """
    What parts hold.
    """
    return {part.number: (part.size, int(part.etag)) for part in parts}


@define(eq=False)
class Told:
    """
    The uploads and the object of one key.

    :ivar made: ETag of the object, and what it was made of; ``None`` for no object.
    :ivar by: The upload that made it.
    :ivar uploads: Those that are not finished.
    :ivar pending: The step that was begun and not answered.
    """

    key: str
    made: tuple[str, Content] | None = None
    by: str = ""
    uploads: dict[str, Content] = field(factory=dict)
    pending: list[str] = field(factory=list)

    def note(self, told: str, what: list[str]) -> None:
        """
        Note one line.
        """
        if told == "B":
            self.pending = what
        else:
            self.pending = []
            self.apply(*what)

    def apply(self, what: str, upload_id: str, *numbers: str) -> None:
        """
        Take a step.
        """
        if what == "begin":
            self.uploads[upload_id] = {}
        elif what == "part":
            number, size, seed = map(int, numbers)
            self.uploads[upload_id][number] = size, seed
        elif what == "complete":
            content = self.uploads.pop(upload_id)
            self.made, self.by = (numbers[0], dict(sorted(content.items()))), upload_id
        else:
            del self.uploads[upload_id]

    async def check(self, store: IObjectStore, chance: random.Random) -> str:
        """
        Compare with what is found, and settle what is pending.

        :return: What is wrong; empty for nothing.
        """
        listing = await store.uploads("b", UploadQuery(self.key))
        found = [upload.upload_id for upload in listing.uploads]
        what, *arguments = self.pending or [""]
        if what == "begin":
            for upload_id in set(found) - set(self.uploads):
                self.apply("begin", upload_id)
        elif what == "part":
            upload_id, number, size, seed = arguments
            parts = content_of(tuple(await store.parts("b", self.key, upload_id, 0, 10_000)))
            if parts.get(int(number)) == (int(size), int(seed)):
                self.apply("part", *arguments)
        elif what and arguments[0] not in found:
            self.apply(what, *arguments)
        elif what == "complete" and chance.random() < 0.5:
            # The client asks again.
            await finish(store, self.key, arguments[0], int(arguments[1]))
            found.remove(arguments[0])
            self.apply(what, *arguments)
        self.pending = []
        if sorted(found) != sorted(self.uploads):
            return f"uploads {found} in place of {list(self.uploads)}"
        for upload_id, expected in self.uploads.items():
            parts = content_of(tuple(await store.parts("b", self.key, upload_id, 0, 10_000)))
            if parts != expected:
                return f"upload {upload_id} has {parts} in place of {expected}"
        return await self.check_object(store)

    async def check_object(self, store: IObjectStore) -> str:
        """
        Compare the object, its content and what a repeated Complete tells of it.
        """
        try:
            opened = await store.open("b", self.key)
        except NoSuchKey:
            return "" if self.made is None else f"no object in place of {self.made}"
        try:
            info = opened.info
            if self.made != (info.etag, content_of(info.parts)):
                return f"object {info} in place of {self.made}"
            source = await opened.read(None)
            data = bytearray()
            while block := await source.read():
                data += block
        finally:
            opened.close()
        if bytes(data) != b"".join(pattern(*each) for each in self.made[1].values()):
            return "another content"
        if await finish(store, self.key, self.by, int(info.etag)) != info:
            return "another answer to the same request"
        try:
            await finish(store, self.key, self.by, 0)
        except NoSuchUpload:
            return ""
        return "completed twice"
