# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello store``: the commands for a data directory whose server is off.
"""

import fcntl
import json
import os
import sqlite3
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote, urlsplit

from attrs import asdict, define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from kypello.crypto.masterkey import MasterKey
from kypello.embedded import DEFAULT_KEY
from kypello.environment import Environment
from kypello.errors import ConfigurationError, KMSNotSupported, KypelloError
from kypello.interfaces import IKMS, IIndex, IKeyStore, ILanes, IObjectStore
from kypello.keystore.fs import FSKeyStore
from kypello.kms import tls as kms_tls
from kypello.kms.builtin import StaticKMS
from kypello.kms.connect import KESClient, connect
from kypello.kms.wire import bound
from kypello.kmsconfig import KESSettings, StaticKeySettings, read_kms
from kypello.model import DataKey, KeyInfo, KMSStatus
from kypello.objects.canary import GuardedKMS
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.service import THREADS, default_certs_dir
from kypello.store.check import Checker, Figures, Problem
from kypello.store.files import FileBlobs
from kypello.store.lanes import Lanes
from kypello.store.layout import LayoutStore
from kypello.store.records import SYSTEM
from kypello.store.sqlite import SQLiteIndex

_UNSOUND, _IMPOSSIBLE, _INTERRUPTED = 1, 2, 130

#: What ``store/directory.py`` writes into a directory of this version.
_FORMAT = b"kypello 1\n"

#: How often the progress is shown, in seconds.
_SHOWN = 0.5

#: How much a database tells of what is wrong with itself.
_FINDINGS = 20

_EPILOG = """\
Nothing in DIR is changed. No server may use it meanwhile: stop it, or check a copy.

With --deep, encrypted objects are decrypted to the end with the keys of the server: set
MINIO_KMS_KES_... or MINIO_KMS_SECRET_KEY as for kypello server. Without these, the keys in
DIR/kes are used, if there are any.

Exit code: 0 when all is sound, 1 when something is wrong, 2 when DIR cannot be checked.
"""


def main(arguments: Sequence[str]) -> int:
    """
    Run one command.

    :param arguments: Those behind ``kypello store``.
    :return: The exit code.
    :raises SystemExit: The arguments make no command; the usage is printed.
    """
    options = _parser().parse_args(arguments)
    try:
        return check(options)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            print(f"Error: {mistake}", file=sys.stderr)
        return _IMPOSSIBLE
    except KeyboardInterrupt:
        # Before there was anything to end.
        return _INTERRUPTED


def check(options: Namespace) -> int:
    """
    Check a data directory.

    :raises ConfigurationError: It cannot be checked; says why.
    """
    directory, deep = options.directory, options.deep
    report = Report(sys.stdout, sys.stderr, options.json)
    with held(directory):
        keys = find_keys(directory, os.environ) if deep else Keys()
        outcome = _react(lambda reactor: check_directory(reactor, directory, deep, keys, report))
    if outcome is None:
        return 0 if report.sound else _UNSOUND
    report.clear()
    if outcome.check(BrokenPipeError):
        # Nobody reads on; nor shall the interpreter complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNSOUND
    if outcome.check(CancelledError):
        print("Interrupted: the check is not complete.", file=sys.stderr)
        return _INTERRUPTED
    if not outcome.check(KypelloError):
        outcome.raiseException()
    raise ConfigurationError((f"{directory} cannot be checked: {outcome.value}",))


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """
    Hold a data directory, so that no server uses it, and change nothing.

    :raises ConfigurationError: It is none, or in use.
    """
    try:
        if (directory / "format").read_bytes() != _FORMAT:
            raise ConfigurationError(
                (f"{directory} holds data in a format that this version does not know.",)
            )
        for part in ("index", "blobs"):
            os.listdir(directory / part)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigurationError(
            (f"{directory} is no data directory of Kypello: {error.filename} is not there.",)
        ) from error
    except OSError as error:
        raise ConfigurationError((f"{error.filename}: {error.strerror}.",)) from error
    try:
        lock = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # A copy without it, which nobody uses.
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        os.close(lock)
        raise ConfigurationError(
            (
                f"{directory} is in use by a server (process {holder or 'unknown'}): stop it, or"
                " check a copy.",
            )
        ) from None
    try:
        yield
    finally:
        os.close(lock)


@define(eq=False)
class ReadOnly:
    """
    Opens databases that nobody uses, and changes none.

    A server that was killed leaves its last commits in a ``-wal`` file beside the database.
    SQLite reads them, too, with the help of a ``-shm`` file, which holds nothing of its own.

    :ivar _made: Such files that were not there before.
    """

    _made: set[Path] = field(init=False, factory=set)

    def connect(self, database: str, **options: Any) -> sqlite3.Connection:
        """
        Do as ``sqlite3.connect`` does, but for reading; blocking.

        :param database: A URI that ends with ``?mode=rw``.
        """
        path = unquote(urlsplit(database).path)
        wal, shm = Path(f"{path}-wal"), Path(f"{path}-shm")
        mode = "?mode=ro"
        if not wal.exists() or not wal.stat().st_size:
            # SQLite would make both files.
            mode += "&immutable=1"
        elif not shm.exists():
            self._made.add(shm)
        connection: sqlite3.Connection = sqlite3.connect(
            database.removesuffix("?mode=rw") + mode, **options
        )
        return connection

    def connect_to(self, path: Path) -> sqlite3.Connection:
        """
        Open the database in a file; blocking.
        """
        return self.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, check_same_thread=False
        )

    def clean(self) -> None:
        """
        Remove what was made, when all is closed.
        """
        for path in self._made:
            path.unlink(missing_ok=True)


@frozen
class Keys:
    """
    How to open data keys.

    :ivar settings: ``None`` without a key service.
    :ivar files: Certificate and key for KES.
    :ivar folder: Where master keys lie that are used then; ``None`` for none.
    """

    settings: KESSettings | StaticKeySettings | None = None
    files: kms_tls.Loaded | None = None
    folder: Path | None = None


def find_keys(directory: Path, variables: Mapping[str, str]) -> Keys:
    """
    The keys of the server that uses a data directory; blocking.

    :param variables: The environment.
    :raises ConfigurationError: With every mistake.
    """
    environment = Environment.load(variables, _read_text)
    settings = read_kms(environment)
    if environment.mistakes:
        raise ConfigurationError(tuple(environment.mistakes))
    if isinstance(settings, KESSettings):
        authorities = default_certs_dir() / "CAs"
        if settings.ca_path is None and authorities.is_dir():
            settings = evolve(settings, ca_path=authorities)
        return Keys(settings, kms_tls.load(settings))
    folder = directory / "kes" / "keys"
    return Keys(settings, None, folder if settings is None and folder.is_dir() else None)


@implementer(IKMS)
@define(eq=False)
class LocalKMS:
    """
    Opens data keys with the master keys of a key store, without a key server; makes none.
    """

    _store: IKeyStore
    default_key: str = DEFAULT_KEY
    _keys: dict[str, MasterKey] = field(init=False, factory=dict, repr=False)

    async def generate_key(self, key_name: str, context: bytes) -> DataKey:
        """
        Refuse.
        """
        raise KMSNotSupported("generate")

    async def decrypt_key(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a sealed data key.
        """
        key = self._keys.get(key_name)
        if key is None:
            key = MasterKey.from_bytes(await self._store.get(key_name))
            self._keys[key_name] = key
        return key.open(sealed, bound(context))

    async def create_key(self, key_name: str) -> None:
        """
        Refuse.
        """
        raise KMSNotSupported("create")

    async def describe_key(self, key_name: str) -> KeyInfo:
        """
        Refuse.
        """
        raise KMSNotSupported("describe")

    async def list_keys(self, prefix: str) -> Sequence[str]:
        """
        The names of the master keys that begin so.
        """
        return [name for name in await self._store.names() if name.startswith(prefix)]

    async def status(self) -> KMSStatus:
        """
        There is nobody to ask.
        """
        return KMSStatus("keys", self.default_key, ())


async def check_directory(
    reactor: Any, directory: Path, deep: bool, keys: Keys, report: "Report"
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

    async def examine(space: str) -> Sequence[str]:
        """
        Ask a database how it is.
        """
        folder = directory / "index" if space == SYSTEM else directory / "index" / space[:2]
        path = folder / f"{space}.sqlite"
        return await _examine(path, databases, lanes, deep) if path.exists() else ()

    try:
        store: IObjectStore | None = None
        if keys.settings is not None or keys.folder is not None:
            kms, client = _make_kms(reactor, keys, lanes, index)
            layout = LayoutStore(index, blobs, reactor, os.urandom)
            store = EncryptedStore(layout, DataKeys(kms, reactor), os.urandom)
        checker = Checker(index, blobs, lanes, report.tell, examine, deep, store)
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


async def _examine(path: Path, databases: ReadOnly, lanes: ILanes, deep: bool) -> Sequence[str]:
    lane = lanes.lane()
    try:
        connection: sqlite3.Connection = await lane.run(databases.connect_to, path)
    except sqlite3.Error as error:
        return [str(error)]
    try:
        findings: Sequence[str] = await lane.run(_findings, connection, deep)
        return findings
    except CancelledError:
        # The lane would be busy for long.
        connection.interrupt()
        raise
    finally:
        await lane.run(connection.close)


def _findings(connection: sqlite3.Connection, deep: bool) -> Sequence[str]:
    kind = "integrity_check" if deep else "quick_check"
    try:
        rows = connection.execute(f"PRAGMA {kind}({_FINDINGS})").fetchall()
    except sqlite3.Error as error:
        return [str(error)]
    return [" ".join(text.split()) for (text,) in rows if text != "ok"]


def _make_kms(
    reactor: Any, keys: Keys, lanes: ILanes, index: IIndex
) -> tuple[IKMS, KESClient | None]:
    client = None
    inner: IKMS
    if keys.files is not None and isinstance(keys.settings, KESSettings):
        client = connect(reactor, keys.settings, keys.files, lanes, os.urandom)
        inner = client.kms
    elif isinstance(keys.settings, StaticKeySettings):
        inner = StaticKMS(keys.settings, os.urandom)
    else:
        assert keys.folder is not None
        inner = LocalKMS(FSKeyStore(keys.folder, lanes, reactor, os.urandom))
    kms = GuardedKMS(inner, index, reactor)
    if client is not None:
        client.require(kms.holds)
        client.startService()
    return kms, client


@define(eq=False)
class Report:
    """
    What is printed: problems as they are found, and a summary.

    :ivar sound: Whether all is, at the end.
    :ivar _json: Whether each line is a JSON object.
    :ivar _shown: Whether the progress stands in the last line of the terminal.
    """

    _out: TextIO
    _err: TextIO
    _json: bool = False
    sound: bool = field(init=False, default=False)
    _shown: bool = field(init=False, default=False)

    def tell(self, problem: Problem) -> None:
        """
        Print a problem.
        """
        self.clear()
        if self._json:
            told = asdict(problem, filter=lambda _, value: bool(value))
            self._print(json.dumps({"problem": told}))
        else:
            self._print(describe(problem))

    def follow(self, reactor: Any, figures: Figures, began: float) -> None:
        """
        Show on a terminal how far the check has come.

        :param began: When, in seconds of the reactor.
        """
        if self._json or not self._err.isatty():
            return
        size = figures.read or figures.bytes
        rate = size / max(reactor.seconds() - began, 0.001)
        text = f"{figures.objects:,} objects, {amount(size)}, {amount(rate)}/s"
        print(f"\r{text}\x1b[K", end="", file=self._err, flush=True)
        self._shown = True

    def clear(self) -> None:
        """
        Remove the progress from the terminal.
        """
        if self._shown:
            print("\r\x1b[K", end="", file=self._err, flush=True)
            self._shown = False

    def conclude(self, figures: Figures, deep: bool) -> None:
        """
        Print the summary.
        """
        self.clear()
        self.sound = figures.sound
        if self._json:
            self._print(json.dumps({"summary": {**asdict(figures), "sound": figures.sound}}))
            return
        for name, number, text in _summary(figures, deep):
            self._print(f"{name:<14}{number:,}{text}")
        self._print("All is sound." if figures.sound else "Something is wrong: see above.")

    def _print(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        known = text.encode(encoding, "backslashreplace").decode(encoding)
        print(known, file=self._out, flush=True)


def describe(problem: Problem) -> str:
    """
    A problem in one line.
    """
    where = [problem.bucket + (f"/{problem.key}" if problem.key else "")]
    for name in ("version", "upload", "part"):
        value = getattr(problem, name)
        where += [f"{name} {value}"] if value else []
    place = ", ".join(filter(None, where))
    text = f"{place}: {problem.what}" if place else problem.what
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


def amount(size: float) -> str:
    """
    Bytes for people.
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def _summary(figures: Figures, deep: bool) -> Iterator[tuple[str, int, str]]:
    for name in ("buckets", "objects", "parts", "uploads", "blobs"):
        yield name.capitalize(), getattr(figures, name), ""
    contents = "" if deep else "; contents were not read, for want of --deep"
    yield "Bytes", figures.bytes, f" ({amount(figures.bytes)}){contents}"
    if deep:
        yield "Decrypted", figures.decrypted, " objects"
        yield "Not decrypted", figures.client_keys, " objects, as clients have the keys"
        if figures.not_decrypted:
            yield "", figures.not_decrypted, " objects, for want of keys"
    yield "Leftovers", figures.leftovers, ", which the next start of the server removes"
    if figures.undecided:
        why = " blobs may belong to records that cannot be read"
        yield "Undecided", figures.undecided, why
    yield "Orphans", figures.orphans, ""
    yield "Problems", figures.problems, ""


def _react(work: Callable[[Any], Coroutine[Any, Any, None]]) -> Failure | None:
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


def _read_text(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8")
    except FileNotFoundError:
        return None


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
    checking.add_argument("directory", metavar="DIR", type=Path, help="of a server that is off")
    checking.add_argument("--deep", action="store_true", help="read and decrypt all contents, too")
    checking.add_argument(
        "--json", action="store_true", help="print a JSON object in each line, the summary last"
    )
    return parser
