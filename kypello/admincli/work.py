# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a command for accounts works with.
"""

import json
from argparse import Namespace
from base64 import b64encode
from pathlib import Path
from typing import Any

from attrs import field, frozen

from kypello.admincli.screen import Screen
from kypello.admincli.target import CommandError, Surroundings
from kypello.adminclient import AdminClient
from kypello.crypto.randomness import Random

#: Bytes of a secret key that is made here: 40 characters.
_SECRET_BYTES = 30


@frozen
class Inputs:
    """
    What a command needs beside its arguments, read before it runs, as that may block.

    :ivar secret: A secret key that it shall set.
    :ivar policy: A policy in JSON.
    :ivar archive: What shall be imported.
    """

    secret: str | None = field(default=None, repr=False)
    policy: Any = None
    archive: bytes = field(default=b"", repr=False)


@frozen
class Work:
    """
    One command that runs.
    """

    client: AdminClient
    options: Namespace
    inputs: Inputs
    screen: Screen


def gather(options: Namespace, around: Surroundings, random: Random) -> Inputs:
    """
    Read what a command needs, as its options say; may ask the person.

    :raises CommandError: It cannot be read.
    """
    given = vars(options)
    secret = policy = None
    if given.get("generate"):
        secret = b64encode(random(_SECRET_BYTES)).decode()
    elif given.get("secret_file") or given.get("asks_for_secret"):
        secret = around.secret(options.secret_file, "New secret key", new=True)
    file = given.get("policy_file")
    if file is not None:
        try:
            policy = json.loads(around.text(file))
        except ValueError as error:
            raise CommandError(f"{file} is not JSON: {error}") from error
    archive = given.get("archive")
    return Inputs(secret, policy, _content(archive) if archive is not None else b"")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
