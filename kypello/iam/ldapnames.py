# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Names of entries in a directory (RFC 4514), written in one way.
"""

import re

#: One ``type=value``, up to what ends it.
_PART = re.compile(
    r"\s*([A-Za-z][0-9A-Za-z-]*|[0-9]+(?:\.[0-9]+)*)\s*=\s*((?:\\.|[^\\,+;<>\"\x00])*)([,+;]|\Z)",
    re.DOTALL,
)
_ESCAPE = re.compile(rb"\\([0-9A-Fa-f]{2}|[ \"#+,;<=>\\])")
_SPECIAL = frozenset('\\,+";<>=')


def normal_name(text: str) -> str:
    """
    Write the name of an entry so that all its spellings become one.

    Case does not matter, as in nearly all attributes that names are made of, nor do blanks
    around signs, escapes that need not be, and the order within a part.

    :raises ValueError: It is no name.
    """
    parts: list[list[str]] = [[]]
    position, sign = 0, ","
    while sign:
        match = _PART.match(text, position)
        if match is None:
            raise ValueError(f"{text!r} is no name of an entry such as uid=alice,dc=example")
        kind, value, sign = match.groups()
        parts[-1].append(f"{kind.lower()}={_normal_value(value)}")
        if sign in (",", ";"):
            parts.append([])
        position = match.end()
    return ",".join("+".join(sorted(part)) for part in parts if part)


def _normal_value(text: str) -> str:
    raw = text.encode()
    if b"\\" in _ESCAPE.sub(b"", raw):
        raise ValueError(f"{text!r} holds a backslash that escapes nothing")
    try:
        value = _ESCAPE.sub(_unescaped, raw).decode()
    except UnicodeDecodeError:
        raise ValueError(f"{text!r} is not UTF-8") from None
    return _escaped(value.strip(" ").casefold())


def _unescaped(match: "re.Match[bytes]") -> bytes:
    found: bytes = match[1]
    return bytes([int(found, 16)]) if len(found) == 2 else found


def _escaped(value: str) -> str:
    found = "".join(
        f"\\{sign}"
        if sign in _SPECIAL
        else sign
        if sign.isprintable()
        else "".join(f"\\{byte:02x}" for byte in sign.encode())
        for sign in value
    )
    return f"\\{found}" if found.startswith("#") else found
