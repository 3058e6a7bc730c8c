# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Several things done at once, and not too many.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

#: How many are under way at once.
AT_ONCE = 16

_Item = TypeVar("_Item")


async def for_each(
    items: Iterable[_Item], work: Callable[[_Item], Coroutine[Deferred[Any], Any, None]]
) -> None:
    """
    Do *work* for all items, beginning in their order; the first failure ends all.

    :param work: Must survive that its other calls are cancelled.
    :raises Exception: What *work* raises.
    """
    waiting = iter(items)

    async def do_next() -> None:
        """
        Work on until nothing waits.
        """
        for item in waiting:
            await work(item)

    workers = [Deferred.fromCoroutine(do_next()) for _ in range(AT_ONCE)]
    try:
        await gatherResults(workers, consumeErrors=True)
    except FirstError as error:
        # Whoever cancels, or words an unexpected failure, wants to see that one.
        error.subFailure.raiseException()
    finally:
        for worker in workers:
            worker.cancel()
