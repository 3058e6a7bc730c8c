# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The framing of form uploads: ``multipart/form-data`` with one file (RFC 7578, RFC 2046).

    --boundary CRLF headers CRLF CRLF value CRLF ... --boundary--
"""

import re
from enum import Enum, auto

from attrs import frozen

from kypello.errors import Refused
from kypello.model import Buffer

#: The most that names and values of all fields may have together, in bytes.
MAX_FIELDS = 20 * 1024

#: The most bytes before the content of the file: fields with all their framing.
MAX_BEFORE_FILE = 4 * MAX_FIELDS

#: The longest header section of a part, and the longest rest of a boundary line, in bytes.
MAX_HEADERS = 8 * 1024
_MAX_PADDING = 128

_FILE = "file"
#: Fields of this prefix mean nothing, so that they may come again.
_IGNORED = "x-ignore-"
_END_OF_LINE = b"\r\n"
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_KIND = re.compile(rf"\s*({_WORD}(?:/{_WORD})?)\s*")
_PARAMETER = re.compile(rf";\s*({_WORD})\s*=\s*({_QUOTED}|{_WORD})\s*", re.DOTALL)
#: What is escaped in quotes; any other backslash is one, as in the paths of some browsers.
_ESCAPED = re.compile(r'\\(["\\])')
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


@frozen
class _Part:
    """
    What the headers of a part say.

    :ivar name: In lower case.
    """

    name: str
    filename: str


class _State(Enum):
    PREAMBLE = auto()
    BOUNDARY = auto()
    HEADERS = auto()
    CONTENT = auto()
    OVER = auto()


class FormDecoder:
    """
    Takes a form apart: its fields, then the content of its file as it comes.

    What comes after the file is skipped.  All methods raise :class:`Refused`; nothing may be fed
    afterwards.

    :ivar fields: The values of the fields before the file, by lower-case name.
    :ivar filename: Of the file; ``None`` before its content begins.
    :ivar before_file: How many bytes there were before that content.
    """

    def __init__(self, boundary: bytes) -> None:
        """
        :param boundary: As :func:`read_boundary` gives it.
        """
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.before_file = 0
        self._delimiter = b"\r\n--" + boundary
        self._state = _State.PREAMBLE
        # The first boundary may be the first line.
        self._data = _END_OF_LINE
        self._at = 0
        self._fed = 0
        self._part = _Part("", "")
        self._value = bytearray()
        self._fields_size = 0

    def feed(self, block: Buffer) -> list[memoryview]:
        """
        Take the next bytes of the form; give those of its file among them.

        :raises Refused: ``MalformedPOSTRequest``, ``MaxPostPreDataLengthExceeded``, or
            ``InvalidArgument`` for a field that comes twice, or another number of files than one.
        """
        self._data = b"".join((memoryview(self._data)[self._at :], block))
        self._at = 0
        self._fed += len(block)
        content: list[memoryview] = []
        steps = {
            _State.PREAMBLE: self._skip,
            _State.BOUNDARY: self._end_boundary,
            _State.HEADERS: self._read_headers,
            _State.CONTENT: self._skip,
        }
        while self._state is not _State.OVER:
            if not steps[self._state](content):
                return content
        self._at = len(self._data)
        return content

    def finish(self) -> None:
        """
        The body is over.

        :raises Refused: ``MalformedPOSTRequest``: the form is not.
        """
        if self._state is not _State.OVER:
            raise malformed()

    def _skip(self, content: list[memoryview]) -> bool:
        """
        Go to the next boundary, or to what may be the beginning of one.
        """
        data, delimiter = self._data, self._delimiter
        found = data.find(delimiter, self._at)
        stop = found
        if found < 0:
            # The delimiter begins with its only carriage return.
            stop = data.rfind(b"\r", max(self._at, len(data) - len(delimiter) + 1))
            if stop < 0 or not delimiter.startswith(data[stop:]):
                stop = len(data)
        piece = memoryview(data)[self._at : stop]
        self._advance(stop)
        if self._state is _State.CONTENT and len(piece):
            self._take(piece, content)
        if found < 0:
            return False
        if self._state is _State.CONTENT and self.filename is None:
            self._keep_field()
        self._advance(found + len(delimiter))
        self._state = _State.BOUNDARY
        return True

    def _end_boundary(self, _content: list[memoryview]) -> bool:
        rest = self._data[self._at : self._at + _MAX_PADDING]
        if rest.startswith(b"--"):
            if self.filename is None:
                raise _one_file()
            self._state = _State.OVER
            return True
        padding, end, _after = rest.partition(_END_OF_LINE)
        if end and not padding.strip(b" \t"):
            # The end of this line begins the headers, so that there may be none.
            self._advance(self._at + len(padding))
            self._state = _State.HEADERS
            return True
        if end or len(rest) == _MAX_PADDING:
            raise malformed()
        return False

    def _read_headers(self, _content: list[memoryview]) -> bool:
        section, end, _after = self._data[self._at : self._at + MAX_HEADERS].partition(b"\r\n\r\n")
        if not end:
            if len(section) == MAX_HEADERS:
                raise malformed()
            return False
        self._advance(self._at + len(section) + len(end))
        self._part = _read_part(section)
        self._state = _State.CONTENT
        if self._part.name == _FILE:
            if self.filename is not None:
                raise _one_file()
            self.filename = self._part.filename
            self.before_file = self._fed - len(self._data) + self._at
        elif self.filename is None:
            self._count(len(self._part.name))
        return True

    def _advance(self, at: int) -> None:
        self._at = at
        if self.filename is None and self._fed - len(self._data) + at > MAX_BEFORE_FILE:
            raise _too_large()

    def _take(self, piece: memoryview, content: list[memoryview]) -> None:
        if self.filename is None:
            self._count(len(piece))
            self._value += piece
        elif self._part.name == _FILE:
            content.append(piece)

    def _count(self, size: int) -> None:
        self._fields_size += size
        if self._fields_size > MAX_FIELDS:
            raise _too_large()

    def _keep_field(self) -> None:
        name = self._part.name
        if name in self.fields and not name.startswith(_IGNORED):
            raise Refused(
                "InvalidArgument",
                f"Bucket POST must not contain the field named '{name}' twice.",
                {"ArgumentName": name},
            )
        self.fields[name] = _text(bytes(self._value))
        self._value.clear()


def read_boundary(content_type: str) -> bytes:
    """
    The boundary that a request names.

    :param content_type: Of ``multipart/form-data``.
    :raises Refused: ``MalformedPOSTRequest``.
    """
    _kind, parameters = _read_value(content_type)
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise malformed()
    return boundary.encode("ascii")


def malformed() -> Refused:
    """
    The refusal of what is no form.
    """
    return Refused(
        "MalformedPOSTRequest",
        "The body of your POST request is not well-formed multipart/form-data.",
    )


def _read_part(section: bytes) -> _Part:
    dispositions = []
    for line in section.split(_END_OF_LINE):
        header, _colon, value = line.partition(b":")
        if header.strip(b" \t").lower() == b"content-disposition":
            dispositions.append(_text(value))
    if len(dispositions) != 1:
        raise malformed()
    kind, parameters = _read_value(dispositions[0])
    name = parameters.get("name", "").lower()
    if kind != "form-data" or not name:
        raise malformed()
    return _Part(name, parameters.get("filename", ""))


def _read_value(text: str) -> tuple[str, dict[str, str]]:
    """
    A header value with parameters; names are in lower case.
    """
    found = _KIND.match(text)
    if found is None:
        raise malformed()
    kind, at = found[1].lower(), found.end()
    parameters: dict[str, str] = {}
    while at < len(text):
        found = _PARAMETER.match(text, at)
        if found is None or found[1].lower() in parameters:
            raise malformed()
        value = found[2]
        if value.startswith('"'):
            value = _ESCAPED.sub(r"\1", value[1:-1])
        parameters[found[1].lower()] = value
        at = found.end()
    return kind, parameters


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise malformed() from None


def _too_large() -> Refused:
    return Refused(
        "MaxPostPreDataLengthExceeded",
        "Your POST request fields preceding the upload file were too large.",
    )


def _one_file() -> Refused:
    return Refused("InvalidArgument", "POST requires exactly one file upload per request.")
