# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Whether what was seen of a store can be explained: by operations that each happen in one
instant between their call and their answer.

What has no answer, as its process died, has happened wholly or not at all.
"""

from collections.abc import Hashable, Iterator
from typing import Any, Protocol

from attrs import define, field, frozen

from tests.store.model import State


class Operation(Protocol):
    """
    Something that is done with a store.
    """

    def apply(self, state: State) -> tuple[State, Hashable]:
        """
        What becomes of a state, and what the answer is.
        """


@frozen
class World:
    """
    One explanation of what was seen until now.

    :ivar done: The operations without an answer that have happened, each with the answer that
        it must give.
    """

    state: State
    done: frozenset[tuple[int, Hashable]] = frozenset()


@define(eq=False)
class History:
    """
    All explanations of what was seen until now.

    :ivar told: What was called and answered, for people.
    """

    worlds: set[World] = field(factory=lambda: {World(State())})
    told: list[str] = field(factory=list)
    _pending: dict[int, Operation] = field(factory=dict)
    _count: int = 0

    def begin(self, operation: Operation) -> int:
        """
        An operation is called.
        """
        self._count += 1
        self._pending[self._count] = operation
        self.told.append(f"{self._count}: {operation}")
        return self._count

    def end(self, number: int, answer: Hashable) -> None:
        """
        It is answered.

        :raises AssertionError: Nothing explains the answer.
        """
        self.told.append(f"{number}: -> {answer}")
        worlds = {
            World(world.state, world.done - {(number, answer)})
            for world in self._all(number)
            if (number, answer) in world.done
        }
        if not worlds:
            possible = {dict(world.done).get(number) for world in self._all(number)} - {None}
            raise AssertionError(
                "\n".join([*self.told, f"{number} should have been one of {possible}"])
            )
        self.worlds = worlds
        del self._pending[number]

    def lose(self, number: int) -> None:
        """
        It will have no answer, and has happened or not.
        """
        self.told.append(f"{number}: lost")
        self.worlds = {
            World(world.state, frozenset(each for each in world.done if each[0] != number))
            for world in self._all(number)
        }
        del self._pending[number]

    def _all(self, number: int) -> set[World]:
        """
        All worlds in which anything that is pending may have happened, *number* last if at all.
        """
        found = set(self.worlds)
        fresh = list(found)
        while fresh:
            world = fresh.pop()
            if number in dict(world.done):
                continue
            for other in self._next(world):
                if other not in found:
                    found.add(other)
                    fresh.append(other)
        return found

    def _next(self, world: World) -> Iterator[World]:
        done: dict[int, Any] = dict(world.done)
        for number, operation in self._pending.items():
            if number not in done:
                state, answer = operation.apply(world.state)
                yield World(state, world.done | {(number, answer)})
