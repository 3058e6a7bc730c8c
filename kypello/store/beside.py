# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Work on several things beside each other.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

#: How many are worked on at once.
_AT_ONCE = 8

T = TypeVar("T")


async def beside(work: Callable[[T], Awaitable[None]], things: Sequence[T]) -> None:
    """
    Do *work* on each of several things, some at once.  When it fails for one, the rest is given
    up.
    """
    waiting = iter(things)

    async def go() -> None:
        """
        Work on one after the other.
        """
        for each in waiting:
            await work(each)

    workers = [Deferred.fromCoroutine(go()) for _ in range(min(_AT_ONCE, len(things)))]
    try:
        await gatherResults(workers, consumeErrors=True)
    except FirstError as error:
        for worker in workers:
            worker.cancel()
        error.subFailure.raiseException()
