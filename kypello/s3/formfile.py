# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The file of a form as a stream.
"""

from collections import deque
from collections.abc import Mapping

from attrs import define, field
from zope.interface import implementer

from kypello.errors import Refused
from kypello.interfaces import IBodySource
from kypello.model import Buffer
from kypello.s3.formdata import FormDecoder


@implementer(IBodySource)
@define(eq=False)
class FormFile:
    """
    The content of the file, while it comes.

    Reading goes on to the end of the form, so that a form that is broken off is no file.

    :ivar size: Of all that is left of the form: the file is a little smaller.
    :ivar smallest: The least bytes that it may have.
    :ivar largest: The most.
    """

    size: int | None
    _body: IBodySource
    _decoder: FormDecoder
    _waiting: deque[memoryview]
    smallest: int = 0
    largest: int | None = None
    _given: int = field(default=0, init=False)

    @property
    def fields(self) -> Mapping[str, str]:
        """
        The fields before the file, by lower-case name.
        """
        return self._decoder.fields

    @property
    def filename(self) -> str:
        """
        The name of the file as sent; empty when it has none.
        """
        return self._decoder.filename or ""

    async def read(self) -> Buffer:
        """
        Give the next block; see :meth:`IBodySource.read`.

        :raises Refused: ``MalformedPOSTRequest``, ``InvalidArgument`` for a second file,
            ``EntityTooLarge`` or ``EntityTooSmall``.
        """
        while not self._waiting:
            block = await self._body.read()
            if not len(block):
                self._decoder.finish()
                self._check_smallest()
                return b""
            self._waiting.extend(self._decoder.feed(block))
        piece = self._waiting.popleft()
        self._given += len(piece)
        if self.largest is not None and self._given > self.largest:
            raise Refused(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed size",
                {"ProposedSize": str(self._given), "MaxSizeAllowed": str(self.largest)},
            )
        return piece

    def close(self) -> None:
        """
        Give up what is left.
        """
        self._waiting.clear()
        self._body.close()

    def _check_smallest(self) -> None:
        if self._given < self.smallest:
            raise Refused(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                {"ProposedSize": str(self._given), "MinSizeAllowed": str(self.smallest)},
            )


async def open_form(body: IBodySource, boundary: bytes) -> FormFile:
    """
    Read the fields of a form.

    :param body: Of a known size; closed with the file.
    :raises KypelloError: What *body* raises; :class:`Refused` as :class:`FormDecoder`.
    """
    decoder = FormDecoder(boundary)
    waiting: deque[memoryview] = deque()
    while decoder.filename is None:
        block = await body.read()
        if not len(block):
            decoder.finish()
        waiting.extend(decoder.feed(block))
    assert body.size is not None
    return FormFile(body.size - decoder.before_file, body, decoder, waiting)
