# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Events as they happen, in an answer without end.
"""

from functools import partial

from attrs import evolve

from kypello.auth.request import RequestHead
from kypello.events.broadcast import EVENT, KEEP_ALIVE
from kypello.events.names import matching
from kypello.events.permitted import Permitted
from kypello.events.record import read_listed
from kypello.http.response import Response
from kypello.s3.call import Call, settings_of
from kypello.s3.errors import invalid_argument, not_implemented
from kypello.s3.notification import unknown_event

_TYPE = (("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"))

#: What shows who asks for it that all is well.
_PING = b'{"Records":null}\n'

#: How many seconds may be between two of these.
_LONGEST = 3600


async def listen(call: Call) -> Response:
    """
    Tell what happens in a bucket, or in all of them, as one JSON document in each line.
    """
    broadcast = call.front.broadcast
    if broadcast is None:
        raise not_implemented("events")
    if call.bucket:
        await call.front.store.bucket(call.bucket)
    head = call.head
    names = _read_names(head)
    prefix, suffix = head.parameter("prefix") or "", head.parameter("suffix") or ""
    accepts = partial(_accepts, call.bucket, names, prefix, suffix)
    ping = _read_ping(head)
    sign, silence = (b" ", KEEP_ALIVE) if ping is None else (_PING, ping)
    listener = broadcast.listen(EVENT, accepts, _drops, sign, silence)
    return Response(200, _TYPE, Permitted(listener, partial(_may_listen, call)))


async def _may_listen(call: Call) -> bool:
    """
    Whether whoever listens may still do so.
    """
    if not call.bucket:
        return await call.may("s3:ListenNotification")
    settings = await settings_of(call.front.store, call.bucket)
    if settings is None:
        # A bucket of the same name would be another one.
        return False
    return await evolve(call, settings=settings).may("s3:ListenBucketNotification")


def _accepts(bucket: str, names: frozenset[str], prefix: str, suffix: str, event: bytes) -> bool:
    """
    Whether an event is wanted.

    :param bucket: Empty for all.
    """
    name, where, key = read_listed(event)
    return (
        name in names and bucket in ("", where) and key.startswith(prefix) and key.endswith(suffix)
    )


def _drops(count: int) -> bytes:
    """
    Tell how many events are missing, to who looks for it: clients pass over what has no records.
    """
    return b'{"Records":null,"Dropped":%d}' % count


def _read_names(head: RequestHead) -> frozenset[str]:
    found: set[str] = set()
    for name, value in head.query:
        if name == "events":
            names = matching(value)
            if not names:
                raise unknown_event()
            found |= names
    return frozenset(found)


def _read_ping(head: RequestHead) -> float | None:
    """
    How many seconds may be between signs; ``None`` for blanks.
    """
    stated = head.parameter("ping")
    if not stated:
        return None
    if stated.isascii() and stated.isdigit() and len(stated) < 6 and 0 < int(stated) <= _LONGEST:
        return float(stated)
    raise invalid_argument("ping", stated, f"It has to be from 1 to {_LONGEST} seconds.")
