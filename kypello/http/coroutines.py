# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Coroutines that rarely wait.
"""

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


def begin(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T] | None:
    """
    Run a coroutine to its end, or to where it has to wait.

    What never waits costs a call then, and no Deferred.

    :return: ``None`` when it has ended; else what fires at its end, and cancels it.
    :raises Exception: What it raises before it waits.
    """
    try:
        waited_for = coroutine.send(None)
    except StopIteration:
        return None
    return Deferred.fromCoroutine(_rest(coroutine, waited_for))


def _rest(
    coroutine: Coroutine[Deferred[Any], Any, T], waited_for: Deferred[Any]
) -> Generator[Deferred[Any], Any, T]:
    """
    What is left of a coroutine that waits, as a generator: what comes for it is handed on.
    """
    while True:
        step: Callable[[Any], Deferred[Any]]
        try:
            step, came = coroutine.send, (yield waited_for)
        except GeneratorExit:
            # Nobody waits for this any more, and the collector closes the coroutine in its turn.
            raise
        except BaseException as error:
            step, came = coroutine.throw, error
        try:
            waited_for = step(came)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # a StopIteration knows no type
        finally:
            # An error holds the frames that it came through, and they hold the request.
            del came
