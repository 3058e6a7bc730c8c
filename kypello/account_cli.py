# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello user``, ``group``, ``policy``, ``key``, ``iam`` and ``bucket``: what administrators do.

They ask a running server over its administration API, as ``mc admin`` does.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from getpass import getpass
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError

from kypello.admincli.arguments import parser
from kypello.admincli.screen import Screen
from kypello.admincli.target import (
    CommandError,
    Surroundings,
    Wanted,
    find_access,
    make_agent,
)
from kypello.admincli.work import Work, gather
from kypello.adminclient import AdminClient
from kypello.crypto.randomness import Random
from kypello.errors import KypelloError
from kypello.process import react
from kypello.store.lanes import Lanes

_INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """
    Run one command.

    :param arguments: Those behind ``kypello``.
    :return: The exit code.
    :raises SystemExit: The arguments make no command; the usage is printed.
    """
    options = parser().parse_args(arguments)
    ask = getpass if sys.stdin.isatty() else None
    around = Surroundings(os.environ, _read, ask, Path.home())
    try:
        return execute(options, around, Screen(sys.stdout, sys.stderr, options.json), os.urandom)
    except (CommandError, KypelloError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Nobody reads on; nor shall the interpreter complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, CancelledError):
        return _INTERRUPTED


def execute(options: Namespace, around: Surroundings, screen: Screen, random: Random) -> int:
    """
    Run the reactor until a command has ended.

    :return: The exit code.
    :raises CommandError: It cannot be done.
    :raises KypelloError: The server does not answer, or refuses.
    :raises CancelledError: A signal has ended it.
    """
    wanted = Wanted(
        options.endpoint, options.alias, options.as_key, options.as_secret_file, options.ca
    )
    access = find_access(wanted, around)
    inputs = gather(options, around, random)
    codes: list[int] = []

    async def work(reactor: Any) -> None:
        agent = make_agent(reactor, options.ca, around)
        lanes = Lanes(reactor, 1)
        lanes.start()
        try:
            client = AdminClient(access, agent, reactor, lanes.lane(), random)
            codes.append(await options.run(Work(client, options, inputs, screen)))
        finally:
            await lanes.stop()

    failure = react(work)
    if failure is not None:
        failure.raiseException()
    return codes[0]


def _read(file: str) -> str | None:
    if file == "-":
        return sys.stdin.read()
    path = Path(file)
    return path.read_text(encoding="utf-8") if path.exists() else None
