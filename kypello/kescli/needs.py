# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What needs a key, told by an object server before the key is deleted.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kypello.admincli import target
from kypello.admincli.kms import count, sentence
from kypello.adminclient import AdminClient
from kypello.errors import KypelloError
from kypello.kescli.command import CommandError
from kypello.store.lanes import Lanes


async def tell_needs(
    reactor: Any, endpoint: str, authorities: str | None, keys: Sequence[str]
) -> None:
    """
    Print what needs each key.

    :param endpoint: The object server; who asks is in the environment.
    :param authorities: A file of certificates to trust.
    :raises CommandError: It does not tell.
    """
    around = target.Surroundings(os.environ, _read, None, Path.home())
    lanes = Lanes(reactor, 1)
    lanes.start()
    try:
        access = target.find_access(target.Wanted(endpoint), around)
        agent = target.make_agent(reactor, authorities, around)
        client = AdminClient(access, agent, reactor, lanes.lane(), os.urandom)
        for name in keys:
            needs = [sentence(found) for found in await count(client, name)]
            print("\n".join(needs) or f"{name}: nothing there needs it.", file=sys.stderr)
    except (target.CommandError, KypelloError) as error:
        raise CommandError(f"what needs the keys is not known: {error}") from error
    finally:
        await lanes.stop()


def _read(file: str) -> str | None:
    path = Path(file)
    return path.read_text("utf-8") if path.exists() else None
