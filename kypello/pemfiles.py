# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Files of certificates, and what is made of them for OpenSSL.
"""

from pathlib import Path

from attrs import frozen
from cryptography import x509
from OpenSSL import SSL, crypto


class UnusableFile(Exception):
    """
    A file does not hold what it should; the text says which and what, for people.
    """


@frozen
class Loaded:
    """
    What was read from files.

    :ivar stamp: Tells whether the files have changed since; see :func:`stamp_of`.
    """

    stamp: tuple[object, ...]
    context: SSL.Context


def stamp_of(*paths: Path | None) -> tuple[object, ...]:
    """
    What is another one when one of some files has changed; blocking.

    :raises OSError: There is none of that name.
    """
    found = [path.stat() for path in paths if path is not None]
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


def read_certificates(path: Path) -> list[x509.Certificate]:
    """
    Read a file in PEM; blocking.

    :return: At least one.
    :raises UnusableFile:
    :raises OSError:
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        raise UnusableFile(f"{path} holds no certificate in PEM") from None


def trust(context: SSL.Context, ca: Path | None) -> None:
    """
    Let connections trust authorities; blocking.

    :param ca: A file or a directory of them; ``None`` for those of the system.
    :raises UnusableFile:
    :raises OSError:
    """
    if ca is None:
        context.set_default_verify_paths()
        return
    store = context.get_cert_store()
    assert store is not None
    for path in sorted(ca.iterdir()) if ca.is_dir() else [ca]:
        if path.is_file():
            for certificate in read_certificates(path):
                store.add_cert(crypto.X509.from_cryptography(certificate))
