# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What ``kypello store rebuild`` does in a data directory.
"""

import os
from pathlib import Path
from typing import Any

from twisted.internet.task import LoopingCall

from kypello.service import THREADS
from kypello.store.files import FileBlobs
from kypello.store.lanes import Lanes
from kypello.store.placing import Placing
from kypello.store.readonly import ReadOnly
from kypello.store.rebuild import Rebuilder
from kypello.store.salvage import Salvage, found_databases
from kypello.store.sqlite import SQLiteIndex
from kypello.storereport import Report

#: How often the progress is shown, in seconds.
_SHOWN = 0.5


async def rebuild_directory(reactor: Any, directory: Path, dry_run: bool, report: Report) -> None:
    """
    Make the index of a directory anew, which is held.

    :param dry_run: Whether to remove the new index again, and leave all as it is.
    :raises KypelloError: It cannot be made, or not be put in its place.
    """
    lanes, databases, placing = Lanes(reactor, THREADS), ReadOnly(), Placing(directory)
    lanes.start()
    lane = lanes.lane()
    index = SQLiteIndex(placing.building, lanes)
    try:
        await lane.run(placing.begin)
        paths = await lane.run(found_databases, placing.index)
        old = {space: Salvage(path, databases) for space, path in paths.items()}
        blobs = FileBlobs(directory / "blobs", lanes)
        rebuilder = Rebuilder(index, blobs, old, lanes, os.urandom, report.tell)
        following = LoopingCall(report.follow_rebuild, rebuilder.figures)
        following.clock = reactor
        # What cannot be printed is told where it is printed next.
        following.start(_SHOWN, now=False).addErrback(lambda _: None)
        try:
            await rebuilder.run()
        finally:
            if following.running:
                following.stop()
        try:
            if not dry_run:
                await index.close()
                databases.clean()
                await lane.run(placing.put)
                async for names in rebuilder.unused():
                    await lane.run(placing.set_aside, names)
        finally:
            await rebuilder.close()
        kept = placing.aside if not dry_run and placing.aside.exists() else None
        report.conclude_rebuild(rebuilder.figures, kept, dry_run)
    finally:
        await index.close()
        await lane.run(placing.give_up)
        await lanes.stop()
        databases.clean()
