# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A request whose body is a stream.
"""

from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, parse_qs
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from kypello.http.body import RequestBody
from kypello.http.framing import Head
from kypello.model import Buffer

if TYPE_CHECKING:
    from kypello.http.channel import StreamingChannel
    from kypello.http.site import StreamingSite


class StreamingRequest(Request):
    """
    A request that is rendered before its body has come.

    ``method``, ``uri`` (the target as sent), ``requestHeaders`` and the like are those of
    Twisted; ``content`` does not exist.

    :ivar head: The head as sent.
    :ivar body: The body, a :class:`kypello.interfaces.IBodySource`.
    :ivar request_id: 16 upper-case hex digits, unique for all practical purposes.
    :ivar answered: When its answer began, by the same clock as *started*; 0 before.
    :ivar aborted: The client went away before the answer was complete.
    :ivar started: When the head was in, in seconds of the site's clock.
    """

    defaultContentType = None
    # Twisted's annotation names its own channel; ours has the same public methods.
    channel: "StreamingChannel | None"  # type: ignore[assignment]
    site: "StreamingSite"
    answered = 0.0
    aborted = False
    _operation = "-"
    _subject = ""

    def __init__(self, channel: "StreamingChannel", head: Head) -> None:
        """
        Made by the channel.

        What Twisted's own would make, but is not always needed, is made when it is.
        """
        self.channel = channel
        self.transport = channel.transport
        self.client = channel.getPeer()
        self.host = channel.getHost()
        self.queued = False
        self.notifications = []
        self.site = site = channel.site
        self.head = head
        self.body = RequestBody(head.length, channel)
        self.request_id = site.new_request_id()
        self.started = site.clock.seconds()

    def __repr__(self) -> str:
        """
        Name the request without its query, which may hold a signature.
        """
        return f"<StreamingRequest {self.request_id}>"

    @property
    def operation(self) -> str:
        """
        What the request turned out to be, for the access log; set by the front.
        """
        return self._operation

    @operation.setter
    def operation(self, name: str) -> None:
        # Whose end was told is no longer told of.
        if name != self._operation and not self.aborted:
            if self.site.observer is not None:
                self.site.observer.named(self._operation, name)
            self._operation = name

    @property
    def subject(self) -> str:
        """
        What the request is about, for who counts by that; set by the front once, when it knows the
        operation and that there is such a thing.
        """
        return self._subject

    @subject.setter
    def subject(self, name: str) -> None:
        if not self.aborted:
            self._subject = name
            if self.site.observer is not None:
                self.site.observer.about(self._operation, name)

    @cached_property
    def requestHeaders(self) -> Headers:  # type: ignore[override]
        """
        The headers, for resources that use them.
        """
        headers = Headers()
        for name, value in self.head.headers:
            headers.addRawHeader(name.encode("ascii"), value.encode("latin-1"))
        return headers

    @cached_property
    def responseHeaders(self) -> Headers:  # type: ignore[override]
        """
        The headers of the answer, for resources that use them.
        """
        return Headers()

    @cached_property
    def cookies(self) -> list[bytes]:  # type: ignore[override]
        """
        The cookies of the answer, for resources that use them.
        """
        return []

    @cached_property
    def received_cookies(self) -> dict[bytes, bytes]:  # type: ignore[override]
        """
        The cookies of the request, for resources that use them.
        """
        return {}

    def isSecure(self) -> bool:
        """
        Whether the connection is encrypted.
        """
        return self.channel is not None and self.channel.isSecure()

    @property
    def tls_version(self) -> str:
        """
        The version of TLS that the connection has, such as ``1.3``; empty without TLS.
        """
        if self.channel is None or not self.isSecure():
            return ""
        handle = getattr(self.channel.transport, "getHandle", None)
        return "" if handle is None else handle().get_protocol_version_name().removeprefix("TLSv")

    def getCookie(self, key: bytes) -> bytes | None:
        """
        Give the value of a cookie, for resources that use them.
        """
        if not self.received_cookies:
            self.parseCookies()
        return self.received_cookies.get(key)

    @cached_property
    def args(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        """
        The decoded query, for resources that use it.
        """
        query: dict[bytes, list[bytes]] = parse_qs(self.uri.partition(b"?")[2], True)
        return query

    def begin(self) -> None:
        """
        Find the resource and render it.
        """
        head = self.head
        self.method, self.uri, self.clientproto = head.method, head.target, head.version
        self.path = head.target.partition(b"?")[0]
        self.process()

    def process(self) -> None:
        """
        Find the resource and render it.

        A leaf at the root finds its own way by :attr:`uri`, without ``postpath``.
        """
        site = self.site
        self.prepath: list[bytes] = []
        self.postpath: list[bytes] = []
        try:
            if site.resource.isLeaf:
                self.render(site.resource)
            else:
                self.postpath = [unquote_to_bytes(part) for part in self.path[1:].split(b"/")]
                self.render(site.getResourceFor(self))
        except Exception:
            self.processingFailed(Failure())

    def begin_answer(self, status: int, lines: bytes, size: int | None) -> None:
        """
        Send the head of an answer; what is written next is its body.

        :param lines: The headers but those that tell where the body ends.
        :param size: Of the body; ``None`` when unknown.
        """
        assert self.channel is not None
        self.code = status
        self.startedWriting = 1
        self.answered = self.site.clock.seconds()
        if status not in NO_BODY_CODES:
            if size is not None:
                lines += b"Content-Length: %d\r\n" % size
            elif self.method != b"HEAD" and self.clientproto == b"HTTP/1.1":
                self.chunked = 1
                lines += b"Transfer-Encoding: chunked\r\n"
        bare = status in NO_BODY_CODES or self.method == b"HEAD"
        self.channel.begin_answer(status, lines, bare or size is not None or bool(self.chunked))

    def write(self, data: Buffer) -> None:
        """
        Send some of the body of an answer; its head before that, unless it was sent.
        """
        if self.startedWriting and self.channel is not None and not self.chunked:
            self.sentLength += len(data)
            self.channel.write(data)
        else:
            super().write(data)

    def finish(self) -> None:
        """
        The whole answer was written.
        """
        if not self.startedWriting or self.channel is None or self.chunked or self.producer:
            super().finish()
            return
        self.site.log(self)
        self.finished = 1
        channel, self.channel = self.channel, None
        channel.requestDone(self)
        for waiting in self.notifications:
            waiting.callback(None)

    def abort(self) -> None:
        """
        Cut the connection: the client must not take what it has for the whole answer.
        """
        if self.channel is not None:
            self.channel.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """
        Called by the channel: the client is gone.
        """
        self.aborted = True
        super().connectionLost(reason)
        self.site.log(self)
