# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Documents: what policies are written in.

The reasons of what is refused are those that clients of MinIO know, where it has one.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from kypello.errors import MalformedPolicy
from kypello.policy.statement import Dialect, Statement, named, parse_statement

#: The version in which texts may have variables.
VERSION = "2012-10-17"
_OLD_VERSION = "2008-10-17"

#: The most bytes of a policy of users and of buckets, as it is put; the callers' to check.
MAX_POLICY = 20480
#: The most bytes of a session policy without white space.
MAX_SESSION_POLICY = 2048

_ELEMENTS = {"id": "Id", "version": "Version", "statement": "Statement"}
_STRING_OR_SPACE = re.compile(rb'("(?:[^"\\]|\\.)*")|[ \t\r\n]+', re.DOTALL)


@frozen
class Policy:
    """
    One document; equal when its text is.

    :ivar text: As it was given.
    :ivar version: ``2012-10-17``, for buckets also ``2008-10-17``; may be empty.
    :ivar statements: In their order, without repetitions.
    """

    text: bytes
    version: str = field(eq=False)
    statements: tuple[Statement, ...] = field(eq=False, repr=False)


def parse_policy(text: bytes) -> Policy:
    """
    Read a policy of users and groups, of at most :data:`MAX_POLICY` bytes.

    It may have no statements at all and then allows nothing; who takes one from a client
    refuses it.

    :raises MalformedPolicy:
    """
    elements = _elements(text)
    version = _text(elements, "Version")
    if version not in ("", VERSION):
        raise MalformedPolicy(f"invalid version '{version}'")
    return Policy(text, version, _statements(elements, Dialect()))


def parse_session_policy(text: bytes) -> Policy:
    """
    Read a policy that limits a session or an access key.

    One with an empty list of statements allows nothing.

    :raises MalformedPolicy: Also when it has more than :data:`MAX_SESSION_POLICY` bytes
        without white space.
    """
    policy = parse_policy(text)
    if len(compact(text)) > MAX_SESSION_POLICY:
        raise MalformedPolicy(f"Session policy should not exceed {MAX_SESSION_POLICY} characters")
    if not policy.version:
        raise MalformedPolicy(f"Version cannot be empty expecting '{VERSION}'")
    return policy


def parse_bucket_policy(text: bytes, bucket: str) -> Policy:
    """
    Read the policy of a bucket, of at most :data:`MAX_POLICY` bytes.

    :raises MalformedPolicy:
    """
    elements = _elements(text)
    version = _text(elements, "Version")
    if version not in (VERSION, _OLD_VERSION):
        raise MalformedPolicy("The policy must contain a valid version string")
    if isinstance(elements.get("Statement"), dict):
        elements["Statement"] = [elements["Statement"]]
    statements = _statements(elements, Dialect(bucket, variables=version == VERSION))
    if not statements:
        raise MalformedPolicy("Missing required field Statement")
    return Policy(text, version, statements)


def compact(text: bytes) -> bytes:
    """
    A JSON text without white space around its signs.
    """
    return _STRING_OR_SPACE.sub(lambda match: match.group(1) or b"", text)


def merged(policies: Sequence[Policy]) -> bytes:
    """
    One document of all statements of several policies of users, each once.
    """
    statements = {}
    for policy in policies:
        for statement in _elements(policy.text).get("Statement", []):
            statements[json.dumps(statement, sort_keys=True)] = statement
    document = {"Version": VERSION, "Statement": list(statements.values())}
    return json.dumps(document, separators=(",", ":")).encode()


def _elements(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_constant)
        # Half of a surrogate pair is no text: it could not be told to anybody.
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise MalformedPolicy("This policy contains invalid Json") from None
    if not isinstance(document, dict):
        raise MalformedPolicy("This policy contains invalid Json")
    return named(document, _ELEMENTS)


def _object(pairs: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
    # Of two elements of one name only one would count, and nobody can tell which was meant.
    elements = dict(pairs)
    if len(elements) < len(pairs):
        (repeated, _count), *_others = Counter(name for name, _value in pairs).most_common(1)
        raise MalformedPolicy(f"duplicate element '{repeated}'")
    return elements


def _constant(_name: str) -> None:
    raise ValueError("JSON has no such number")


def _text(elements: Mapping[str, Any], name: str) -> str:
    value = elements.get(name, "")
    if not isinstance(value, str):
        raise MalformedPolicy(f"{name} must be a string")
    return value


def _statements(elements: Mapping[str, Any], dialect: Dialect) -> tuple[Statement, ...]:
    _text(elements, "Id")
    statements = elements.get("Statement", [])
    if not isinstance(statements, list):
        raise MalformedPolicy("Statement must be a list")
    return tuple(dict.fromkeys(parse_statement(element, dialect) for element in statements))
