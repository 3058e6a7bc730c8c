# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kms doctor``: the command that looks for what is wrong with keys and key servers.
"""

import json
import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from attrs import define, field
from twisted.internet.defer import CancelledError

from kypello.doctor.examination import Examination, Given
from kypello.doctor.findings import Chart, Finding, State
from kypello.errors import ConfigurationError, KypelloError
from kypello.process import react
from kypello.store.lanes import Lanes
from kypello.store.readonly import held

_WARNED, _FAILED, _INTERRUPTED = 1, 2, 130
_ENV_FILE = "MINIO_CONFIG_ENV_FILE"

#: Threads, for certificates and databases.
_THREADS = 4

_EPILOG = """\
The settings are those of kypello server: MINIO_KMS_... in the environment, or in the file that
--env-file names. No server is started, no key is made, and nothing in DIR is changed. The keys
that data depends on are checked if DIR is named and no server uses it; a server checks them
itself all the time.

Exit code: 0 when all is well, 1 when something should be changed, 2 when something does not work.
"""


def main(arguments: Sequence[str]) -> int:
    """
    Run the command.

    :param arguments: Those behind ``kypello kms doctor``.
    :return: The exit code.
    :raises SystemExit: The arguments make no command; the usage is printed.
    """
    options = _parser().parse_args(arguments)
    report = Report(sys.stdout, options.json)
    try:
        return examine(options, os.environ, report)
    except BrokenPipeError:
        # Nobody reads on; nor shall the interpreter complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except (KeyboardInterrupt, CancelledError):
        return _INTERRUPTED


@define(eq=False)
class Report:
    """
    Prints findings as they are made: a line for each.

    :ivar _json: Whether each line is a JSON object.
    """

    _out: TextIO
    _json: bool
    counts: Counter[State] = field(factory=Counter)

    def tell(self, finding: Finding) -> None:
        """
        Print a finding.
        """
        self.counts[finding.state] += 1
        if self._json:
            told = {
                "state": finding.state.value,
                "subject": finding.subject,
                "check": finding.check,
                "message": finding.message,
                "advice": finding.advice,
            }
            self._print(json.dumps(told))
            return
        advice = f" To do: {finding.advice}." if finding.advice else ""
        line = (
            f"{finding.state.value:<8} {finding.subject} {finding.check}: {finding.message}."
            f"{advice}"
        )
        # Some of it comes from servers: nothing may move the cursor of a terminal.
        print(
            "".join(one if one.isprintable() else "?" for one in line), file=self._out, flush=True
        )

    def conclude(self) -> int:
        """
        Print the sum.

        :return: The exit code.
        """
        counts = self.counts
        if self._json:
            print(
                json.dumps({"summary": {state: counts[state] for state in State}}), file=self._out
            )
        else:
            told = ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state])
            self._print(f"{counts.total()} checks: {told}.")
        if counts[State.FAILED]:
            return _FAILED
        return _WARNED if counts[State.WARNING] else 0

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


def examine(options: Namespace, variables: Mapping[str, str], report: Report) -> int:
    """
    Examine what the options name.

    :param variables: The environment.
    :return: The exit code.
    """
    if options.env_file is not None:
        others = {
            name: value
            for name, value in variables.items()
            if name not in (_ENV_FILE, _ENV_FILE.replace("MINIO", "KYPELLO"))
        }
        variables = {**others, _ENV_FILE: options.env_file}
    directory: Path | None = options.directory
    with ExitStack() as stack:
        readable = False
        if directory is not None:
            chart = Chart(report.tell, str(directory))
            try:
                readable = stack.enter_context(held(directory, beside=True))
                if not readable:
                    chart.skipped("data", "a server uses it: it can be looked at when that is off")
            except ConfigurationError as error:
                chart.failed(
                    "data",
                    str(error).rstrip("."),
                    "name the data directory of the server, or none before its first start",
                )
        given = Given(directory, readable, options.certs_dir, variables, _read_text)

        async def work(reactor: Any) -> None:
            """
            Examine, with threads.
            """
            lanes = Lanes(reactor, _THREADS)
            lanes.start()
            try:
                await Examination(reactor, given, lanes, report.tell).run()
            finally:
                await lanes.stop()

        failure = react(work)
    if failure is not None:
        if not failure.check(KypelloError):
            failure.raiseException()
        Chart(report.tell, str(directory)).failed(
            "data", str(failure.value), "see kypello store check --help"
        )
    return report.conclude()


def _read_text(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8")
    except FileNotFoundError:
        return None


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="kypello kms doctor",
        description="See what is wrong with the settings of a server, its key servers, and the"
        " keys that its data needs.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", type=Path, help="the data of a server that is off"
    )
    parser.add_argument(
        "--env-file", metavar="FILE", help="settings as NAME=VALUE; default MINIO_CONFIG_ENV_FILE"
    )
    parser.add_argument(
        "--certs-dir", "-S", metavar="DIR", help="as of the server: its CAs/ are trusted"
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object in each line, the summary last"
    )
    return parser
