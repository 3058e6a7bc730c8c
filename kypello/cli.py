# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello``: the command.
"""

import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from kypello import account_cli, encrypt_cli, kes_cli, kms_cli, store_cli
from kypello.admincli.arguments import GROUPS
from kypello.banner import banner
from kypello.config import Arguments
from kypello.errors import ConfigurationError, KypelloError
from kypello.prepared import prepare
from kypello.process import notify, on_hangup, run, why_not_listening
from kypello.service import Running
from kypello.supervisor import make_server
from kypello.tap import read_config

_EXAMPLES = """\
Examples:
  kypello server ./export
      Serve ./export on all addresses, port 9000. Credentials and an encryption key server are
      made at the first start, which prints all that a client needs.

  MINIO_ROOT_USER=admin MINIO_ROOT_PASSWORD=change-me-now \\
  MINIO_KMS_AUTO_ENCRYPTION=on kypello server --address 127.0.0.1:9000 /srv/objects
      Encrypt everything that is stored.

Environment variables, all of them MinIO's (KYPELLO_X stands for MINIO_X as well):
  MINIO_ROOT_USER, MINIO_ROOT_PASSWORD     who may do everything (or ..._FILE)
  MINIO_VOLUMES, MINIO_ADDRESS             for DIR and --address
  MINIO_KMS_KES_ENDPOINT, MINIO_KMS_KES_KEY_NAME,
  MINIO_KMS_KES_API_KEY, or MINIO_KMS_KES_KEY_FILE and MINIO_KMS_KES_CERT_FILE
    with MINIO_KMS_KES_KEY_PASSWORD, and MINIO_KMS_KES_CAPATH
                                           key servers of your own
  MINIO_KMS_SECRET_KEY                     one static key instead, NAME:BASE64 (or ..._FILE)
  MINIO_KMS_AUTO_ENCRYPTION                on: encrypt what asks for nothing
  MINIO_SITE_REGION                        the region that signatures must name
  MINIO_DOMAIN                             domains under which hosts name buckets
  MINIO_API_CORS_ALLOW_ORIGIN              whose pages browsers let use buckets without CORS rules
                                           of their own: *, https://*.example.com, or off
  MINIO_SCANNER_SPEED                      how hard to count objects and remove what is over:
                                           fastest, fast, default, slow, slowest
  MINIO_API_STALE_UPLOADS_EXPIRY           when to abort unfinished uploads: 168h (default), or off
  MINIO_CONFIG_ENV_FILE                    a file with any of these

And some of its own:
  KYPELLO_API_SIGNATURE_V2                 off: refuse URLs and forms signed with version 2
  KYPELLO_API_SSE_C_OVER_LOOPBACK_HTTP     on: take clients' own keys over HTTP from this machine
  KYPELLO_BLOCKED_ENCRYPTION_TYPES         SSE-C: new buckets take no keys of clients at first
  KYPELLO_STORAGE_CLASS_LABELS             further storage classes to accept as labels
  MINIO_PROMETHEUS_AUTH_TYPE               jwt (default), or public: who may read the metrics
  KYPELLO_WORKERS                          for --workers
  KYPELLO_TRUSTED_PROXIES                  whose X-Forwarded-For counts, e.g. 10.0.0.0/8
  KYPELLO_BUCKET_POLICY_SCOPE              all (default), or anonymous as in MinIO
  KYPELLO_KMS_BUCKET_KEY_TIME, KYPELLO_KMS_BUCKET_KEY_OBJECTS
                                           how long, and for how many objects, a bucket uses a
                                           data key (5m, 1000000); 0 for one per object
  KYPELLO_KMS_CACHE_TIME, KYPELLO_KMS_CACHE_KEYS
                                           how long, and how many, opened data keys are kept in
                                           memory (5m, 10000); 0 for none
  KYPELLO_KMS_CACHE_OUTAGE_TIME            how much longer while no key server answers (5m)
  KYPELLO_KMS_PASSPHRASE_FILE              what seals the keys of the key server inside
  KYPELLO_ACCOUNT_ID                       what x-amz-expected-bucket-owner must say
"""


_COMMANDS = """\
Examples:
  kypello server ./export
      Serve objects, with credentials and a key server that are made at the first start.
  kypello user add --generate alice
      Make a user on that server; kypello policy attach readwrite --user alice lets her work.
  kypello encrypt verify ./export
      Prove that everything that is encrypted can be opened.

Each command tells more, with examples: kypello server --help, kypello user add --help, ...
"""

#: Words that say nothing without another one behind them.
_FAMILIES = [[name] for name in ("kes", "store", *GROUPS)]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command.

    :param arguments: ``None`` for those of the process.
    :return: The exit code.
    :raises SystemExit: The arguments make no command; the usage is printed.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given or given in _FAMILIES:
        # Who does not know what there is to say is told.
        with suppress(SystemExit):
            main([*given, "--help"])
        return 2
    if given[:1] == ["kes"]:
        return kes_cli.main(given[1:])
    if given[:1] == ["store"]:
        return store_cli.main(given[1:])
    if given[:1] == ["encrypt"] and given[1:2] != ["rotate"]:
        return encrypt_cli.main(given[1:])
    if given[:2] == ["kms", "doctor"]:
        return kms_cli.main(given[2:])
    if given and given[0] in GROUPS:
        return account_cli.main(given)
    options = _parser().parse_args(given)
    try:
        return serve(options)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            print(f"Error: {mistake}", file=sys.stderr)
        return 1


def serve(options: Namespace) -> int:
    """
    Run an object server until a signal ends it.

    :raises ConfigurationError: With every mistake.
    """
    from twisted.internet import reactor  # noqa: PLC0415  # installed when it is imported

    arguments = Arguments(
        tuple(options.directories), options.address, options.certs_dir, options.workers
    )
    config = read_config(arguments, os.environ)
    failures: list[Failure] = []

    def started(running: Running) -> None:
        if not options.quiet:
            # What systemd reads goes into its journal, where secrets do not belong.
            # Output may go to a file on a full disk; it is served from all the same.
            with suppress(OSError):
                print(banner(running, show_secrets="NOTIFY_SOCKET" not in os.environ), flush=True)
        notify("READY=1")

    def failed(failure: Failure) -> None:
        failures.append(failure)
        reactor.stop()

    server = make_server(reactor, prepare(config), started, failed, sys.stderr.fileno())
    on_hangup(reactor, server.reload)
    run(reactor, server)
    for failure in failures:
        if not failure.check(KypelloError, CannotListenError):
            failure.raiseException()
        print(f"Error: {_reason(failure)}", file=sys.stderr)
        return 1
    return 0


def _reason(failure: Failure) -> str:
    error = failure.value
    if isinstance(error, CannotListenError):
        return why_not_listening(error, "--address")
    return str(error)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="kypello",
        description="An S3-compatible object server whose encryption can be proved.",
        epilog=_COMMANDS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kypello {version('kypello')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    server = commands.add_parser(
        "server",
        help="run an object server",
        description="Serve the objects in DIR over S3.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    server.add_argument("directories", nargs="*", metavar="DIR", help="where the data is")
    server.add_argument(
        "--address", metavar="HOST:PORT", help="where to listen; default :9000, all addresses"
    )
    server.add_argument(
        "--certs-dir",
        "-S",
        metavar="DIR",
        help="public.crt and private.key in it turn on HTTPS, folders with such files are for the"
        " hosts that they name, and CAs/ is trusted for KES;"
        " default ~/.kypello/certs, or ~/.minio/certs if only that exists",
    )
    server.add_argument(
        "--workers", metavar="N", help="processes that serve requests; default one per core"
    )
    server.add_argument("--quiet", action="store_true", help="print no banner")
    server.add_argument(
        "--console-address", metavar="HOST:PORT", help="accepted for MinIO's sake: no console yet"
    )
    commands.add_parser("kes", help="the key server: see kypello kes --help", add_help=False)
    commands.add_parser(
        "store", help="check a data directory: see kypello store --help", add_help=False
    )
    for name, purpose in GROUPS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
