# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Files with secrets that everybody on the machine can read.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from kypello.document import Value

#: The members of a configuration that are secret.
_SECRET = frozenset(
    {
        "passphrase",
        "password",
        "private_key",
        "secret",
        "secretkey",
        "client_secret",
        "token",
        "jwt",
    }
)


def holds_secrets(value: Value) -> bool:
    """
    Whether a document tells a secret itself, and not the variable or the file that holds it.
    """
    for path, text in value.scalars():
        name = path.rpartition(".")[2]
        # A token of Kubernetes can be told by its path; no token has a slash.
        elsewhere = text.startswith("${") or (name == "jwt" and "/" in text)
        if text and name in _SECRET and not elsewhere:
            return True
    return False


def with_open_keys(directory: Path) -> list[str]:
    """
    What is wrong with a directory of keys that are not sealed; blocking.

    One that nobody else may enter hides all files, and one that cannot be looked at is for who
    reads it.
    """
    try:
        if not directory.stat().st_mode & stat.S_IXOTH:
            return []
        with os.scandir(directory) as entries:
            found = next((one.name for one in entries if _is_open_file(one)), None)
    except OSError:
        return []
    if found is None:
        return []
    return [
        f"everybody on this machine can use keys in {directory}, such as {found}: chmod -R o="
        f" {directory}, or set kypello.readable_secrets to allowed"
    ]


def _is_open_file(entry: "os.DirEntry[str]") -> bool:
    return entry.is_file() and bool(entry.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))


def readable_by_all(files: Iterable[Path]) -> list[str]:
    """
    What is wrong with files that are to be secret; blocking.

    A file that cannot be looked at is for who reads it.
    """
    wrong = []
    for file in files:
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
        except OSError:
            continue
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            wrong.append(
                f"{file} holds a secret, and everybody on this machine can use it (its mode is"
                f" {mode:04o}): chmod o= {file}, or set kypello.readable_secrets to allowed"
            )
    return wrong
