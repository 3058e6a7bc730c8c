# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Work that goes to its end although its caller is cancelled.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

T = TypeVar("T")


async def undisturbed(work: Coroutine[Any, Any, T]) -> tuple[T, bool]:
    """
    Await *work*; a cancellation meanwhile does not reach it and does not end the waiting.

    A commit that was sent may happen; only its answer tells.  So what begins to commit waits
    for the answer, whoever has lost interest.

    :return: The result, and whether there was a cancellation that the caller may heed now.
    """
    waiting: Deferred[T] = Deferred()
    ended = cancelled = False

    def end(result: Any) -> None:
        """
        Hand the outcome to who waits now.
        """
        nonlocal ended
        ended = True
        waiting.callback(result)

    Deferred.fromCoroutine(work).addBoth(end)
    while True:
        try:
            return await waiting, cancelled
        except CancelledError:
            if ended:
                raise
            cancelled = True
            waiting = Deferred()
