# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What can be told of a DARE 2.0 stream without its key: whether its packages are where they should
be.  That nobody changed them only the key tells.
"""

from attrs import define, field

from kypello.crypto.dare import NONCE_SIZE, OVERHEAD, PAYLOAD_SIZE
from kypello.errors import NotAuthentic
from kypello.model import Buffer

_HEADER_SIZE = 16
_VERSION = 0x20
_CIPHERS = (0, 1)
_FINAL = 0x80


@define(eq=False)
class Structure:
    """
    Looks at the headers of one stream, fed in blocks of any size.

    :ivar left: Bytes of the stream that were not fed yet.
    :ivar packages: How many headers were seen.
    :ivar _start: Version, cipher and nonce that all headers share.
    :ivar _skip: Bytes of payload and tag before the next header.
    """

    left: int
    packages: int = field(init=False, default=0)
    _start: bytes = field(init=False, default=b"")
    _held: bytearray = field(init=False, factory=bytearray, repr=False)
    _skip: int = field(init=False, default=0)

    def feed(self, block: Buffer) -> None:
        """
        Take the next bytes, not more than are left.

        :raises NotAuthentic: A header is not that of a package in this place.
        """
        view = memoryview(block)
        while view:
            if self._skip:
                taken = min(self._skip, len(view))
                self._skip -= taken
            else:
                taken = min(_HEADER_SIZE - len(self._held), len(view))
                self._held += view[:taken]
            self.left -= taken
            view = view[taken:]
            if len(self._held) == _HEADER_SIZE:
                self._package(bytes(self._held))
                self._held.clear()

    def finish(self) -> None:
        """
        See that all of it came.

        :raises NotAuthentic: The stream has lost its end.
        """
        if self.left or self._skip or self._held:
            raise NotAuthentic("end")

    def _package(self, head: bytes) -> None:
        final = bool(head[4] & _FINAL)
        start = head[:2] + bytes([head[4] & ~_FINAL]) + head[5:]
        if head[0] != _VERSION or head[1] not in _CIPHERS or (self._start or start) != start:
            raise NotAuthentic("package header")
        assert len(start) == 2 + NONCE_SIZE
        size = int.from_bytes(head[2:4], "little") + 1
        self._skip = size + OVERHEAD - _HEADER_SIZE
        # A package is the final one exactly when the stream ends with it.
        if final != (self._skip == self.left) or (not final and size != PAYLOAD_SIZE):
            raise NotAuthentic("package size")
        self._start = start
        self.packages += 1
