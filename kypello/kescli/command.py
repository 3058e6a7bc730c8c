# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What all commands of the key server have in common.
"""

import signal
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError

from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.process import react


class CommandError(Exception):
    """
    A command that cannot do what it was asked; its text is for people.
    """


def finish(work: Callable[[Any], Coroutine[Any, Any, None]], interrupted: str) -> None:
    """
    Run the reactor until *work* has ended.

    :param interrupted: What to tell who has stopped it; nothing where that is its usual end.
    :raises CommandError: It has failed.
    """
    failure = react(work)
    if failure is None:
        return
    error = failure.value
    if isinstance(error, KeyStoreFailed | KeyStoreUnreachable):
        raise CommandError(error.reason)
    if failure.check(CancelledError):
        if interrupted:
            raise CommandError(interrupted)
        return
    failure.raiseException()


def asked(ask: Callable[[str], str], question: str) -> str:
    """
    Ask the person at the terminal while the reactor runs.

    :raises CommandError: They do not want to answer.
    """
    # The reactor's handler would only take note of an interrupt, and go on to wait.
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return ask(question)
    except (KeyboardInterrupt, EOFError):
        raise CommandError("interrupted") from None
    finally:
        signal.signal(signal.SIGINT, before)


def printable(text: str) -> str:
    """
    Text of others, so that it cannot move the cursor of a terminal.
    """
    return "".join(one if one.isprintable() else "?" for one in text)
