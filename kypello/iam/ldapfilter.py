# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Filters of a directory (RFC 4515) with places for what a client says.

A filter is read before anything of the client is put into it, so that this can only be a value,
whatever it holds.
"""

import re
from collections.abc import Mapping
from typing import Any

from attrs import define
from ldaptor.protocols import pureldap

_ITEM = re.compile(r"([0-9A-Za-z;.:_-]*?)([~<>:]?=)([^()]*)\Z", re.DOTALL)
_RULE = re.compile(r"([0-9A-Za-z;._-]*)(:dn)?(?::([0-9A-Za-z._-]+))?\Z")
_PIECE = re.compile(rb"\\([0-9A-Fa-f]{2})|%([sd])|([^\\])", re.DOTALL)
_MOST_DEPTH = 32


def read_filter(template: str, values: Mapping[str, str]) -> Any:
    """
    Read a filter and put values into it.

    :param template: ``%s`` and ``%d`` stand for the values of these names.
    :return: A filter of ldaptor.
    :raises ValueError: The template is no filter, or wants a value that there is not.
    """
    reading = _Reading(template, {name: value.encode() for name, value in values.items()})
    found = reading.read(0)
    if reading.position != len(template):
        raise ValueError("something follows the filter")
    return found


@define(eq=False)
class _Reading:
    """
    A filter that is being read.

    :ivar position: Of the next character.
    """

    _text: str
    _values: Mapping[str, bytes]
    position: int = 0

    def read(self, depth: int) -> Any:
        """
        Read one filter with its parentheses.
        """
        if depth > _MOST_DEPTH:
            raise ValueError("it is nested too deeply")
        self._take("(")
        sign = self._text[self.position : self.position + 1]
        if sign in ("&", "|", "!") and sign:
            self.position += 1
            parts = []
            while self._text[self.position : self.position + 1] == "(":
                parts.append(self.read(depth + 1))
            found = _joined(sign, parts)
        else:
            found = self._item()
        self._take(")")
        return found

    def _take(self, sign: str) -> None:
        if self._text[self.position : self.position + 1] != sign:
            raise ValueError(f"{sign!r} is missing at position {self.position}")
        self.position += 1

    def _item(self) -> Any:
        end = self._text.find(")", self.position)
        item = self._text[self.position : end] if end >= 0 else ""
        match = _ITEM.match(item)
        if match is None:
            raise ValueError(f"{item!r} is no comparison")
        self.position = end
        name, operator, value = match.groups()
        if operator == ":=":
            return self._extensible(name, value)
        if not name or ":" in name:
            raise ValueError(f"{item!r} names no attribute")
        attribute = name.encode("ascii")
        if operator == "=" and value == "*":
            return pureldap.LDAPFilter_present(attribute)
        if operator == "=" and "*" in value:
            return self._substrings(attribute, value)
        kind = {
            "=": pureldap.LDAPFilter_equalityMatch,
            "~=": pureldap.LDAPFilter_approxMatch,
            ">=": pureldap.LDAPFilter_greaterOrEqual,
            "<=": pureldap.LDAPFilter_lessOrEqual,
        }[operator]
        return kind(
            attributeDesc=pureldap.LDAPAttributeDescription(attribute),
            assertionValue=pureldap.LDAPAssertionValue(self._value(value)),
        )

    def _substrings(self, attribute: bytes, value: str) -> Any:
        first, *middle, last = value.split("*")
        parts = [pureldap.LDAPFilter_substrings_any(self._value(one)) for one in middle if one]
        if first:
            parts.insert(0, pureldap.LDAPFilter_substrings_initial(self._value(first)))
        if last:
            parts.append(pureldap.LDAPFilter_substrings_final(self._value(last)))
        if not parts:
            raise ValueError(f"{value!r} is no pattern")
        return pureldap.LDAPFilter_substrings(type=attribute, substrings=parts)

    def _extensible(self, name: str, value: str) -> Any:
        match = _RULE.match(name)
        if match is None or not (match[1] or match[3]):
            raise ValueError(f"{name!r} names neither an attribute nor a rule")
        return pureldap.LDAPFilter_extensibleMatch(
            matchingRule=match[3] and pureldap.LDAPMatchingRuleAssertion_matchingRule(match[3]),
            type=match[1] and pureldap.LDAPMatchingRuleAssertion_type(match[1]),
            matchValue=pureldap.LDAPMatchingRuleAssertion_matchValue(self._value(value)),
            dnAttributes=match[2] and pureldap.LDAPMatchingRuleAssertion_dnAttributes(True),
        )

    def _value(self, text: str) -> bytes:
        """
        A value without escapes, and with what stands for something replaced.
        """
        found, position, raw = bytearray(), 0, text.encode()
        while position < len(raw):
            match = _PIECE.match(raw, position)
            if match is None:
                raise ValueError(f"{text!r} holds a backslash without two hex digits")
            position = match.end()
            if match[1]:
                found.append(int(match[1], 16))
            elif match[2]:
                name = match[2].decode()
                if name not in self._values:
                    raise ValueError(f"%{name} stands for nothing here")
                found += self._values[name]
            else:
                found += match[3]
        return bytes(found)


def _joined(sign: str, parts: list[Any]) -> Any:
    if sign == "!":
        if len(parts) != 1:
            raise ValueError("! takes one filter")
        return pureldap.LDAPFilter_not(parts[0])
    if not parts:
        raise ValueError(f"{sign} takes filters")
    return (pureldap.LDAPFilter_and if sign == "&" else pureldap.LDAPFilter_or)(parts)
