# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The decision for every kind of asker, policy, limit and bucket, as AWS documents it.
"""

from collections.abc import Mapping
from itertools import product

from attrs import evolve

from kypello.policy.evaluate import (
    NOTHING,
    Grants,
    Policies,
    decide,
)
from kypello.policy.publicaccess import PublicAccessBlock
from tests.cases import SyncCase
from tests.policy.asking import (
    ASKERS,
    UNLIMITED,
    allow,
    ask,
    deny,
    grants,
    of_bucket,
    policies,
)

#: What policies of one side say about the question of the table.
_OWN: Mapping[str, Grants] = {
    "nothing": grants(allow("s3:PutObject")),
    "allow": grants(allow("s3:GetObject")),
    "deny": grants(allow("s3:*"), deny("s3:GetObject")),
}
_LIMITS: Mapping[str, tuple[Policies, ...]] = {
    "none": (),
    "allow": (policies(allow("s3:*")),),
    "silent": (policies(allow("s3:*")), policies(allow("s3:PutObject"))),
    "deny": (policies(allow("s3:*"), deny("s3:GetObject")),),
}
_ALICE = {"Principal": {"AWS": "alice"}}
_BUCKET: Mapping[str, Policies | None] = {
    "none": None,
    "silent": of_bucket(allow("s3:PutObject")),
    "allow everyone": of_bucket(allow("s3:GetObject")),
    "allow alice": of_bucket(allow("s3:GetObject", **_ALICE)),
    "deny everyone": of_bucket(allow("s3:*"), deny("s3:GetObject")),
    "deny alice": of_bucket(allow("s3:*"), deny("s3:GetObject", **_ALICE)),
}


def documented(asker: str, own: str, limit: str, bucket: str, restricted: bool) -> bool:
    """
    The decision as AWS documents it for principals of one account.
    """
    denied = bucket in ("deny everyone", f"deny {asker}")
    # What denies alice only, allows everybody else.
    granted = bucket in ("allow everyone", f"allow {asker}", "deny alice")
    if asker == "anonymous":
        return granted and not denied and not restricted
    if denied or (own == "deny" and asker != "root"):
        return False
    if limit in ("silent", "deny"):
        return False
    return granted or own == "allow" or asker == "root"


class TableTests(SyncCase):
    """
    The decision for every kind of asker, policy, limit and bucket.
    """

    def test_table(self) -> None:
        """
        It is the documented one.
        """
        allowed = 0
        for asker, own, limit, bucket, restricted in product(
            ASKERS, _OWN, _LIMITS, _BUCKET, (False, True)
        ):
            if asker == "anonymous" and (own, limit) != ("nothing", "none"):
                continue
            given = evolve(UNLIMITED if asker == "root" else _OWN[own], limits=_LIMITS[limit])
            if asker == "anonymous":
                given = NOTHING
            answer = decide(
                ask("s3:GetObject"),
                ASKERS[asker],
                given,
                _BUCKET[bucket],
                PublicAccessBlock(restrict_public_buckets=restricted),
            )
            expected = documented(asker, own, limit, bucket, restricted)
            self.assertIs(answer, expected, (asker, own, limit, bucket, restricted))
            allowed += answer
        self.assertGreater(allowed, 50)
