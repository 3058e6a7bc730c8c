# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``twistd kypello``: the object server as a daemon.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from twisted.application.service import IService
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from kypello.banner import banner
from kypello.clockwatch import heed_clock
from kypello.config import Arguments, Config, parse_config
from kypello.errors import ConfigurationError, KypelloError
from kypello.prepared import prepare
from kypello.process import notify, on_hangup
from kypello.service import Running
from kypello.supervisor import make_server

_log = Logger()


class Options(usage.Options):
    """
    What ``twistd kypello`` takes.

    :ivar config: What options and environment say.
    """

    synopsis = "[options] [DIR]"
    optParameters = (
        ("address", "a", None, "Where to listen, HOST:PORT. [default: :9000]"),
        ("workers", "w", None, "Processes that serve requests. [default: one per core]"),
        ("certs-dir", "S", None, "Where public.crt, private.key and CAs/ may lie."),
    )
    longdesc = (
        "Serves the objects in DIR, or in the directory that MINIO_VOLUMES names, over S3."
        " Everything else is set by MinIO's environment variables."
    )
    config: Config

    def parseArgs(self, *directories: str) -> None:
        """
        Called by Twisted with what follows the options.
        """
        self["directories"] = directories

    def postOptions(self) -> None:
        """
        Called by Twisted when all options are read.

        :raises UsageError: With every mistake.
        """
        arguments = Arguments(
            self["directories"], self["address"], self["certs-dir"], self["workers"]
        )
        try:
            self.config = read_config(arguments, os.environ)
        except ConfigurationError as error:
            raise usage.UsageError("\n".join(error.mistakes)) from error


def read_config(arguments: Arguments, variables: Mapping[str, str]) -> Config:
    """
    Understand arguments and environment; blocking.

    :raises ConfigurationError: With every mistake.
    """
    return parse_config(arguments, variables, _read_text)


def makeService(options: Options) -> IService:
    """
    Called by Twisted: the server that options and environment describe.

    :raises SystemExit: The disk does not allow it; says why.
    """
    return _service(options.config)


def application_service() -> IService:
    """
    The server that the environment alone describes, for a ``.tac`` file.

    :raises SystemExit: It describes none; says why.
    """
    try:
        config = read_config(Arguments(), os.environ)
    except ConfigurationError as error:
        sys.exit("\n".join(error.mistakes))
    return _service(config)


def _service(config: Config) -> IService:
    from twisted.internet import reactor  # noqa: PLC0415  # the only place that may see it

    def failed(failure: Failure) -> None:
        tell_failure(failure)
        reactor.stop()

    try:
        server = make_server(reactor, prepare(config), tell_started, failed)
    except ConfigurationError as error:
        sys.exit("\n".join(error.mistakes))
    heed_clock(reactor)
    on_hangup(reactor, server.reload)
    service: IService = server
    return service


def tell_started(running: Running) -> None:
    """
    Log where the server is, without secrets, and tell systemd that it is ready.
    """
    _log.info("{banner}", banner=banner(running, show_secrets=False))
    notify("READY=1")


def tell_failure(failure: Failure) -> None:
    """
    Log why the server cannot start, in one line unless it is a defect.
    """
    if failure.check(KypelloError, CannotListenError):
        _log.critical("the server cannot start: {error}", error=failure.value)
    else:
        _log.failure("the server cannot start", failure)


def _read_text(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8")
    except FileNotFoundError:
        return None
