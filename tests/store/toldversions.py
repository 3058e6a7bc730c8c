# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a process that is killed told of its versions, and what must therefore be found.

It prints ``B key what ...`` before each step and ``A key what ...`` after it; *what* is
``put size seed`` or ``mark``, whose answers tell the version, too, or ``remove version``.  Each key
has one writer, so that one step at most has no answer.
"""

from attrs import define, field

from kypello.interfaces import IObjectStore
from kypello.model import VersionQuery
from tests.contracts.object_store import pattern

#: Keys with versions begin so, and their bucket is called so.
PREFIX, BUCKET = "v-", "versioned"

#: A version: its id, and size and seed of its content; ``None`` for a delete marker.
Version = tuple[str, tuple[int, int] | None]


async def found_versions(store: IObjectStore, key: str) -> list[Version]:
    """
    The versions of a key, the newest first.
    """
    listing = await store.list_versions(BUCKET, VersionQuery(key, limit=1000))
    return [
        (each.info.version_id, None if each.marker else (each.info.size, int(each.info.etag)))
        for each in listing.versions
    ]


@define(eq=False)
class ToldVersions:
    """
    The versions of one key.

    :ivar stack: The newest first.
    :ivar pending: The step that was begun and not answered.
    """

    key: str
    stack: list[Version] = field(factory=list)
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

    def apply(self, what: str, *arguments: str) -> None:
        """
        Take a step.
        """
        *numbers, version_id = arguments
        if what == "remove":
            self.stack = [each for each in self.stack if each[0] != version_id]
        elif what == "mark":
            self.stack.insert(0, (version_id, None))
        else:
            size, seed = map(int, numbers)
            self.stack.insert(0, (version_id, (size, seed)))

    async def check(self, store: IObjectStore) -> str:
        """
        Compare with what is found, and settle what is pending.

        :return: What is wrong; empty for nothing.
        """
        found = await found_versions(store, self.key)
        known = {version_id for version_id, _ in self.stack}
        what, *arguments = self.pending or [""]
        if what in ("put", "mark") and found and found[0][0] not in known:
            self.apply(what, *arguments, found[0][0])
        elif what == "remove" and arguments[0] not in {version_id for version_id, _ in found}:
            self.apply(what, *arguments)
        self.pending = []
        if found != self.stack:
            return f"versions {found} in place of {self.stack}"
        for version_id, content in found:
            if content is not None:
                opened = await store.open(BUCKET, self.key, None, version_id)
                try:
                    source = await opened.read(None)
                    data = bytearray()
                    while block := await source.read():
                        data += block
                finally:
                    opened.close()
                if bytes(data) != pattern(*content):
                    return f"another content of version {version_id}"
        return ""
