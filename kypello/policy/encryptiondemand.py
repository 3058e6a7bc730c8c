# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the policy of a bucket demands of the encryption of all that is put there.

A policy decides about requests, and an object that lies there tells of its encryption alone.  So
only those statements count that deny a request for nothing else: whoever asks, from wherever, and
whatever else the request says.
"""

from collections.abc import Mapping, Sequence

from attrs import evolve, frozen

from kypello.policy.compiled import Policies, Verdict
from kypello.policy.condition import Condition
from kypello.policy.document import Policy
from kypello.policy.statement import Statement

_ACTION = "s3:PutObject"

#: The condition keys that encryption alone decides.
ALGORITHM = "s3:x-amz-server-side-encryption"
KEY_ID = f"{ALGORITHM}-aws-kms-key-id"
CUSTOMER_ALGORITHM = f"{ALGORITHM}-customer-algorithm"
_KEYS = frozenset({ALGORITHM, KEY_ID, CUSTOMER_ALGORITHM})

_TEXTS = frozenset({"StringEquals", "StringNotEquals", "StringLike", "StringNotLike"})
_OPERATORS = frozenset({"Null", *_TEXTS, *(f"{name}IfExists" for name in _TEXTS)})


@frozen
class EncryptionDemand:
    """
    The statements of one policy that deny content for its encryption.

    :ivar key_ids: The master keys that they name, as they name them.
    """

    _denying: Policies
    key_ids: frozenset[str]

    def denies(self, resource: str, values: Mapping[str, Sequence[str]]) -> bool:
        """
        Whether they deny that an object is put with some encryption.

        :param resource: The bucket and the key, divided by a slash.
        :param values: Of the condition keys of this module; none of what a request does not have.
        """
        verdict = self._denying.verdict(_ACTION, resource, lambda name: values.get(name, ()))
        return verdict is Verdict.DENY


def demand_of(policy: Policy) -> EncryptionDemand | None:
    """
    What the policy of a bucket demands; ``None`` for nothing that can be told of an object.
    """
    denying = tuple(filter(_tells, policy.statements))
    if not denying:
        return None
    key_ids = frozenset(
        value
        for statement in denying
        for condition in statement.conditions
        if condition.key == KEY_ID
        for value in condition.values
    )
    return EncryptionDemand(Policies([evolve(policy, statements=denying)]), key_ids)


def _tells(statement: Statement) -> bool:
    """
    Whether a statement denies content for its encryption and nothing else.
    """
    principals = statement.principals
    return (
        not statement.allows
        and _ACTION in statement.actions
        and principals is not None
        and principals.everyone
        and principals.public
        and bool(statement.conditions)
        and not any(resource.template.varies for resource in statement.resources)
        and all(map(_is_plain, statement.conditions))
    )


def _is_plain(condition: Condition) -> bool:
    """
    Whether a condition asks for encryption, in a way that is certain for an object: the client may
    have written its master key in a form that a pattern fits, or in another one.
    """
    if condition.key not in _KEYS or condition.operator not in _OPERATORS:
        return False
    texts = condition.values
    if any("${" in text for text in texts):
        return False
    return condition.key != KEY_ID or not any(sign in text for text in texts for sign in "*?")
