# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One line per request.

Neither the query string, which may hold a signature, nor any header goes into the log.
"""

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

if TYPE_CHECKING:
    from kypello.http.request import StreamingRequest

_log = Logger()


def log_request(request: "StreamingRequest", now: float) -> None:
    """
    Tell about a request that was answered, or whose client went away.

    :param now: Seconds of the clock that measured ``request.started``.
    """
    _log.info(
        "{request_id} {operation} {status} {outcome} in={received} out={sent}"
        " {duration:.3f}s {peer}",
        request_id=request.request_id,
        operation=request.operation,
        status=request.code if request.startedWriting else 0,
        outcome="aborted" if request.aborted else "done",
        received=request.body.received,
        sent=request.sentLength,
        duration=now - request.started,
        peer=host_of(request.client),
    )


def log_refusal(request_id: str, status: int, peer: IAddress) -> None:
    """
    Tell about something that was no HTTP request.
    """
    _log.info(
        "{request_id} {operation} {status} {peer}",
        request_id=request_id,
        operation="-",
        status=status,
        peer=host_of(peer),
    )


def host_of(address: IAddress) -> str:
    """
    The host of an address, or ``-`` for one without.
    """
    return str(getattr(address, "host", "-"))
