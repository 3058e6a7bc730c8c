# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One request on a connection, with its body and its answer.
"""

from kypello.errors import BodyTruncated
from kypello.http.framing import BadRequest, Chunked, Head, Identity
from kypello.http.request import StreamingRequest

#: How much of a body that nobody wants is read so that the connection can live on, in bytes.
DRAIN_LIMIT = 1024 * 1024


class Exchange:
    """
    What a connection knows about the request that it serves.

    :ivar body: Of the request.
    :ivar complete: The whole request was received.
    :ivar continued: The client knows that its body is wanted.
    :ivar persistent: The connection can serve another request after this one.
    :ivar answered: The whole answer was written.
    """

    __slots__ = (
        "_decoder",
        "answered",
        "body",
        "complete",
        "continued",
        "head",
        "persistent",
        "request",
    )

    def __init__(self, head: Head, request: StreamingRequest) -> None:
        """
        Find out how the body is framed.
        """
        self.head = head
        self.request = request
        self.body = request.body
        self.persistent = head.persistent
        self.continued = self.answered = False
        length = head.length
        self._decoder = Chunked() if length is None else Identity(length)
        self.complete = length == 0
        if self.complete:
            self.body.finish()

    @property
    def drainable(self) -> bool:
        """
        Whether the rest of the body is sure to come, and short.
        """
        if self.complete:
            return True
        if self.head.expects_continue and not self.continued:
            return False
        remaining = self._decoder.remaining
        return remaining is not None and remaining <= DRAIN_LIMIT

    @property
    def wants_more(self) -> bool:
        """
        Whether there is use for more of the body now.
        """
        if self.body.closed:
            return self.answered or self.drainable
        return not self.body.full

    def feed(self, data: bytes) -> bytes:
        """
        Take received bytes; give those that follow the request.
        """
        if self.complete:
            return data
        try:
            blocks, excess = self._decoder.feed(data)
        except BadRequest:
            # Nothing after this can be told from a request: the connection ends.
            self.persistent = False
            self.body.fail(BodyTruncated())
            return b""
        # Joined at once: an object for each of many small chunks takes many times their memory.
        self.body.deliver(b"".join(blocks))
        self._decoded()
        return excess

    def space(self) -> memoryview | None:
        """
        Where the next bytes of the body belong; ``None`` when :meth:`feed` must see them.
        """
        return self.body.space() if isinstance(self._decoder, Identity) else None

    def filled(self, size: int) -> None:
        """
        Bytes of the body are where they belong.
        """
        assert isinstance(self._decoder, Identity)
        self._decoder.remaining -= size
        self.body.filled(size)
        self._decoded()

    def _decoded(self) -> None:
        """
        Find out whether that was all of the body.
        """
        self.complete = self._decoder.complete
        if self.complete:
            self.body.finish()
