# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The policy of a form: what whoever signed it allows to be uploaded with it.

Source: "Creating a POST Policy" of the Amazon S3 API reference.
"""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from kypello.errors import Refused

#: Fields that need no condition: the signature covers, or is, what they say.
_FREE = frozenset({"policy", "x-amz-signature", "signature", "awsaccesskeyid", "file"})
_IGNORED = "x-ignore-"

_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
#: One escape of a string; JSON knows all that policies do but that of the dollar sign.
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_MAX_DIGITS = 19


@frozen
class Condition:
    """
    What a field must be.

    :ivar field: In lower case, without the dollar sign.
    :ivar prefix: Whether *value* is only its beginning.
    """

    field: str
    value: str
    prefix: bool = False

    def holds(self, stated: str) -> bool:
        """
        Whether the field may have a value.
        """
        if not self.prefix:
            return stated == self.value
        if self.field != "content-type":
            return stated.startswith(self.value)
        # A browser may name several types.
        return all(one.strip().startswith(self.value) for one in stated.split(","))

    def shown(self) -> str:
        """
        The condition as a policy writes it.
        """
        return json.dumps(["starts-with" if self.prefix else "eq", f"${self.field}", self.value])


@frozen
class FormPolicy:
    """
    A policy.

    :ivar expiration: Seconds since the epoch.
    :ivar smallest: Of the file, in bytes.
    :ivar largest: Likewise; ``None`` for no limit.
    """

    expiration: float
    conditions: tuple[Condition, ...]
    smallest: int = 0
    largest: int | None = None

    def check(self, fields: Mapping[str, str], now: float) -> None:
        """
        See that a form is what the policy allows, but for the size of the file.

        :param fields: All fields by lower-case name, the key as it will be, and the bucket.
        :param now: Seconds since the epoch.
        :raises Refused: ``AccessDenied``.
        """
        if now >= self.expiration:
            raise _denied("Policy expired.")
        for condition in self.conditions:
            stated = fields.get(condition.field)
            if stated is None or not condition.holds(stated):
                raise _denied(f"Policy Condition failed: {condition.shown()}")
        allowed = {condition.field for condition in self.conditions} | _FREE | {"bucket"}
        extra = [name for name in fields if name not in allowed and not name.startswith(_IGNORED)]
        if extra:
            raise _denied(f"Extra input fields: {', '.join(extra)}")


def read_policy(text: str) -> FormPolicy:
    """
    Read a policy.

    :param text: In base64, as the form has it.
    :raises Refused: ``InvalidPolicyDocument``.
    """
    document = _read_json(text)
    if not isinstance(document, dict):
        raise _invalid("Invalid JSON.")
    if "expiration" not in document:
        raise _invalid("Policy missing expiration.")
    if "conditions" not in document:
        raise _invalid("Policy missing conditions.")
    unknown = document.keys() - {"expiration", "conditions"}
    if unknown:
        raise _invalid(f"Unexpected: '{min(unknown)}'.")
    expiration = _read_date(document["expiration"])
    stated = document["conditions"]
    if not isinstance(stated, list):
        raise _invalid("Invalid 'conditions' value: must be a List.")
    conditions, smallest, largest = [], 0, None
    for one in map(_read_condition, stated):
        if isinstance(one, Condition):
            conditions.append(one)
        else:
            # Of several ranges all must hold.
            smallest = max(smallest, one[0])
            largest = one[1] if largest is None else min(largest, one[1])
    return FormPolicy(expiration, tuple(conditions), smallest, largest)


def _read_json(text: str) -> Any:
    try:
        decoded = b64decode("".join(text.split()), validate=True).decode()
        plain = _ESCAPE.sub(lambda found: "$" if found[1] == "$" else found[0], decoded)
        return json.loads(plain, object_pairs_hook=_read_object)
    except (ValueError, RecursionError):
        raise _invalid("Invalid JSON.") from None


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # Parsers differ about which of them counts.
        raise ValueError("a name twice")
    return found


def _read_date(stated: object) -> float:
    if isinstance(stated, str) and _DATE.fullmatch(stated):
        try:
            return datetime.fromisoformat(stated).timestamp()
        except (ValueError, OverflowError):
            pass
    raise _invalid(f"Invalid 'expiration' value: '{stated}'")


def _read_condition(stated: object) -> Condition | tuple[int, int]:
    if isinstance(stated, dict):
        return _read_simple(stated)
    if not isinstance(stated, list):
        raise _invalid("Invalid Condition: must be a List or an Object.")
    if not stated or not isinstance(stated[0], str):
        raise _invalid("Invalid Condition: missing operation identifier.")
    name = stated[0].lower()
    read = _OPERATIONS.get(name)
    if read is None:
        raise _invalid(f"Invalid Condition: unknown operation '{stated[0]}'.")
    if len(stated) != 3:
        raise _invalid(f"Invalid Condition: wrong number of arguments for '{stated[0]}'.")
    return read(stated[1], stated[2])


def _read_simple(stated: dict[str, Any]) -> Condition:
    if len(stated) != 1 or not all(isinstance(value, str) for value in stated.values()):
        raise _invalid(
            "Invalid Simple-Condition: Simple-Conditions must have exactly one property"
            " specified, a string."
        )
    ((field, value),) = stated.items()
    return Condition(field.lower(), value)


def _read_match(prefix: bool) -> Callable[[object, object], Condition]:
    def read(field: object, value: object) -> Condition:
        """
        Read what is matched with what.
        """
        if not (isinstance(field, str) and field.startswith("$") and isinstance(value, str)):
            raise _invalid("Invalid Condition: must be a field such as '$key', and a string.")
        return Condition(field[1:].lower(), value, prefix)

    return read


def _read_range(smallest: object, largest: object) -> tuple[int, int]:
    found = [number for stated in (smallest, largest) for number in _numbers(stated)]
    if len(found) != 2:
        raise _invalid("Invalid Condition: 'content-length-range' takes two numbers.")
    return found[0], found[1]


def _numbers(stated: object) -> Iterator[int]:
    text = str(stated) if isinstance(stated, int | str) and not isinstance(stated, bool) else ""
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
        yield int(text)


_OPERATIONS: Mapping[str, Callable[[object, object], Condition | tuple[int, int]]] = {
    "eq": _read_match(prefix=False),
    "starts-with": _read_match(prefix=True),
    "content-length-range": _read_range,
}


def _denied(detail: str) -> Refused:
    return Refused("AccessDenied", f"Invalid according to Policy: {detail}")


def _invalid(detail: str) -> Refused:
    return Refused("InvalidPolicyDocument", f"Invalid Policy: {detail}")
