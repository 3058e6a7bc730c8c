# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What happens in the server, as it happens: requests, and lines of the log.
"""

import re
from functools import partial

import msgspec

from kypello.admin.call import Call
from kypello.admin.errors import invalid_argument, not_offered
from kypello.admin.tracing import INTERNAL, S3, Traced, drop_event, log_event
from kypello.events.broadcast import LOG, TRACE, Broadcast
from kypello.events.permitted import Permitted
from kypello.http.response import Response

_TYPE = (("Content-Type", "text/event-stream"),)
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
_UNITS["h"] = 60 * _UNITS["m"]
_SPAN = re.compile(r"(?:(?:\d+(?:\.\d+)?)(?:ns|us|µs|ms|s|m|h))+|0")
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")

_traced = msgspec.json.Decoder(Traced)


async def trace(call: Call) -> Response:
    """
    Requests as they end, of the kinds that are asked for.
    """
    broadcast, node = _broadcast(call), call.front.node
    everything = call.parameter("all") == "true"
    kinds = 0
    for name, bit in (("s3", S3), ("internal", INTERNAL)):
        if everything or call.parameter(name) == "true":
            kinds |= bit
    errors, shortest = call.parameter("err") == "true", _span(call.parameter("threshold") or "0s")

    def accepts(event: bytes) -> bool:
        """
        Whether a request is one of them.
        """
        told = _traced.decode(event)
        if errors and told.http.response.statuscode < 400 and not told.error:
            return False
        return bool(told.type & kinds) and told.dur >= shortest

    def drops(count: int) -> bytes:
        """
        Tell that requests are missing.
        """
        return drop_event(node, kinds & -kinds or S3, count, call.front.clock.seconds())

    listener = broadcast.listen(TRACE, accepts, drops)
    return Response(200, _TYPE, Permitted(listener, partial(call.may, "admin:ServerTrace")))


async def log(call: Call) -> Response:
    """
    Lines of the log from now on, but for those about requests.
    """

    def drops(count: int) -> bytes:
        """
        Tell that lines are missing.
        """
        text, now = f"{count} lines were dropped", call.front.clock.seconds()
        return log_event(call.front.node, "WARN", text, now)

    listener = _broadcast(call).listen(LOG, lambda _event: True, drops)
    return Response(200, _TYPE, Permitted(listener, partial(call.may, "admin:ConsoleLog")))


def _broadcast(call: Call) -> Broadcast:
    if call.front.broadcast is None:
        raise not_offered("This server tells nothing of what happens.")
    return call.front.broadcast


def _span(text: str) -> int:
    """
    Read how long something takes, as Go writes it.

    :return: Nanoseconds.
    :raises Rejected: It is no such.
    """
    if not _SPAN.fullmatch(text):
        raise invalid_argument("The threshold is no duration such as 100ms.")
    return int(sum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(text)))
