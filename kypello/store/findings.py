# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a check of a store finds.
"""

from collections.abc import Callable

from attrs import define, evolve, field, frozen

from kypello.errors import Damaged, KypelloError, NotAuthentic, StorageFailed


@frozen
class Problem:
    """
    Something that is not as it should be, and where; what is not known is empty.

    :ivar what: For people.
    :ivar part: Its number.
    :ivar orphan: Whether it is a blob that nothing names.
    """

    what: str = ""
    bucket: str = ""
    key: str = ""
    version: str = ""
    upload: str = ""
    part: int = 0
    orphan: bool = False


@define
class Figures:
    """
    What was found so far.

    :ivar parts: Of uploads, and of the objects that uploads became.
    :ivar bytes: Of content, as it is stored, that records tell of.
    :ivar read: Bytes of content that were read.
    :ivar decrypted: Objects that were decrypted to the end.
    :ivar client_keys: Encrypted objects whose clients have the keys.
    :ivar not_decrypted: Other encrypted objects that were not decrypted for want of keys.
    :ivar leftovers: Blobs and spaces that the sweeper will remove.
    :ivar undecided: Blobs that only a record that cannot be read may name.
    :ivar orphans: Other blobs that nothing names.
    :ivar problems: All else that is wrong.
    :ivar broken: Those of them that lie in the index, so that to rebuild it may help.
    """

    buckets: int = 0
    objects: int = 0
    parts: int = 0
    uploads: int = 0
    blobs: int = 0
    bytes: int = 0
    read: int = 0
    decrypted: int = 0
    client_keys: int = 0
    not_decrypted: int = 0
    leftovers: int = 0
    undecided: int = 0
    orphans: int = 0
    problems: int = 0
    broken: int = 0

    @property
    def sound(self) -> bool:
        """
        Whether all is well.
        """
        return not self.problems and not self.orphans


@define(eq=False)
class Findings:
    """
    Where all that is found goes.

    :ivar figures: Grow.
    :ivar unread: Buckets with records that cannot be read; an empty name stands for any.
    :ivar _tell: Called with each problem.
    :ivar _torn: Spaces of which it was told that not all can be read.
    """

    figures: Figures
    _tell: Callable[[Problem], object]
    unread: set[str] = field(init=False, factory=set)
    _torn: set[str] = field(init=False, factory=set)

    def say(self, where: Problem, what: str) -> None:
        """
        Tell of a problem.
        """
        self.figures.problems += 1
        self._tell(evolve(where, what=what))

    def broken(self, where: Problem, what: str) -> None:
        """
        Tell of a problem of the index itself.
        """
        self.figures.broken += 1
        self.say(where, what)

    def unreadable(self, where: Problem, what: str) -> None:
        """
        Tell of a record that cannot be read, so that nobody knows what it named.
        """
        self.unread.add(where.bucket)
        self.broken(where, what)

    def torn(self, space: str, bucket: str, error: KypelloError) -> None:
        """
        Tell, once, that not all of a space can be read.

        :param bucket: To which it belongs; empty for none.
        """
        if space not in self._torn:
            self._torn.add(space)
            self.unreadable(Problem(bucket=bucket), f"not all records can be read: {told(error)}")

    def unnamed(self, where: Problem, blob: str, bucket: str | None) -> None:
        """
        Tell of a blob that no record names, unless one that cannot be read may do so.

        :param bucket: To which it belongs; ``None`` if nobody knows.
        """
        if self.unread and (bucket is None or not self.unread.isdisjoint(("", bucket))):
            self.figures.undecided += 1
            return
        self.figures.orphans += 1
        self._tell(evolve(where, what=f"nothing names blob {blob}", orphan=True))


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
