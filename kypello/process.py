# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What daemons and commands have to do with the world around their process: systemd, signals, the
log.
"""

import ctypes
import errno
import gc
import os
import re
import resource
import signal
import socket
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from kypello.clockwatch import heed_clock
from kypello.errors import ConfigurationError
from kypello.textlog import TextLog

#: What to do about a port that cannot be had, by the error; the option stands for {}.
_ADVICE = {
    errno.EADDRINUSE: "Is another server running there? Choose another address with {}.",
    errno.EADDRNOTAVAIL: "This machine has no such address: name one of its own with {}, or none"
    " for all, as in :9000.",
    errno.EACCES: "Ports below 1024 are for root and for who has CAP_NET_BIND_SERVICE: give that"
    " to the server, or choose another port with {}.",
}

#: How many more objects are made than dropped before Python looks for cycles among the young
#: ones.  A page of a listing is below that.
_YOUNG = 50_000

#: From which size on, in bytes, freed memory goes back to the system at once: large buffers of
#: streams are above, everything else is below, also what a page of a listing is read into.
_LARGE = 1024 * 1024

#: How much freed memory at the end of a heap is kept, in bytes: what a page of a listing takes,
#: which otherwise the kernel would clear anew for each page.
_KEPT = 3 * 1024 * 1024

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

#: What there is, what there will be, and each page when it is first used (mlockall(2)).
_MCL_ALL = 1 | 2 | 4

_CAP_IPC_LOCK = 1 << 14

#: Too small for any file, and the one limit at which Linux starts no program that takes dumps
#: either (core(5)).
_NO_CORE = 1

#: Exit codes of a command that could not do its work, and of one that was interrupted.
IMPOSSIBLE, INTERRUPTED = 2, 130

_log = Logger()


def run_command(parser: ArgumentParser, arguments: Sequence[str]) -> int:
    """
    Run the command that arguments name, and print why it cannot be.

    :param parser: Leaves what runs the command in ``command``.
    :return: The exit code: that of the command, :data:`IMPOSSIBLE` or :data:`INTERRUPTED`.
    :raises SystemExit: The arguments make no command; the usage is printed.
    """
    options = parser.parse_args(arguments)
    try:
        command: Callable[[Namespace], int] = options.command
        return command(options)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            print(f"Error: {mistake}", file=sys.stderr)
        return IMPOSSIBLE
    except KeyboardInterrupt:
        # Before there was anything to end.
        return INTERRUPTED


def notify(state: str) -> None:
    """
    Tell systemd, when it waits for that, how the service is (sd_notify(3)).

    :param state: Such as ``READY=1``.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect(address)
        sender.send(state.encode())


def on_hangup(reactor: Any, call: Callable[[], object]) -> None:
    """
    Do something at ``SIGHUP``, which otherwise ends the process.
    """
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(call))


def lock_memory() -> bool:
    """
    Keep all memory of this process out of swap, what it will have too.

    Python copies what it works with, so that no single key could be kept out of it.

    :return: Whether it is so.  It is not where the process may not lock as much as it needs: later
        it would be refused memory then.
    """
    mlockall: Any = getattr(ctypes.CDLL(None), "mlockall", None)
    return _may_lock_all() and mlockall is not None and mlockall(_MCL_ALL) == 0


def forbid_core_dumps() -> None:
    """
    Have a crash of this process, and of those that it starts, leave no image of memory: keys of
    objects are in it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if soft and hard:
        resource.setrlimit(resource.RLIMIT_CORE, (_NO_CORE, hard))


def _may_lock_all() -> bool:
    _soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
        return True
    # For who has this capability the limit does not count (capabilities(7)).
    with suppress(OSError):
        status = Path("/proc/self/status").read_text("utf-8")
        found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
        return found is not None and bool(int(found.group(1), 16) & _CAP_IPC_LOCK)
    return False


def ready_with_keys() -> None:
    """
    Tell systemd that a server is ready that has keys in its memory, and keep these out of swap.
    """
    if not lock_memory():
        _log.info("keys in memory may go to swap: this process may not lock all of its memory")
    notify("READY=1")


def _heed_impatience() -> None:
    # Who presses Ctrl-C again does not want to wait for requests that are under way; a service
    # manager that repeats itself does.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def run(reactor: Any, service: IService, *, signals: bool = True) -> None:
    """
    Log to standard error and run a service until it is stopped; a crash leaves no image of memory.

    :param signals: Whether signals stop it.
    """
    globalLogBeginner.beginLoggingTo([TextLog(sys.stderr)], redirectStandardIO=False)
    forbid_core_dumps()
    heed_clock(reactor)
    _spare_the_collector()
    _give_back_large_buffers()
    reactor.callWhenRunning(service.startService)
    reactor.addSystemEventTrigger("before", "shutdown", notify, "STOPPING=1")
    if signals:
        reactor.addSystemEventTrigger("before", "shutdown", _heed_impatience)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run(installSignalHandlers=signals)


def react(work: Callable[[Any], Coroutine[Any, Any, None]]) -> Failure | None:
    """
    Run the reactor until *work* has ended, or a signal has ended it.

    :return: Why it failed; ``None`` when it has not.
    """
    from twisted.internet import reactor  # noqa: PLC0415  # installed when it is imported

    running: list[Deferred[Any]] = []
    outcomes: list[Any] = []

    def begin() -> None:
        running.append(Deferred.fromCoroutine(work(reactor)).addBoth(end))

    def end(outcome: Any) -> None:
        outcomes.append(outcome)
        with suppress(ReactorNotRunning):
            reactor.stop()

    def stop() -> "Deferred[Any] | None":
        for each in running:
            each.cancel()
            return each
        return None

    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", stop)
    reactor.run()
    outcome = outcomes[0] if outcomes else Failure(CancelledError())
    return outcome if isinstance(outcome, Failure) else None


def _spare_the_collector() -> None:
    """
    Let Python's collector look at what requests leave, not at the program again and again.

    Requests leave next to no cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)


def _give_back_large_buffers() -> None:
    """
    Keep the C library from keeping large buffers that were freed.

    That of GNU takes them for common after the first one, and then from memory that is hardly
    ever given back: a process keeps for good what its busiest moment has taken.
    """
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)


def why_not_listening(error: CannotListenError, option: str) -> str:
    """
    Why a server cannot listen, and what to do.

    :param option: What of the command line names the address.
    """
    host, port, why = error.interface or "*", error.port, error.socketError
    advice = _ADVICE.get(getattr(why, "errno", 0), "Choose another address with {}.")
    return (
        f"cannot listen on {host}:{port}: {getattr(why, 'strerror', why)}. {advice.format(option)}"
    )
