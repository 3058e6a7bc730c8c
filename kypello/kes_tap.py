# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``twistd kypello-kes``: the key server as a daemon.
"""

import os

from twisted.application.service import IService
from twisted.python import usage

from kypello.clockwatch import heed_clock
from kypello.errors import ConfigurationError
from kypello.kes.config import KeyServerConfig
from kypello.kes_service import make_key_server, read_config
from kypello.process import on_hangup, ready_with_keys


class Options(usage.Options):
    """
    What ``twistd kypello-kes`` takes.

    :ivar key_server: What the configuration file says.
    """

    optParameters = (("config", "c", None, "KES's configuration file."),)
    key_server: KeyServerConfig

    def postOptions(self) -> None:
        """
        Called by Twisted when all options are read.

        :raises UsageError: With every mistake of the file.
        """
        if self["config"] is None:
            raise usage.UsageError("--config FILE is required")
        try:
            self.key_server = read_config(self["config"], os.environ)
        except ConfigurationError as error:
            raise usage.UsageError("\n".join(error.mistakes)) from error


def makeService(options: Options) -> IService:
    """
    Called by Twisted: the key server that a file describes.
    """
    from twisted.internet import reactor  # noqa: PLC0415  # the only place that may see it

    server = make_key_server(reactor, options.key_server, started=ready_with_keys)
    heed_clock(reactor)
    on_hangup(reactor, server.reload)
    return server
