# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kes identity new`` and ``of``: identities, and keys and certificates for them.
"""

import os
import time
from argparse import Namespace
from getpass import getpass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from kypello.crypto.apikey import APIKey
from kypello.document import parse_duration
from kypello.kes.certificates import Signer, make_certificate
from kypello.kes.identity import identity_of_certificate
from kypello.kescli.command import CommandError

_LIFETIME = 720 * 3600.0


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
