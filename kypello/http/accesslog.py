# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One line per request.

Neither the query string, which may hold a signature, nor any header goes into the log.
"""

from time import time
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger, LogLevel

if TYPE_CHECKING:
    from kypello.http.request import StreamingRequest

#: What tells lines about requests from others.
ACCESS_LOG = "kypello.http.accesslog"

_log = Logger(ACCESS_LOG)


def log_request(request: "StreamingRequest", now: float) -> None:
    """
    Tell about a request that was answered, or whose client went away.

    :param now: Seconds of the clock that measured ``request.started``.
    """
    status = request.code if request.startedWriting else 0
    outcome = "aborted" if request.aborted else "done"
    received, sent = request.body.received, request.sentLength
    duration, peer = now - request.started, host_of(request.client)
    # The logger's own formatting of so many fields, and its check of the level, take as long as a
    # tenth of a small request.
    line = (
        f"{request.request_id} {request.operation} {status} {outcome} in={received} out={sent}"
        f" {duration:.3f}s {peer}"
    )
    _log.observer(
        {
            "log_logger": _log,
            "log_level": LogLevel.info,
            "log_namespace": _log.namespace,
            "log_source": None,
            "log_format": "{line}",
            "log_time": time(),
            "line": line,
            "request_id": request.request_id,
            "operation": request.operation,
            "status": status,
            "outcome": outcome,
            "received": received,
            "sent": sent,
            "duration": duration,
            "peer": peer,
        }
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
