# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello store``: the commands for a data directory whose server is off.
"""

import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from kypello.errors import ConfigurationError, KypelloError
from kypello.interfaces import IObjectStore
from kypello.kms.connect import KESClient
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.process import INTERRUPTED, react, run_command
from kypello.service import THREADS
from kypello.store.check import Checker
from kypello.store.files import FileBlobs
from kypello.store.lanes import Lanes
from kypello.store.layout import LayoutStore
from kypello.store.readonly import ReadOnly, examine, held
from kypello.store.records import SYSTEM
from kypello.store.sqlite import SQLiteIndex
from kypello.storekeys import Keys, find_keys, make_kms
from kypello.storerebuild import rebuild_directory
from kypello.storereport import Report

_UNSOUND = 1

#: How often the progress is shown, in seconds.
_SHOWN = 0.5

_EPILOG = """\
Nothing in DIR is changed. No server may use it meanwhile: stop it, or check a copy.

With --deep, encrypted objects are decrypted to the end with the keys of the server: set
MINIO_KMS_KES_... or MINIO_KMS_SECRET_KEY as for kypello server. Without these, the keys in
DIR/kes are used, if there are any.

Exit code: 0 when all is sound, 1 when something is wrong, 2 when DIR cannot be checked.
"""

_REBUILD_EPILOG = """\
The index is made of what can still be read of the old one, and of what lies beside the blobs.
Small objects, of up to 64 KiB, lie in the index only. No server may use DIR meanwhile.

The old index, and blobs that belong to nothing, are moved to DIR/set-aside-N. If the command is
interrupted, run it again. With --dry-run, only DIR/rebuilding is written, and removed.

Exit code: 0 when nothing is lost, 1 when something is, 2 when the index cannot be rebuilt.
"""


def main(arguments: Sequence[str]) -> int:
    """
    Run one command.

    :param arguments: Those behind ``kypello store``.
    :return: The exit code.
    :raises SystemExit: The arguments make no command; the usage is printed.
    """
    return run_command(_parser(), arguments)


def check(options: Namespace) -> int:
    """
    Check a data directory.

    :raises ConfigurationError: It cannot be checked; says why.
    """
    directory, deep = options.directory, options.deep
    report = Report(sys.stdout, sys.stderr, options.json)
    with held(directory):
        keys = find_keys(directory, os.environ) if deep else Keys()
        outcome = react(lambda reactor: check_directory(reactor, directory, deep, keys, report))
    return _exit_code(outcome, report, directory, "checked", "the check is not complete")


def rebuild(options: Namespace) -> int:
    """
    Make the index of a data directory anew.

    :raises ConfigurationError: It cannot be made; says why.
    """
    directory, dry_run = options.directory, options.dry_run
    report = Report(sys.stdout, sys.stderr, options.json)
    with held(directory, rebuild=True):
        outcome = react(lambda reactor: rebuild_directory(reactor, directory, dry_run, report))
    return _exit_code(outcome, report, directory, "rebuilt", "run it again")


def _exit_code(
    outcome: Failure | None, report: Report, directory: Path, done: str, interrupted: str
) -> int:
    """
    How a command ends.

    :param done: What was to be done with the directory.
    :param interrupted: What to say after Ctrl-C.
    :raises ConfigurationError: It was impossible.
    """
    if outcome is None:
        return 0 if report.sound else _UNSOUND
    report.clear()
    if outcome.check(BrokenPipeError):
        # Nobody reads on; nor shall the interpreter complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNSOUND
    if outcome.check(CancelledError):
        print(f"Interrupted: {interrupted}.", file=sys.stderr)
        return INTERRUPTED
    if not outcome.check(KypelloError):
        outcome.raiseException()
    raise ConfigurationError((f"{directory} cannot be {done}: {outcome.value}",))


async def check_directory(
    reactor: Any, directory: Path, deep: bool, keys: Keys, report: Report
) -> None:
    """
    Check what is in a directory that is held.

    :raises KypelloError: It cannot be checked.
    """
    lanes, databases = Lanes(reactor, THREADS), ReadOnly()
    lanes.start()
    index = SQLiteIndex(directory / "index", lanes, connect=databases.connect)
    blobs = FileBlobs(directory / "blobs", lanes)
    client: KESClient | None = None

    async def examine_space(space: str) -> Sequence[str]:
        """
        Ask a database how it is.
        """
        folder = directory / "index" if space == SYSTEM else directory / "index" / space[:2]
        path = folder / f"{space}.sqlite"
        return await examine(path, databases, lanes, deep) if path.exists() else ()

    try:
        store: IObjectStore | None = None
        if keys.settings is not None or keys.folder is not None:
            kms, client = make_kms(reactor, keys, lanes, index)
            layout = LayoutStore(index, blobs, reactor, os.urandom)
            store = EncryptedStore(layout, DataKeys(kms, reactor), os.urandom)
        checker = Checker(index, blobs, lanes, report.tell, examine_space, deep, store)
        following = LoopingCall(report.follow, reactor, checker.figures, reactor.seconds())
        following.clock = reactor
        # What cannot be printed is told where it is printed next.
        following.start(_SHOWN, now=False).addErrback(lambda _: None)
        try:
            await checker.run()
        finally:
            if following.running:
                following.stop()
        report.conclude(checker.figures, deep)
    finally:
        if client is not None:
            await maybeDeferred(client.stopService)
        await index.close()
        await lanes.stop()
        databases.clean()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="kypello store", description="Look after a data directory.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    checking = commands.add_parser(
        "check",
        help="see whether all of it is sound",
        description="See whether everything in a data directory is sound.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    checking.add_argument("--deep", action="store_true", help="read and decrypt all contents, too")
    rebuilding = commands.add_parser(
        "rebuild",
        help="make a lost or damaged index anew",
        description="Make the index of a data directory anew.",
        epilog=_REBUILD_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    rebuilding.add_argument(
        "--dry-run", action="store_true", help="tell what would be made, and change nothing"
    )
    for command, parser_of in ((check, checking), (rebuild, rebuilding)):
        parser_of.set_defaults(command=command)
        parser_of.add_argument(
            "directory", metavar="DIR", type=Path, help="of a server that is off"
        )
        parser_of.add_argument(
            "--json", action="store_true", help="print a JSON object in each line, the summary last"
        )
    return parser
