# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello encrypt``: the commands for what is encrypted.
"""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from kypello.accessconfig import read_access
from kypello.environment import Environment
from kypello.errors import ConfigurationError, KMSUnavailable, KypelloError, NoSuchBucket
from kypello.kms.connect import KESClient
from kypello.kmsconfig import AUTO_ENCRYPTION
from kypello.objects.access import Access
from kypello.objects.bucketkeys import BucketKeys
from kypello.objects.datakeys import DataKeys
from kypello.objects.demands import Server
from kypello.objects.encrypted import EncryptedStore
from kypello.objects.judging import Judge, Position, Verified, Wanted
from kypello.objects.objectkeys import ObjectKeys
from kypello.objects.verifying import Verifier
from kypello.process import INTERRUPTED, react, run_command
from kypello.service import THREADS
from kypello.store.files import FileBlobs
from kypello.store.lanes import Lanes
from kypello.store.layout import LayoutStore
from kypello.store.readonly import ReadOnly, connect_beside, held
from kypello.store.sqlite import SQLiteIndex
from kypello.storekeys import Keys, find_keys, make_kms
from kypello.verifyreport import Resumption, VerifyReport, target_of

_UNSOUND = 1

#: How often the progress is shown, and how often it is kept, in seconds.
_SHOWN, _KEPT = 0.5, 5.0

_MIB = 1024 * 1024

#: How long to wait for a key server that does not answer, in seconds, and at most at a time.
_PATIENCE, _LONGEST = 60.0, 15.0

_EPILOG = """\
Every version of every object is opened from the disk: its key with the master key, its metadata,
and all of its packages, whose content must have the checksums and the ETag that were sealed with
it. What lies in clear is told where the bucket, or the server, encrypts by default or requires
encryption, and so is what is encrypted in another way than the bucket requires. Objects with a key
of their client cannot be verified without it: only the places of their packages are.
So it is with the parts of unfinished uploads.

While no key server answers it waits, for a minute unless --patience tells otherwise.  What a key
server forbids to open is told, like what is missing, and the rest is looked at.

Nothing in DIR is changed. A server may use it meanwhile.

Set MINIO_KMS_KES_... or MINIO_KMS_SECRET_KEY, MINIO_KMS_AUTO_ENCRYPTION and
KYPELLO_BUCKET_POLICY_SCOPE as for kypello server. Without keys, those in DIR/kes are used, if there
are any.

Exit code: 0 when all is sound, 1 when something is wrong, 2 when it could not be verified.
"""


def main(arguments: Sequence[str]) -> int:
    """
    Run one command.

    :param arguments: Those behind ``kypello encrypt``.
    :return: The exit code.
    :raises SystemExit: The arguments make no command; the usage is printed.
    """
    return run_command(_parser(), arguments)


def verify(options: Namespace) -> int:
    """
    See whether everything that is encrypted can be opened.

    :raises ConfigurationError: It could not be seen; says why.
    """
    directory: Path = options.directory
    bucket, _, prefix = options.target.partition("/")
    wanted = Wanted(bucket, prefix)
    report = VerifyReport(sys.stdout, sys.stderr, options.json)
    resumption = None
    if options.resume is not None:
        resumption = Resumption(options.resume, target_of(directory, wanted))
    with held(directory, beside=True) as alone:
        keys = find_keys(directory, os.environ)
        server = _server()
        work = _Verifying(
            directory,
            wanted,
            keys,
            server,
            alone,
            options.rate,
            options.patience,
            report,
            resumption,
        )
        outcome = react(work.run)
    return _exit_code(outcome, report, options)


def _server() -> Server:
    """
    How the server is set, but for its keys.

    :raises ConfigurationError:
    """
    environment = Environment.load(os.environ, lambda path: Path(path).read_text("utf-8"))
    server = Server(environment.flag(AUTO_ENCRYPTION), read_access(environment).policies_for_all)
    if environment.mistakes:
        raise ConfigurationError(tuple(environment.mistakes))
    return server


def _exit_code(outcome: Failure | None, report: VerifyReport, options: Namespace) -> int:
    if outcome is None:
        return 0 if report.sound else _UNSOUND
    report.clear()
    if outcome.check(BrokenPipeError):
        # Nobody reads on; nor shall the interpreter complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNSOUND
    if outcome.check(CancelledError):
        print("Interrupted: not everything was looked at.", file=sys.stderr)
        return INTERRUPTED
    if outcome.check(ConfigurationError) or not outcome.check(KypelloError):
        outcome.raiseException()
    error = outcome.value
    why = f"there is no bucket {error.bucket}" if isinstance(error, NoSuchBucket) else str(error)
    mistakes = [f"{options.directory} cannot be verified: {why}."]
    if isinstance(error, KMSUnavailable):
        hint = "With --resume FILE a run can go on where it ended."
        if options.resume is not None:
            hint = f"The same command goes on where it ended, as {options.resume} tells."
        mistakes.append(hint)
    raise ConfigurationError(tuple(mistakes))


@define(eq=False)
class _Verifying:
    """
    One run of the command.

    :ivar _alone: Whether nobody uses the directory.
    :ivar _rate: Bytes that may be read in a second; 0 for as many as can be.
    :ivar _patience: How long to wait for a key server, in seconds.
    """

    _directory: Path
    _wanted: Wanted
    _keys: Keys
    _server: Server
    _alone: bool
    _rate: float
    _patience: float
    _report: VerifyReport
    _resumption: Resumption | None
    _began: float = field(init=False, default=0.0)
    _read: int = field(init=False, default=0)

    async def run(self, reactor: Any) -> None:
        """
        Verify.

        :raises KypelloError: It is impossible.
        """
        lanes, databases = Lanes(reactor, THREADS), ReadOnly()
        lanes.start()
        connect = databases.connect if self._alone else connect_beside
        index = SQLiteIndex(self._directory / "index", lanes, connect=connect)
        below = LayoutStore(index, FileBlobs(self._directory / "blobs", lanes), reactor, os.urandom)
        client: KESClient | None = None
        try:
            data_keys = None
            if self._keys.settings is not None or self._keys.folder is not None:
                kms, client = make_kms(reactor, self._keys, lanes, index)
                data_keys = DataKeys(kms, reactor)
            await self._verify(reactor, self._verifier(reactor, lanes, below, data_keys))
        finally:
            if client is not None:
                await maybeDeferred(client.stopService)
            await index.close()
            await lanes.stop()
            databases.clean()

    def _verifier(
        self, reactor: Any, lanes: Lanes, below: LayoutStore, data_keys: DataKeys | None
    ) -> Verifier:
        """
        What verifies, from where an earlier run has ended.

        :raises ConfigurationError: The file of that run cannot be used.
        """
        position, figures = Position(), Verified()
        if self._resumption is not None:
            position, figures = self._resumption.load()
        judge = Judge(
            lanes.lane(),
            self._report.found,
            partial(self._pace, reactor),
            partial(self._wait, reactor),
            figures,
        )
        object_keys = ObjectKeys(data_keys, os.urandom)
        server = evolve(self._server, default_key=object_keys.default_key)
        bucket_keys = None if data_keys is None else BucketKeys(below, data_keys, os.urandom)
        return Verifier(
            below,
            EncryptedStore(below, data_keys, os.urandom),
            object_keys,
            Access(below, object_keys, bucket_keys),
            judge,
            server,
            position,
        )

    async def _verify(self, reactor: Any, verifier: Verifier) -> None:
        resumption = self._resumption
        self._began = reactor.seconds()
        following = [self._every(reactor, _SHOWN, lambda: self._show(reactor, verifier))]
        if resumption is not None:
            save = partial(self._save, verifier)
            save()
            following.append(self._every(reactor, _KEPT, save))
        try:
            await verifier.run(self._wanted)
        except BaseException:
            self._save(verifier)
            raise
        finally:
            for each in following:
                if each.running:
                    each.stop()
        self._report.conclude_verifying(verifier.figures)
        if resumption is not None:
            resumption.remove()

    def _every(self, reactor: Any, seconds: float, call: Callable[[], object]) -> LoopingCall:
        loop = LoopingCall(call)
        loop.clock = reactor
        # What fails here fails again where the run ends, and is told there.
        loop.start(seconds, now=False).addErrback(lambda _: None)
        return loop

    def _show(self, reactor: Any, verifier: Verifier) -> None:
        rate = self._read / max(reactor.seconds() - self._began, 0.001)
        self._report.follow_verifying(verifier.figures, rate)

    def _save(self, verifier: Verifier) -> None:
        if self._resumption is not None:
            self._resumption.save(verifier.position, verifier.figures)

    async def _pace(self, reactor: Any, size: int) -> None:
        """
        Wait until *size* further bytes may have been read.
        """
        self._read += size
        if self._rate:
            early = self._began + self._read / self._rate - reactor.seconds()
            if early > 0:
                await deferLater(reactor, early)

    async def _wait(self, reactor: Any, error: KMSUnavailable, tries: int) -> bool:
        """
        Wait for a key server, as long as there is patience.

        :param tries: How often it was waited for it.
        """
        waited = sum(min(2.0**number, _LONGEST) for number in range(tries))
        pause = min(2.0**tries, _LONGEST, self._patience - waited)
        if pause <= 0:
            return False
        self._report.wait(str(error), pause)
        await deferLater(reactor, pause)
        return True


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ArgumentTypeError(f"{text} is no number of seconds")
    return seconds


def _mib(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ArgumentTypeError(f"{text} is no number of MiB in a second")
    return rate * _MIB


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="kypello encrypt", description="Look after what a data directory has encrypted."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verifying = commands.add_parser(
        "verify",
        help="open everything that is encrypted",
        description="See whether everything that is encrypted can be opened from the disk.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    # It asks a server, and has its arguments with those commands that do.
    commands.add_parser(
        "rotate", help="give it other keys: see kypello encrypt rotate --help", add_help=False
    )
    verifying.set_defaults(command=verify)
    verifying.add_argument("directory", metavar="DIR", type=Path, help="where the data is")
    verifying.add_argument(
        "target",
        metavar="BUCKET[/PREFIX]",
        nargs="?",
        default="",
        help="only this bucket, and keys that begin so",
    )
    verifying.add_argument(
        "--json", action="store_true", help="print a JSON object in each line, the summary last"
    )
    verifying.add_argument(
        "--rate", metavar="MIB", type=_mib, default=0.0, help="read no more MiB in a second"
    )
    verifying.add_argument(
        "--patience",
        metavar="SECONDS",
        type=_seconds,
        default=_PATIENCE,
        help="how long to wait for a key server that does not answer; 60 unless given",
    )
    verifying.add_argument(
        "--resume",
        metavar="FILE",
        type=Path,
        help="keep in FILE how far it has come, and go on from there; removed at the end",
    )
    return parser
