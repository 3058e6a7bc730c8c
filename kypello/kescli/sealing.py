# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kes seal``: other passphrases for a directory of keys.
"""

import os
from argparse import Namespace
from typing import Any

from kypello.kescli.command import CommandError, finish
from kypello.keystore.fs import FSKeyStore
from kypello.keystore.fsconfig import Passphrase
from kypello.keystore.reseal import Resealing
from kypello.store.lanes import Lanes


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

    finish(work, "interrupted: run it again")
    print(f"{options.directory}: keys changed: {changed[0]}")
    return 0
