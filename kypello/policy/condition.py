# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Conditions: what a request has to be like for a statement to count.
"""

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from kypello.errors import MalformedPolicy
from kypello.policy.keys import EXISTING_TAG, is_known, normal
from kypello.policy.operators import FAMILIES, OPPOSITES, WITH_VARIABLES, Reading, Test, nulls
from kypello.policy.wildcards import Lookup, Template

_ANY = "ForAnyValue"
_ALL = "ForAllValues"
_IF_EXISTS = "IfExists"


@frozen
class Condition:
    """
    One key with one operator; equal when it was written the same.

    :ivar operator: As it was written.
    :ivar key: In its normal form.
    :ivar written: The key as it was written.
    :ivar values: Of which one has to fit.
    :ivar needed: Keys of variables whose absence would make it hold.
    """

    operator: str
    key: str
    written: str
    values: tuple[str, ...]
    _absent: bool = field(eq=False, repr=False)
    _quantifier: str = field(eq=False, repr=False)
    _negated: bool = field(eq=False, repr=False)
    _test: Test | None = field(eq=False, repr=False)
    _present: bool = field(eq=False, repr=False)
    needed: frozenset[str] = field(default=frozenset(), eq=False, repr=False)

    @property
    def asks_tags(self) -> bool:
        """
        Whether it is about tags of the object as it is.
        """
        return self.key.startswith(EXISTING_TAG)

    def holds(self, lookup: Lookup) -> bool:
        """
        Whether a request is like that.

        Where a key has several values and there is no quantifier, one that fits is enough; for
        an operator that denies, none may fit.
        """
        given = lookup(self.key)
        if not given:
            return self._absent
        test = self._test
        if test is None:
            return self._present
        if len(given) == 1:
            return test(given[0], lookup) != self._negated
        if self._quantifier == _ANY:
            return any(test(value, lookup) != self._negated for value in given)
        if self._quantifier == _ALL:
            return all(test(value, lookup) != self._negated for value in given)
        return any(test(value, lookup) for value in given) != self._negated


def parse_conditions(element: Any, variables: bool) -> tuple[Condition, ...]:
    """
    Read a ``Condition`` element: by operator and key.

    :param variables: Whether ``${...}`` is a variable.
    :raises MalformedPolicy:
    """
    if not isinstance(element, dict):
        raise MalformedPolicy("Condition must be an object")
    conditions = []
    for operator, keys in element.items():
        if not isinstance(keys, dict):
            raise MalformedPolicy(f"condition {operator} must be an object")
        for key, values in keys.items():
            conditions.append(_condition(operator, key, _values(values), variables))
    return tuple(conditions)


def _condition(operator: str, written: str, values: tuple[str, ...], variables: bool) -> Condition:
    quantifier, colon, name = operator.rpartition(":")
    plain = name.removesuffix(_IF_EXISTS)
    family = OPPOSITES.get(plain, plain)
    known = plain == "Null" and plain == operator
    if not known and (family not in FAMILIES or (colon and quantifier not in (_ANY, _ALL))):
        raise MalformedPolicy(f"invalid condition name '{operator}'")
    key = normal(written)
    if not is_known(key):
        raise MalformedPolicy(f"invalid condition key '{written}'")
    reading = Reading(plain, key, values, variables)
    if known:
        wanted = nulls(reading)
        return Condition(
            operator, key, written, values, True in wanted, "", False, None, False in wanted
        )
    negated = plain in OPPOSITES
    if name.endswith(_IF_EXISTS) or quantifier == _ALL:
        absent = True
    else:
        # No value that could fit: none differs either when one that does is asked for.
        absent = negated and quantifier != _ANY
    test = FAMILIES[family](reading)
    needed: frozenset[str] = frozenset()
    if negated and variables and family in WITH_VARIABLES:
        needed = needed.union(*(Template(value).variables for value in values))
    return Condition(
        operator, key, written, values, absent, quantifier, negated, test, False, needed
    )


def _values(element: Any) -> tuple[str, ...]:
    values: Sequence[Any] = element if isinstance(element, list) else [element]
    if not values:
        raise MalformedPolicy("condition values must not be empty")
    return tuple(_value(value) for value in values)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise MalformedPolicy("condition values must be strings, numbers or booleans")
