# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kes``: the commands of the key server.

They print what those of the original print, so that scripts go on to work.
"""

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from getpass import getpass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from kypello.crypto.apikey import APIKey
from kypello.document import parse_duration
from kypello.errors import ConfigurationError, KeyStoreFailed, KeyStoreUnreachable
from kypello.kes.certificates import Signer, make_certificate
from kypello.kes.identity import identity_of_certificate
from kypello.kes_service import make_key_server, read_config
from kypello.keystore.fs import FSKeyStore
from kypello.keystore.fsconfig import Passphrase
from kypello.keystore.reseal import Resealing
from kypello.process import on_hangup, react, ready_with_keys, run
from kypello.store.lanes import Lanes

_LIFETIME = 720 * 3600.0


class CommandError(Exception):
    """
    A command that cannot do what it was asked; its text is for people.
    """


def main(arguments: Sequence[str]) -> int:
    """
    Run one command.

    :param arguments: Those behind ``kypello kes``.
    :return: The exit code: 1 for an error, which is printed.
    :raises SystemExit: The arguments make no command; the usage is printed.
    """
    options = _parser().parse_args(arguments)
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


def serve(options: Namespace) -> int:
    """
    Run a key server until a signal ends it.

    :raises ConfigurationError: The configuration is wrong.
    """
    from twisted.internet import reactor  # noqa: PLC0415  # installed when it is imported

    config = read_config(options.config, os.environ)
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
        raise CommandError(failure.getErrorMessage())
    return 0


def new_identity(options: Namespace) -> int:
    """
    Make an API key; with file names, its private key and certificate too.

    :raises CommandError: The options do not fit each other, or a file is there already.
    """
    _check_files(options)
    key = APIKey.generate(os.urandom)
    if options.key is not None:
        _write_files(options, key)
    lines = [
        "Your API key:",
        "",
        f"   {key.text}",
        "",
        "This is the only time it is shown. Keep it secret and secure!",
        "",
        "Your Identity:",
        "",
        f"   {key.identity}",
        "",
        "The identity is not a secret. It can be shared. Any peer",
        "needs this identity in order to verify your API key.",
        "",
    ]
    if options.key is not None:
        lines += [
            f"The generated TLS private key is stored at: {options.key}",
            f"The generated TLS certificate is stored at: {options.cert}",
            "",
        ]
    lines += ["The identity can be computed again via:", ""]
    # The API key is not repeated in a command: commands are kept in histories.
    lines.append(f"    kypello kes identity of {options.cert or 'API_KEY'}")
    print("\n".join(lines))
    return 0


def identity_of(options: Namespace) -> int:
    """
    Print the identity of an API key or of the first certificate in a file.

    :raises CommandError: It is neither.
    """
    if options.subject.startswith("kes:v1:"):
        try:
            print(APIKey.parse(options.subject).identity)
        except ValueError:
            # The text is not repeated: it may be a mistyped secret.
            raise CommandError("this is no API key") from None
        return 0
    try:
        found = x509.load_pem_x509_certificates(Path(options.subject).read_bytes())
    except OSError as error:
        raise CommandError(f"{options.subject}: {error.strerror}") from error
    except ValueError:
        raise CommandError(f"{options.subject} holds no certificate in PEM") from None
    print(identity_of_certificate(found[0].public_bytes(Encoding.DER)))
    return 0


def seal(options: Namespace) -> int:
    """
    Bring the files of a key store under another passphrase, or out of one.

    :raises CommandError: It cannot be done; says why.
    """
    if options.old is None and options.new is None:
        raise CommandError("give --from, --to, or both")
    changed: list[int] = []

    async def work(reactor: Any) -> None:
        """
        Do it with threads that end with it.
        """
        lanes = Lanes(reactor, 1)
        lanes.start()
        try:
            files = FSKeyStore(options.directory, lanes, reactor, os.urandom)
            old, new = (
                None if file is None else Passphrase(file=file)
                for file in (options.old, options.new)
            )
            changed.append(await Resealing(files, old, new, lanes.lane(), os.urandom).run())
        finally:
            await lanes.stop()

    failure = react(work)
    if failure is not None:
        error = failure.value
        if isinstance(error, KeyStoreFailed | KeyStoreUnreachable):
            raise CommandError(error.reason)
        if failure.check(CancelledError):
            raise CommandError("interrupted: run it again")
        failure.raiseException()
    print(f"{options.directory}: keys changed: {changed[0]}")
    return 0


def _check_files(options: Namespace) -> None:
    if (options.key is None) != (options.cert is None):
        raise CommandError("--key and --cert go together")
    if options.key is None:
        for name in ("encrypt", "force", "expiry", "ip", "dns", "name"):
            if getattr(options, name):
                raise CommandError(f"'{name}' requires --key and --cert")
    elif not options.force:
        for path in (options.key, options.cert):
            if path.exists():
                raise CommandError(f"{path} already exists. Use --force to overwrite it")


def _write_files(options: Namespace, key: APIKey) -> None:
    lifetime = _LIFETIME if options.expiry is None else parse_duration(options.expiry)
    if not lifetime:
        raise CommandError("--expiry must be a duration such as 720h")
    owner = Signer(options.name or key.identity, key.private_key)
    hosts = [*options.ip, *options.dns]
    certificate = make_certificate(
        owner, owner, hosts, now=time.time(), lifetime=lifetime, random=os.urandom
    )
    protection: KeySerializationEncryption = NoEncryption()
    if options.encrypt:
        protection = BestAvailableEncryption(_new_password())
    try:
        _write(
            options.key,
            key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection),
            0o600,
        )
        _write(options.cert, certificate.public_bytes(Encoding.PEM), 0o644)
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from error


def _write(path: Path, content: bytes, mode: int) -> None:
    # A file that is overwritten keeps nothing of its old permissions.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with open(descriptor, "wb") as file:
        file.write(content)


def _new_password() -> bytes:
    password = getpass("Enter password for private key: ")
    if not password:
        raise CommandError("the password is empty")
    if getpass("Confirm password for private key: ") != password:
        raise CommandError("passwords don't match")
    return password.encode()


def _names(text: str) -> list[str]:
    return [one.strip() for one in text.split(",")]


def _ip(text: str) -> list[str]:
    return [str(ip_address(one)) for one in _names(text)]


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="kypello kes", description="The key server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    server = commands.add_parser("server", help="run a key server")
    server.add_argument("--config", required=True, metavar="FILE", help="KES's configuration")
    server.set_defaults(run=serve)

    sealing = commands.add_parser(
        "seal",
        help="bring the keys of an fs keystore that no server uses under a passphrase",
    )
    sealing.add_argument("directory", type=Path, metavar="DIRECTORY")
    sealing.add_argument(
        "--from", dest="old", type=Path, metavar="FILE", help="the passphrase that opens them now"
    )
    sealing.add_argument(
        "--to", dest="new", type=Path, metavar="FILE", help="the new one; without it, in clear"
    )
    sealing.set_defaults(run=seal)

    identity = commands.add_parser("identity", help="make and compute identities")
    verbs = identity.add_subparsers(required=True, metavar="COMMAND")

    new = verbs.add_parser("new", help="make an API key")
    new.add_argument("name", nargs="?", help="the subject of the certificate")
    new.add_argument("--key", type=Path, metavar="FILE", help="write the private key to it")
    new.add_argument("--cert", type=Path, metavar="FILE", help="write a certificate to it")
    new.add_argument("-f", "--force", action="store_true", help="overwrite existing files")
    new.add_argument("--ip", type=_ip, action="extend", default=[], help="an IP address")
    new.add_argument("--dns", type=_names, action="extend", default=[], help="a host name")
    new.add_argument("--expiry", metavar="DURATION", help="of the certificate; default 720h")
    new.add_argument("--encrypt", action="store_true", help="ask for a password for the key")
    new.set_defaults(run=new_identity)

    of = verbs.add_parser("of", help="compute an identity")
    of.add_argument("subject", metavar="API_KEY|FILE", help="an API key, or a certificate in PEM")
    of.set_defaults(run=identity_of)
    return parser
