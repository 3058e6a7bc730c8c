# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A bounded memory of what was made of policies.
"""

from collections.abc import Hashable, Iterable
from typing import Final, Generic, TypeVar

from attrs import define, field

from kypello.policy.document import Policy

V = TypeVar("V")

#: How much is kept, in bytes of the texts of policies; what these are read to takes up to twenty
#: times as much.
LIMIT: Final = 2 * 1024 * 1024

#: What counts for an entry beside its policies.
ENTRY: Final = 256


@define(eq=False)
class Lately(Generic[V]):
    """
    Some values, those that were used last.

    :ivar _limit: How much is kept, in bytes of the texts of policies.
    :ivar _size: Of all together.
    """

    _limit: int = LIMIT
    _values: dict[Hashable, tuple[V, int]] = field(init=False, factory=dict, repr=False)
    _size: int = field(init=False, default=0)

    def get(self, key: Hashable) -> V | None:
        """
        A value, if it is kept.
        """
        found = self._values.pop(key, None)
        if found is None:
            return None
        self._values[key] = found
        return found[0]

    def put(self, key: Hashable, value: V, policies: Iterable[Policy]) -> V:
        """
        Keep a value, in place of those that were used the longest time ago.

        :param policies: That it is made of.
        """
        self._forget(key)
        size = ENTRY + sum(len(policy.text) for policy in policies)
        self._values[key] = (value, size)
        self._size += size
        while self._size > self._limit:
            self._forget(next(iter(self._values)))
        return value

    def clear(self) -> None:
        """
        Forget all.
        """
        self._values.clear()
        self._size = 0

    def _forget(self, key: Hashable) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self._size -= found[1]
