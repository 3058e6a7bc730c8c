# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The rounds of a server, with all who come along.
"""

from twisted.internet.interfaces import IReactorTime

from kypello.interfaces import IEventSink, IIndex, IObjectStore
from kypello.lifecycle.fates import Calendar
from kypello.scanner.expiry import ExpiryVisitor
from kypello.scanner.over import Over
from kypello.scanner.scan import Scan, Scanner
from kypello.scanner.usage import Usage, UsageVisitor
from kypello.scannerconfig import ScannerSettings


def make_over(store: IObjectStore, settings: ScannerSettings) -> Over:
    """
    What tells what is over.

    :param store: Above the encryption.
    """
    return Over(store, Calendar(settings.day), settings.stale)


def make_scanner(
    store: IObjectStore,
    index: IIndex,
    clock: IReactorTime,
    settings: ScannerSettings,
    events: IEventSink | None = None,
) -> Scanner:
    """
    What walks over all that is stored; one process does.

    :param store: Above the encryption.
    :param index: Where it keeps what it has counted.
    :param events: Told what it has removed; ``None`` for nobody.
    """
    expiry = ExpiryVisitor(store, clock, make_over(store, settings), events)
    usage = UsageVisitor(Usage(index), clock)
    scan = Scan(store, (expiry, usage), clock, settings.pace, (usage,))
    return Scanner(scan, clock)
