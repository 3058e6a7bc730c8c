# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The policies that are there without being stored.
"""

import json
from collections.abc import Mapping, Sequence

from kypello.policy.document import VERSION, Policy, parse_policy

_EVERYTHING = "arn:aws:s3:::*"


def _policy(*statements: tuple[Sequence[str], str]) -> Policy:
    """
    A policy of statements that allow.

    :param statements: Actions and resource; an empty one for none.
    """
    return parse_policy(
        json.dumps(
            {
                "Version": VERSION,
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Action": list(actions),
                        **({"Resource": [resource]} if resource else {}),
                    }
                    for actions, resource in statements
                ],
            },
            separators=(",", ":"),
        ).encode()
    )


#: By name.  A stored policy of the same name takes the place of one of these.
CANNED: Mapping[str, Policy] = {
    "readonly": _policy((("s3:GetBucketLocation", "s3:GetObject"), _EVERYTHING)),
    "writeonly": _policy((("s3:PutObject",), _EVERYTHING)),
    "readwrite": _policy((("s3:*",), _EVERYTHING)),
    "diagnostics": _policy(
        (
            (
                "admin:BandwidthMonitor",
                "admin:ConsoleLog",
                "admin:OBDInfo",
                "admin:Profiling",
                "admin:Prometheus",
                "admin:ServerInfo",
                "admin:ServerTrace",
                "admin:TopLocksInfo",
            ),
            _EVERYTHING,
        )
    ),
    "consoleAdmin": _policy(
        (("admin:*",), ""),
        (("kms:*",), ""),
        (("s3:*",), _EVERYTHING),
    ),
}
