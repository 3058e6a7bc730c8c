# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Statements: what a policy consists of.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from kypello.errors import MalformedPolicy
from kypello.policy.actions import ACTIONS, EVERY_ACTION, matching, named_service
from kypello.policy.condition import Condition, parse_conditions
from kypello.policy.keys import has_key
from kypello.policy.principal import Principals, parse_principals
from kypello.policy.wildcards import Template

_S3_ARN = "arn:aws:s3:::"
_KMS_ARN = "arn:minio:kms:::"

#: Elements by their names in lower case, which is how they are compared.
_ELEMENTS = {
    name.lower(): name
    for name in (
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    )
}
#: How a service is called where a statement of its own has an action of another one.
_FOREIGN = {"admin": "admin", "sts": "STS", "kms": "KMS"}


@frozen
class Resource:
    """
    A pattern of resources.

    :ivar service: Whose; ``s3`` for a bare ``*``.
    :ivar text: As it was written.
    """

    service: str
    template: Template
    text: str = field(eq=False)


@frozen
class Statement:
    """
    What is allowed or denied; equal to another one that means the same.

    :ivar allows: Else it denies.
    :ivar service: What it was made for.  Of other services it has only actions to deny.
    :ivar actions: Full names of all that it is about.
    :ivar resources: Of which one has to match; none for all.
    :ivar excluding: Instead none of the resources may match.
    :ivar conditions: That all have to hold.
    :ivar principals: ``None`` in policies of users.
    """

    allows: bool
    service: str
    actions: frozenset[str]
    resources: tuple[Resource, ...] = ()
    excluding: bool = False
    conditions: tuple[Condition, ...] = ()
    principals: Principals | None = None

    @property
    def needed(self) -> frozenset[str]:
        """
        Keys of variables whose absence would make it wider than it was meant.
        """
        excluded = self.resources if self.excluding else ()
        return frozenset[str]().union(
            *(resource.template.variables for resource in excluded),
            *(condition.needed for condition in self.conditions),
        )


@frozen
class Dialect:
    """
    What kind of policy a statement is in.

    :ivar bucket: The bucket whose policy it is; empty for policies of users.
    :ivar variables: Whether ``${...}`` is a variable.
    """

    bucket: str = ""
    variables: bool = True


def parse_statement(element: Any, dialect: Dialect) -> Statement:
    """
    Read one statement.

    :raises MalformedPolicy:
    """
    if not isinstance(element, dict):
        raise MalformedPolicy("a statement must be an object")
    elements = named(element, _ELEMENTS)
    for name in ("Effect", "Sid"):
        if not isinstance(elements.get(name, ""), str):
            raise MalformedPolicy(f"{name} must be a string")
    effect = elements.get("Effect", "")
    if effect not in ("Allow", "Deny"):
        raise MalformedPolicy(f"invalid Effect {effect}")
    allows = effect == "Allow"
    principals = _principals(elements) if dialect.bucket else None
    inverted, patterns = _either(elements, "Action")
    service, actions = _actions(patterns, inverted, allows, dialect)
    conditions = parse_conditions(elements.get("Condition", {}), dialect.variables)
    if not inverted:
        _check_keys(patterns, conditions, dialect)
    excluding, resources = _resources(elements, service, dialect)
    return Statement(allows, service, actions, resources, excluding, conditions, principals)


def named(element: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """
    The elements of an object by their proper names.

    :param names: By the name in lower case.
    :raises MalformedPolicy: For others.  One that is misspelt would else be left out, and a
        condition may be what was meant.
    """
    elements = {}
    for written, value in element.items():
        name = names.get(written.lower())
        if name is None:
            raise MalformedPolicy(f"unknown element '{written}'")
        if name in elements:
            raise MalformedPolicy(f"duplicate element '{name}'")
        elements[name] = value
    return elements


def _either(elements: Mapping[str, Any], name: str) -> tuple[bool, Sequence[str]]:
    """
    An element that may stand with ``Not``: whether it does, and what it has.
    """
    opposite = f"Not{name}"
    if name in elements and opposite in elements:
        raise MalformedPolicy(f"{name} and {opposite} cannot be specified in the same statement")
    inverted = opposite in elements
    element = elements.get(opposite if inverted else name, [])
    values = element if isinstance(element, list) else [element]
    if not all(isinstance(value, str) for value in values):
        raise MalformedPolicy(
            f"{opposite if inverted else name} must be a string or a list of them"
        )
    return inverted, values


def _principals(elements: Mapping[str, Any]) -> Principals:
    if "Principal" in elements and "NotPrincipal" in elements:
        raise MalformedPolicy(
            "Principal and NotPrincipal cannot be specified in the same statement"
        )
    if "NotPrincipal" in elements:
        return parse_principals(elements["NotPrincipal"], True)
    return parse_principals(elements.get("Principal"), False)


def _actions(
    patterns: Sequence[str], inverted: bool, allows: bool, dialect: Dialect
) -> tuple[str, frozenset[str]]:
    """
    The service of a statement, and its actions.

    Only statements that name a service allow what is not of S3: whoever writes ``*`` thinks of
    data, not of users and keys.
    """
    if not patterns:
        raise MalformedPolicy("empty actions not allowed")
    folded = bool(dialect.bucket)
    together: frozenset[str] = frozenset()
    for pattern in patterns:
        only_s3 = folded or (allows and named_service(pattern) is None)
        found = matching(pattern, folded) & (ACTIONS["s3"] if only_s3 else EVERY_ACTION)
        if not found:
            raise MalformedPolicy(f"unsupported action '{pattern}'")
        together |= found
    if inverted:
        return "s3", (ACTIONS["s3"] if folded or allows else EVERY_ACTION) - together
    services = {named_service(pattern) for pattern in patterns}
    for service, title in _FOREIGN.items():
        if service in services:
            for pattern in patterns:
                if named_service(pattern) != service:
                    raise MalformedPolicy(f"unsupported {title} action '{pattern}'")
            return service, together
    return "s3", together


def _check_keys(patterns: Sequence[str], conditions: Sequence[Condition], dialect: Dialect) -> None:
    actions = frozenset().union(*(matching(one, bool(dialect.bucket)) for one in patterns))
    unsupported = sorted(
        {
            condition.written
            for condition in conditions
            if not any(has_key(action, condition.key) for action in actions)
        }
    )
    if unsupported:
        raise MalformedPolicy(
            f"unsupported condition keys '[{' '.join(unsupported)}]' used for action"
            f" '{patterns[0]}'"
        )


def _resources(
    elements: Mapping[str, Any], service: str, dialect: Dialect
) -> tuple[bool, tuple[Resource, ...]]:
    excluding, texts = _either(elements, "Resource")
    resources = tuple(_resource(text, dialect.variables) for text in texts)
    if service in ("admin", "sts"):
        # They are about the server as a whole.
        return False, ()
    if not resources:
        if service == "kms" and not excluding:
            return False, ()
        raise MalformedPolicy("Resource must not be empty")
    for resource in resources:
        if resource.service != service and resource.text != "*":
            raise MalformedPolicy(
                f"invalid resource; resource '{resource.text}' type is not"
                f" {'KMS' if service == 'kms' else 'S3'}"
            )
        if dialect.bucket and not _may_match(resource.template, dialect.bucket):
            raise MalformedPolicy("bucket name does not match")
    return excluding, resources


def _resource(text: str, variables: bool) -> Resource:
    if text == "*":
        return Resource("s3", Template(text), text)
    if text.startswith(_S3_ARN):
        path = text.removeprefix(_S3_ARN)
        if path.startswith("/"):
            raise MalformedPolicy(
                f"invalid resource '{text}' - starts with '/' will not match a bucket"
            )
        if path:
            return Resource("s3", Template(path, variables=variables), text)
    if text.startswith(_KMS_ARN):
        name = text.removeprefix(_KMS_ARN)
        if name and not any(sign in name for sign in "/\\."):
            return Resource("kms", Template(name, variables=variables), text)
    raise MalformedPolicy(f"invalid resource '{text}'")


def _may_match(template: Template, bucket: str) -> bool:
    """
    Whether a pattern can be about a bucket or its objects.
    """
    name = Template(template.text.partition("/")[0], variables=False)
    return name.matches(bucket, lambda _name: ())
