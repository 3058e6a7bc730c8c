# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Requests and lines of the log as events for administrators.

What may be secret is not told: of headers and parameters only those whose values are known to be
none.
"""

from collections.abc import Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes

import msgspec
from attrs import define
from twisted.application.service import Service
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogPublisher
from zope.interface import implementer

from kypello.admin.wire import json_bytes, tell_time
from kypello.events.broadcast import LOG, TRACE, Broadcast
from kypello.http.accesslog import ACCESS_LOG, host_of

if TYPE_CHECKING:
    from kypello.http.request import StreamingRequest

#: The bits that clients know kinds of calls by.
S3, INTERNAL = 4, 8

_REDACTED = "*REDACTED*"

_SHOWN_HEADERS = (
    "accept accept-encoding connection content-encoding content-length content-md5 content-type"
    " date expect host if-match if-modified-since if-none-match if-unmodified-since range te"
    " transfer-encoding user-agent x-amz-acl x-amz-bucket-region x-amz-checksum-algorithm"
    " x-amz-checksum-mode x-amz-content-sha256 x-amz-copy-source x-amz-date"
    " x-amz-decoded-content-length x-amz-metadata-directive x-amz-sdk-checksum-algorithm"
    " x-amz-server-side-encryption x-amz-server-side-encryption-customer-algorithm"
    " x-amz-storage-class x-amz-tagging-directive x-amz-trailer"
)
_HEADERS = frozenset(_SHOWN_HEADERS.split())

_SHOWN_PARAMETERS = (
    "accelerate accessKey acl action attributes bucket continuation-token cors delete delimiter"
    " dry-run encoding-type encryption events fetch-owner group key-id key-marker legal-hold"
    " lifecycle list-type location logging marker max-keys max-parts max-uploads metadata name"
    " notification object-lock part-number-marker partNumber policy policyStatus ping prefix"
    " publicAccessBlock replication requestPayment restore retention start-after tagging type"
    " uploadId upload-id-marker uploads versionId version-id-marker versioning versions website"
    " x-id X-Amz-Algorithm X-Amz-Date X-Amz-Expires X-Amz-SignedHeaders"
)
_PARAMETERS = frozenset(_SHOWN_PARAMETERS.split())

#: The longest message of the log that is told, in characters.
_LONGEST = 16 * 1024


@define(eq=False)
class Tracer:
    """
    Tells about requests, when somebody listens.

    :ivar _node: What this server is called.
    :ivar _operations: The names of those of S3.
    """

    _broadcast: Broadcast
    _node: str
    _operations: frozenset[str]

    def ended(self, request: "StreamingRequest") -> None:
        """
        Called when a request was answered, or its client went away.
        """
        if self._broadcast.wanted(TRACE):
            self._broadcast.tell(TRACE, json_bytes(self._event(request)))

    def _event(self, request: "StreamingRequest") -> dict[str, Any]:
        now = request.site.clock.seconds()
        lasted = max(0.0, now - request.started)
        began = tell_time(request.started)
        path = unquote_to_bytes(request.path).decode("utf-8", "replace")
        received, sent = request.body.received, request.sentLength
        first = max(0.0, request.answered - request.started) if request.answered else lasted
        s3 = request.operation in self._operations
        return {
            "type": S3 if s3 else INTERNAL,
            "nodename": self._node,
            "funcname": f"s3.{request.operation}" if s3 else request.operation,
            "time": began,
            "path": path,
            "dur": int(lasted * 1e9),
            "bytes": received + sent,
            "error": "the client went away" if request.aborted else "",
            "http": {
                "request": {
                    "time": began,
                    "proto": request.clientproto.decode("latin-1"),
                    "method": request.method.decode("latin-1"),
                    "path": path,
                    "rawquery": _query(request.uri.partition(b"?")[2]),
                    "headers": _shown(request.head.headers),
                    "client": host_of(request.client),
                },
                "response": {
                    "time": tell_time(now),
                    "headers": {"x-amz-request-id": [request.request_id]},
                    "statuscode": request.code if request.startedWriting else 0,
                },
                "stats": {
                    "inputbytes": received,
                    "outputbytes": sent,
                    "latency": int(lasted * 1e9),
                    "timetofirstbyte": int(first * 1e9),
                },
            },
        }


@implementer(ILogObserver)
class LogFeed(Service):
    """
    Tells lines of the log, when somebody listens, but for those about requests.
    """

    def __init__(self, broadcast: Broadcast, node: str) -> None:
        """
        Tell *broadcast*; this is the thread of the reactor.

        :param node: What this server is called.
        """
        self._broadcast = broadcast
        self._node = node
        self._thread = get_ident()

    def startService(self) -> None:
        """
        Called by Twisted: heed the log.
        """
        Service.startService(self)
        globalLogPublisher.addObserver(self)

    def stopService(self) -> None:
        """
        Called by Twisted: heed it no more, and have nothing told any more.
        """
        Service.stopService(self)
        globalLogPublisher.removeObserver(self)
        self._broadcast.close()

    def __call__(self, event: LogEvent) -> None:
        """
        Called by Twisted: tell an event.
        """
        if not self._broadcast.wanted(LOG):
            return
        level = event.get("log_level")
        if level is None or level is LogLevel.debug or event.get("log_namespace") == ACCESS_LOG:
            return
        text = eventAsText(event, includeTimestamp=False)
        told = log_event(self._node, level.name.upper(), text, event["log_time"])
        if get_ident() == self._thread:
            self._broadcast.tell(LOG, told)
        else:
            self._broadcast.tell_from_thread(LOG, told)


def log_event(node: str, level: str, text: str, now: float) -> bytes:
    """
    A line of the log as clients read it.
    """
    text = text.encode("utf-8", "replace").decode()[:_LONGEST]
    return json_bytes(
        {
            # Clients show no line without one.
            "deploymentid": "kypello",
            "node": node,
            "level": level,
            "time": tell_time(now),
            "message": text,
            "ConsoleMsg": text,
        }
    )


def drop_event(node: str, kind: int, count: int, now: float) -> bytes:
    """
    A traced call that there was not: so many are missing.

    :param kind: One that the client looks at.
    """
    text = f"{count} events were dropped"
    return json_bytes(
        {
            "type": kind,
            "nodename": node,
            "funcname": "kypello.Dropped",
            "time": tell_time(now),
            "path": text,
            "dur": 0,
            "msg": text,
            "error": text,
            "http": {
                "request": {"time": tell_time(now), "method": "-", "path": text, "client": "-"},
                "response": {"time": tell_time(now), "statuscode": 0},
                "stats": {},
            },
        }
    )


class Traced(msgspec.Struct):
    """
    What decides whether a traced call is wanted.
    """

    type: int
    dur: int
    error: str
    http: "TracedHTTP"


class TracedHTTP(msgspec.Struct):
    """
    The part of it about HTTP.
    """

    response: "TracedResponse"


class TracedResponse(msgspec.Struct):
    """
    The part of that about the answer.
    """

    statuscode: int


def _shown(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    shown: dict[str, list[str]] = {}
    for name, value in headers:
        shown.setdefault(name, []).append(value if name in _HEADERS else _REDACTED)
    return shown


def _query(query: bytes) -> str:
    """
    A query with the values of unknown parameters left out.
    """
    parts = []
    for part in filter(None, query.split(b"&")):
        name, equals, value = part.partition(b"=")
        known = unquote_to_bytes(name).decode("latin-1") in _PARAMETERS
        told = value if known else b"REDACTED" if equals else b""
        parts.append(name + equals + told)
    return quote(b"&".join(parts), safe="&=%+-._~/:,;*!'()")
