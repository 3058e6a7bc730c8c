# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Short ways to write policies and to ask about them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kypello.model import Kind, Question
from kypello.policy.document import Policy, parse_bucket_policy, parse_policy
from kypello.policy.evaluate import Asker, Grants, Policies

ARN = "arn:aws:s3:::"
KMS_ARN = "arn:minio:kms:::"
ALICE = Asker(Kind.USER, "alice")
BOB = Asker(Kind.USER, "bob")
ROOT = Asker(Kind.ROOT, "admin")
ANYBODY = Asker()

#: By what they are called.
ASKERS = {"anonymous": ANYBODY, "alice": ALICE, "bob": BOB, "root": ROOT}

#: What the root user has.
UNLIMITED = Grants(True, Policies(()))


def document(*statements: Mapping[str, Any], version: str = "2012-10-17") -> bytes:
    """
    A document.
    """
    return json.dumps({"Version": version, "Statement": list(statements)}).encode()


def allow(action: object, resource: object = ARN + "*", **more: object) -> dict[str, Any]:
    """
    A statement that allows.
    """
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: object, resource: object = ARN + "*", **more: object) -> dict[str, Any]:
    """
    A statement that denies.
    """
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


def policy(*statements: Mapping[str, Any]) -> Policy:
    """
    A policy of users.
    """
    return parse_policy(document(*statements))


def policies(*statements: Mapping[str, Any]) -> Policies:
    """
    One policy of users, ready for deciding.
    """
    return Policies([policy(*statements)])


def grants(*statements: Mapping[str, Any]) -> Grants:
    """
    What somebody may do who has one policy.
    """
    return Grants(False, policies(*statements))


def of_bucket(*statements: Mapping[str, Any], bucket: str = "b") -> Policies:
    """
    The policy of a bucket, ready for deciding; for everyone where nobody is named.
    """
    whole = [
        one if "Principal" in one or "NotPrincipal" in one else {"Principal": "*", **one}
        for one in statements
    ]
    return Policies([parse_bucket_policy(document(*whole), bucket)])


def ask(
    action: str, resource: str = "b/k", values: Mapping[str, Sequence[str]] | None = None
) -> Question:
    """
    A question.

    :param values: Of the condition keys of the request.
    """
    return Question(action, resource, (values or {}).get)
