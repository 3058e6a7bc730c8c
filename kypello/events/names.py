# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The names of events, as MinIO and AWS have them, and what stands for several.
"""

from collections.abc import Mapping

_NAMES = """
s3:BucketCreated:* s3:BucketRemoved:*
s3:IntelligentTiering
s3:LifecycleDelMarkerExpiration:Delete
s3:LifecycleExpiration:Delete s3:LifecycleExpiration:DeleteMarkerCreated
s3:LifecycleTransition
s3:ObjectAccessed:Attributes s3:ObjectAccessed:Get s3:ObjectAccessed:GetLegalHold
s3:ObjectAccessed:GetRetention s3:ObjectAccessed:Head
s3:ObjectAcl:Put
s3:ObjectCreated:CompleteMultipartUpload s3:ObjectCreated:Copy s3:ObjectCreated:DeleteTagging
s3:ObjectCreated:Post s3:ObjectCreated:Put s3:ObjectCreated:PutLegalHold
s3:ObjectCreated:PutRetention s3:ObjectCreated:PutTagging
s3:ObjectRemoved:Delete s3:ObjectRemoved:DeleteAllVersions
s3:ObjectRemoved:DeleteMarkerCreated s3:ObjectRemoved:NoOP
s3:ObjectRestore:Completed s3:ObjectRestore:Delete s3:ObjectRestore:Post
s3:ObjectTransition:Complete s3:ObjectTransition:Failed
s3:ReducedRedundancyLostObject
s3:Replication:OperationCompletedReplication s3:Replication:OperationFailedReplication
s3:Replication:OperationMissedThreshold s3:Replication:OperationNotTracked
s3:Replication:OperationReplicatedAfterThreshold
s3:Scanner:BigPrefix s3:Scanner:LargeVersions s3:Scanner:ManyVersions
"""

#: All events that somebody may ask for; not all of them ever happen here.
NAMES = frozenset(_NAMES.split())

#: Other names: those of AWS for what MinIO counts among the created ones.
_ALIASES: Mapping[str, frozenset[str]] = {
    "s3:ObjectTagging:Put": frozenset({"s3:ObjectCreated:PutTagging"}),
    "s3:ObjectTagging:Delete": frozenset({"s3:ObjectCreated:DeleteTagging"}),
    "s3:ObjectTagging:*": frozenset(
        {"s3:ObjectCreated:PutTagging", "s3:ObjectCreated:DeleteTagging"}
    ),
}


def _patterns() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for name in NAMES:
        found.setdefault(name, set()).add(name)
        kind, colon, _ = name.rpartition(":")
        if colon and kind != "s3":
            found.setdefault(f"{kind}:*", set()).add(name)
    return {pattern: frozenset(names) for pattern, names in found.items()}


_PATTERNS: Mapping[str, frozenset[str]] = {**_patterns(), **_ALIASES}


def matching(pattern: str) -> frozenset[str]:
    """
    The events that a name, or a pattern such as ``s3:ObjectCreated:*``, stands for; none when it is
    unknown.
    """
    return _PATTERNS.get(pattern, frozenset())
