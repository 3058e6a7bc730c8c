# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
All actions that a policy can speak of, and what patterns stand for.

A pattern is replaced by the actions that it stands for when a policy is read, so that deciding
is looking up.
"""

from collections.abc import Mapping
from functools import lru_cache

from kypello.policy.wildcards import Template

_S3 = """
AbortMultipartUpload BypassGovernanceRetention CreateBucket DeleteBucket DeleteBucketCors
DeleteBucketPolicy DeleteBucketWebsite DeleteObject DeleteObjectTagging DeleteObjectVersion
DeleteObjectVersionTagging ForceDeleteBucket GetAccelerateConfiguration GetBucketAcl
GetBucketCORS GetBucketLocation GetBucketLogging GetBucketNotification
GetBucketObjectLockConfiguration GetBucketOwnershipControls GetBucketPolicy
GetBucketPolicyStatus GetBucketPublicAccessBlock GetBucketRequestPayment GetBucketTagging
GetBucketVersioning GetBucketWebsite GetEncryptionConfiguration GetLifecycleConfiguration
GetObject GetObjectAcl GetObjectAttributes GetObjectLegalHold GetObjectRetention
GetObjectTagging GetObjectVersion GetObjectVersionAcl GetObjectVersionAttributes
GetObjectVersionForReplication GetObjectVersionTagging GetReplicationConfiguration HeadBucket
ListAllMyBuckets ListBucket ListBucketMultipartUploads ListBucketVersions
ListMultipartUploadParts ListenBucketNotification ListenNotification
PutAccelerateConfiguration PutBucketAcl PutBucketCORS PutBucketLogging PutBucketNotification
PutBucketObjectLockConfiguration PutBucketOwnershipControls PutBucketPolicy
PutBucketPublicAccessBlock PutBucketRequestPayment PutBucketTagging PutBucketVersioning
PutBucketWebsite PutEncryptionConfiguration PutLifecycleConfiguration PutObject PutObjectAcl
PutObjectFanOut PutObjectLegalHold PutObjectRetention PutObjectTagging PutObjectVersionAcl
PutObjectVersionTagging PutReplicationConfiguration ReplicateDelete ReplicateObject
ReplicateTags ResetBucketReplicationState RestoreObject UpdateObjectEncryption
"""
_ADMIN = """
AddUserToGroup AttachUserOrGroupPolicy BandwidthMonitor CancelBatchJob ClusterInfo
ConfigUpdate ConsoleLog CreatePolicy CreateServiceAccount CreateUser DataUsageInfo
Decommission DeletePolicy DeleteUser DescribeBatchJob DisableGroup DisableUser DriveInfo
EnableGroup EnableUser ExportBucketMetadata ExportIAM ForceUnlock GenerateBatchJob
GetBucketQuota GetBucketTarget GetGroup GetPolicy GetRequiredEncryption GetUser Heal
ImportBucketMetadata ImportIAM
InspectData KMSCreateKey KMSKeyStatus LicenseInfo ListBatchJobs ListGroups
ListServiceAccounts ListTemporaryAccounts ListTier ListUserPolicies ListUsers OBDInfo PoolInfo
PoolList Profiling Prometheus Rebalance RemoveServiceAccount RemoveUserFromGroup
ReplicationDiff ServerInfo ServerTrace ServerUpdate ServiceFreeze ServiceRestart ServiceStop
SetBucketQuota SetBucketTarget SetInfo SetRequiredEncryption SetTier SiteReplicationAdd
SiteReplicationDisable SiteReplicationInfo SiteReplicationOperation SiteReplicationRemove
SiteReplicationResync StartBatchJob StorageInfo TopLocksInfo UpdatePolicyAssociation
UpdateServiceAccount
"""
_KMS = """
API AssignPolicy AuditLog CreateKey Decrypt DeleteIdentity DeleteKey DeletePolicy
DescribeIdentity DescribePolicy DescribeSelfIdentity Enable ErrorLog GenerateDataKey GetPolicy
ImportKey KeyRotate KeyStatus ListIdentities ListKeys ListPolicies Metrics SetPolicy Status
Version
"""
_STS = "AssumeRoleWithWebIdentity"

#: The actions of each service, by full name.
ACTIONS: Mapping[str, frozenset[str]] = {
    service: frozenset(f"{service}:{name}" for name in names.split())
    for service, names in (("s3", _S3), ("admin", _ADMIN), ("kms", _KMS), ("sts", _STS))
}
EVERY_ACTION = ACTIONS["s3"].union(*ACTIONS.values())

#: Other spellings: MinIO's.
_ALIASES: Mapping[str, str] = {
    "s3:GetBucketCors": "s3:GetBucketCORS",
    "s3:PutBucketCors": "s3:PutBucketCORS",
}

#: The actions that have a master key used.
DATA_ACTIONS = frozenset({"kms:GenerateDataKey", "kms:Decrypt"})

#: Reads of a bucket: what ``bucket/*`` allows and denies by policies of users, too.
OF_LISTING = frozenset(
    {
        "s3:GetBucketLocation",
        "s3:HeadBucket",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:ListBucketVersions",
    }
)

#: Who may do the second one may do the first one, too, unless that is denied.  MinIO's clients name
#: the version of whatever they have found, also of what has but one.
INCLUDED: Mapping[str, str] = {
    "s3:DeleteObjectVersion": "s3:DeleteObject",
    "s3:DeleteObjectVersionTagging": "s3:DeleteObjectTagging",
    "s3:GetObject": "s3:GetObjectVersion",
    "s3:GetObjectVersion": "s3:GetObject",
    "s3:GetObjectVersionTagging": "s3:GetObjectTagging",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListBucketVersions": "s3:ListBucket",
    "s3:PutObjectVersionTagging": "s3:PutObjectTagging",
}


def canonical(action: str) -> str:
    """
    An action as it stands in :data:`ACTIONS`.
    """
    return _ALIASES.get(action, action)


def named_service(pattern: str) -> str | None:
    """
    The service that a pattern names without wildcards; ``None`` when it names none.
    """
    service = pattern.partition(":")[0]
    return service if ":" in pattern and service in ACTIONS else None


@lru_cache(maxsize=1024)
def matching(pattern: str, folded: bool) -> frozenset[str]:
    """
    The actions that a pattern stands for; none when it is unknown.

    :param folded: Whether upper and lower case are the same.
    """
    template = Template(pattern, variables=False, folded=folded)
    return frozenset(
        canonical(action)
        for action in (*EVERY_ACTION, *_ALIASES)
        if template.matches(action, _nothing)
    )


def service_of(action: str) -> str:
    """
    What stands before the colon.
    """
    return action.partition(":")[0]


def _nothing(_name: str) -> tuple[str, ...]:
    return ()
