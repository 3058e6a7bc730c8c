# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The few parts of the protobuf wire format (proto3) that stored master keys need.
"""

from collections.abc import Mapping
from typing import TypeAlias

#: A message taken apart: the last value of each field by number.
Fields: TypeAlias = Mapping[int, int | bytes]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def message(*values: tuple[int, int | bytes | None]) -> bytes:
    """
    Encode a message from pairs of field number and value; zero and ``None`` are left out.

    :param values: An integer is a signed or unsigned number of up to 64 bits.
    """
    encoded = bytearray()
    for number, value in values:
        if isinstance(value, int):
            if value:
                encoded += _varint(number << 3 | _VARINT) + _varint(value % 2**64)
        elif value is not None:
            encoded += _varint(number << 3 | _BYTES) + _varint(len(value)) + value
    return bytes(encoded)


def fields(encoded: bytes) -> Fields:
    """
    Decode a message.

    :raises ValueError: It is malformed.
    """
    found: dict[int, int | bytes] = {}
    position = 0
    while position < len(encoded):
        tag, position = _read_varint(encoded, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            found[number], position = _read_varint(encoded, position)
            continue
        if kind == _BYTES:
            size, position = _read_varint(encoded, position)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("an unknown wire type")
        if position + size > len(encoded):
            raise ValueError("a truncated message")
        found[number] = encoded[position : position + size]
        position += size
    return found


def data(message_fields: Fields, number: int) -> bytes:
    """
    The bytes of a field; none when it is absent.

    :raises ValueError: The field is of another type.
    """
    value = message_fields.get(number, b"")
    if not isinstance(value, bytes):
        raise ValueError("a number where bytes belong")
    return value


def integer(message_fields: Fields, number: int) -> int:
    """
    The signed number of a field; zero when it is absent.

    :raises ValueError: The field is of another type.
    """
    value = message_fields.get(number, 0)
    if not isinstance(value, int):
        raise ValueError("bytes where a number belongs")
    return value - 2**64 if value >= 2**63 else value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(encoded: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(encoded):
            raise ValueError("a truncated number")
        byte = encoded[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value % 2**64, position
    raise ValueError("a number of more than 64 bits")
