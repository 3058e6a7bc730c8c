# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kes``: the commands of the key server.

They print what those of the original print, so that scripts go on to work.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from kypello.errors import ConfigurationError, KeyStoreFailed, KeyStoreUnreachable
from kypello.kes.config import KeyServerConfig
from kypello.kes_service import make_key_server, read_config
from kypello.kescli.arguments import Arguments
from kypello.kescli.command import CommandError
from kypello.kescli.development import development
from kypello.process import on_hangup, ready_with_keys, run, why_not_listening


def main(arguments: Sequence[str]) -> int:
    """
    Run one command.

    :param arguments: Those behind ``kypello kes``.
    :return: The exit code: 1 for an error, which is printed.
    :raises SystemExit: The arguments make no command; the usage is printed.
    """
    options = Arguments(serve).parser.parse_args(arguments)
    try:
        run: Callable[[Namespace], int] = options.run
        return run(options)
    except CommandError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except ConfigurationError as error:
        for mistake in error.mistakes:
            print(f"Error: {mistake}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Nobody reads on; nor shall the interpreter complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, EOFError):
        return 130


def serve(options: Namespace) -> int:
    """
    Run a key server until a signal ends it.

    :raises ConfigurationError: The configuration is wrong.
    """
    for old in ("key", "cert", "auth"):
        if getattr(options, old) is not None:
            print(f"Warning: --{old} has no effect: see tls in {options.config}", file=sys.stderr)
    if not options.dev:
        return _run(read_config(options.config, os.environ, options.addr))
    with development(options.addr) as (config, words):
        print(words, flush=True)
        return _run(config)


def _run(config: KeyServerConfig) -> int:
    from twisted.internet import reactor  # noqa: PLC0415  # installed when it is imported

    failures: list[Failure] = []

    def failed(failure: Failure) -> None:
        failures.append(failure)
        reactor.stop()

    server = make_key_server(reactor, config, failed, ready_with_keys)
    on_hangup(reactor, server.reload)
    run(reactor, server)
    for failure in failures:
        if failure.check(ConfigurationError):
            failure.raiseException()
        error = failure.value
        if isinstance(error, CannotListenError):
            raise CommandError(why_not_listening(error, "--addr"))
        if isinstance(error, KeyStoreFailed | KeyStoreUnreachable):
            raise CommandError(f"the keystore cannot be used: {error.reason}")
        raise CommandError(failure.getErrorMessage())
    return 0
