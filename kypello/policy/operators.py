# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How condition operators compare one value of a request with the values of a policy.

Each family reads the values of the policy once and gives a test.
"""

import binascii
import operator
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, TypeAlias

from attrs import frozen

from kypello.errors import MalformedPolicy
from kypello.policy.keys import is_address, is_boolean
from kypello.policy.wildcards import Lookup, Template

#: Whether one value of a request is what is meant.
Test: TypeAlias = Callable[[str, Lookup], bool]

_Compare: TypeAlias = Callable[[Any, Any], bool]

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")


@frozen
class Reading:
    """
    What a family is to read.

    :ivar name: Of the operator, as it stands in the policy without qualifier and ``IfExists``.
    :ivar variables: Whether ``${...}`` is a variable.
    """

    name: str
    key: str
    values: Sequence[str]
    variables: bool


def _texts(reading: Reading, *, wild: bool, folded: bool = False) -> Test:
    """
    Texts, exactly, without regard to case, or with wildcards.
    """
    templates = [
        Template(value, wild=wild, variables=reading.variables, folded=folded)
        for value in reading.values
    ]
    if len(templates) == 1:
        return templates[0].matches
    if not folded and all(template.fixed for template in templates):
        texts = frozenset(template.prefix for template in templates)
        return lambda given, _lookup: given in texts
    return lambda given, lookup: any(template.matches(given, lookup) for template in templates)


def _binary(reading: Reading) -> Test:
    """
    The bytes of a value, which the policy has in base64.
    """
    expected = set()
    for value in reading.values:
        try:
            expected.add(b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            raise MalformedPolicy(
                f"value {value} must be a base64 string for {reading.name} condition"
            ) from None
    return lambda given, _lookup: given.encode("utf-8", "surrogateescape") in expected


def _arns(reading: Reading) -> Test:
    """
    ARNs: wildcards stay within one of the six parts.
    """
    patterns = [
        [Template(part, variables=reading.variables) for part in _parts(value)]
        for value in reading.values
    ]

    def test(given: str, lookup: Lookup) -> bool:
        parts = given.split(":", 5)
        return any(
            (len(pattern) == 1 and pattern[0].everything)
            or (
                len(pattern) == len(parts)
                and all(
                    template.matches(part, lookup)
                    for template, part in zip(pattern, parts, strict=True)
                )
            )
            for pattern in patterns
        )

    return test


def _parts(arn: str) -> Sequence[str]:
    # Colons within ``${...}`` belong to names of keys.
    parts: list[str] = []
    start, inside = 0, False
    for place, sign in enumerate(arn):
        if sign == "{" and arn[place - 1 : place] == "$":
            inside = True
        elif sign == "}":
            inside = False
        elif sign == ":" and not inside and len(parts) < 5:
            parts.append(arn[start:place])
            start = place + 1
    return [*parts, arn[start:]]


def _booleans(reading: Reading) -> Test:
    """
    Yes or no.
    """
    if not is_boolean(reading.key):
        raise MalformedPolicy(
            f"only aws:SecureTransport key is allowed for {reading.name} condition"
        )
    expected = {_boolean(value, "boolean") for value in reading.values}
    return lambda given, _lookup: given.lower() in expected


def nulls(reading: Reading) -> frozenset[bool]:
    """
    The values of ``Null``: whether the key has to be absent.
    """
    return frozenset(_boolean(value, reading.name) == "true" for value in reading.values)


def _boolean(value: str, condition: str) -> str:
    folded = value.lower()
    if folded not in ("true", "false"):
        raise MalformedPolicy(f"value must be a boolean string for {condition} condition")
    return folded


def _addresses(reading: Reading) -> Test:
    """
    IP addresses and networks.
    """
    if not is_address(reading.key):
        raise MalformedPolicy(f"only aws:SourceIp key is allowed for {reading.name} condition")
    networks = []
    for value in reading.values:
        try:
            networks.append(ip_network(value, strict=False))
        except ValueError:
            raise MalformedPolicy(
                f"value {value} must be CIDR string for {reading.name} condition"
            ) from None

    def test(given: str, _lookup: Lookup) -> bool:
        address = _address(given)
        return address is not None and any(address in network for network in networks)

    return test


@lru_cache(maxsize=1024)
def _address(given: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(given)
    except ValueError:
        return None
    # As a socket for both families tells an address of version 4.
    return getattr(address, "ipv4_mapped", None) or address


def _numbers(reading: Reading, *, compare: _Compare) -> Test:
    """
    Whole and decimal numbers.
    """
    expected = []
    for value in reading.values:
        if not _NUMBER.fullmatch(value):
            raise MalformedPolicy(
                f"value {value} must be a int for {reading.name} condition: invalid syntax"
            )
        expected.append(Decimal(value))

    def test(given: str, _lookup: Lookup) -> bool:
        return _NUMBER.fullmatch(given) is not None and any(
            compare(Decimal(given), one) for one in expected
        )

    return test


def _dates(reading: Reading, *, compare: _Compare) -> Test:
    """
    Moments: ISO 8601, or seconds since the epoch.
    """
    expected = []
    for value in reading.values:
        moment = _moment(value)
        if moment is None:
            raise MalformedPolicy(
                f"value {value} must be a date and time for {reading.name} condition"
            )
        expected.append(moment)

    def test(given: str, _lookup: Lookup) -> bool:
        moment = _moment(given)
        return moment is not None and any(compare(moment, one) for one in expected)

    return test


@lru_cache(maxsize=1024)
def _moment(text: str) -> float | None:
    if _WHOLE.fullmatch(text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


#: What ``Numeric`` and ``Date`` go on with.  Unequal is not equal, which is told apart.
_COMPARISONS: Mapping[str, _Compare] = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}

#: Families by operator, but for ``Null``.
FAMILIES: Mapping[str, Callable[[Reading], Test]] = {
    "StringEquals": partial(_texts, wild=False),
    "StringEqualsIgnoreCase": partial(_texts, wild=False, folded=True),
    "StringLike": partial(_texts, wild=True),
    "BinaryEquals": _binary,
    "ArnEquals": _arns,
    "ArnLike": _arns,
    "Bool": _booleans,
    "IpAddress": _addresses,
    **{f"Numeric{name}": partial(_numbers, compare=test) for name, test in _COMPARISONS.items()},
    **{f"Date{name}": partial(_dates, compare=test) for name, test in _COMPARISONS.items()},
}

#: Families whose values may have variables.
WITH_VARIABLES = frozenset(
    {"StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike"}
)

#: What is the opposite of which.
OPPOSITES: Mapping[str, str] = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NotIpAddress": "IpAddress",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
}
