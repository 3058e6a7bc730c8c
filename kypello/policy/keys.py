# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Condition keys: their names, and which actions have them.

Names are compared without regard to case, but for the key of a tag behind a slash
(``s3:ExistingObjectTag/Team``).  Inside they are in lower case up to that slash.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache

_JWT = (
    "sub iss aud jti upn name groups given_name family_name middle_name nickname"
    " preferred_username profile picture website email gender birthdate phone_number address"
    " scope client_id"
)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: What requests of every service may have.
_OF_REQUEST = _names(
    """
    aws:referer aws:sourceip aws:useragent aws:securetransport aws:currenttime aws:epochtime
    aws:principaltype aws:principalarn aws:userid aws:username aws:groups
    ldap:user ldap:username ldap:groups
    """
) | {f"jwt:{claim}" for claim in _JWT.split()}

#: What policies made for AWS ask for, and no request to this server has.
_NEVER_PRESENT = _names(
    """
    aws:multifactorauthage aws:multifactorauthpresent aws:principalaccount
    aws:principalisawsservice aws:principalorgid aws:principalorgpaths
    aws:principalservicename aws:requestedregion aws:sourceaccount aws:sourcearn
    aws:sourceorgid aws:sourceorgpaths aws:sourceowner aws:sourcevpc aws:sourcevpce
    aws:tokenissuetime aws:viaawsservice aws:vpcsourceip
    """
)
_COMMON = _OF_REQUEST | _NEVER_PRESENT

#: What every action of S3 has, too; the last three so far without a value.
_COMMON_S3 = _names(
    """
    s3:signatureversion s3:authtype s3:signatureage s3:x-amz-content-sha256
    s3:locationconstraint s3:tlsversion s3:resourceaccount
    """
)

_LISTING = "s3:prefix s3:delimiter s3:max-keys"
_VERSION = "s3:versionid"
_TAGGED = "s3:existingobjecttag/*"
_NEW_TAGS = "s3:requestobjecttag/* s3:requestobjecttagkeys"
_SSE = (
    "s3:x-amz-server-side-encryption s3:x-amz-server-side-encryption-customer-algorithm"
    " s3:x-amz-server-side-encryption-aws-kms-key-id"
)
_LOCK = (
    "s3:object-lock-mode s3:object-lock-retain-until-date s3:object-lock-legal-hold"
    " s3:object-lock-remaining-retention-days"
)
_ACL = (
    "s3:x-amz-acl s3:x-amz-grant-full-control s3:x-amz-grant-read s3:x-amz-grant-read-acp"
    " s3:x-amz-grant-write s3:x-amz-grant-write-acp"
)
_PUT = (
    f"{_SSE} {_LOCK} {_ACL} {_NEW_TAGS} {_VERSION} s3:x-amz-copy-source"
    " s3:x-amz-metadata-directive s3:x-amz-storage-class s3:x-amz-website-redirect-location"
    " s3:if-match s3:if-none-match"
)
_GET = f"{_SSE} {_VERSION} {_TAGGED}"

#: What actions have beside that, by patterns of their names.
_FURTHER: Mapping[str, str] = {
    "s3:ListBucket": _LISTING,
    "s3:ListBucketVersions": _LISTING,
    "s3:ListBucketMultipartUploads": _LISTING,
    "s3:HeadBucket": _LISTING,
    "s3:GetObject": _GET,
    "s3:GetObjectVersion": _GET,
    "s3:GetObjectVersionForReplication": _GET,
    "s3:GetObject*Attributes": f"{_VERSION} {_TAGGED}",
    "s3:GetObject*Acl": f"{_VERSION} {_TAGGED}",
    "s3:GetObjectVersionAttributes": f"{_VERSION} {_TAGGED}",
    "s3:GetObject*Tagging": f"{_VERSION} {_TAGGED}",
    "s3:DeleteObject*Tagging": f"{_VERSION} {_TAGGED}",
    "s3:PutObject*Tagging": f"{_VERSION} {_TAGGED} {_NEW_TAGS}",
    "s3:PutObject*Acl": f"{_VERSION} {_TAGGED} {_ACL}",
    "s3:GetObjectRetention": _VERSION,
    "s3:GetObjectLegalHold": _VERSION,
    "s3:PutObjectRetention": f"{_VERSION} {_LOCK}",
    "s3:PutObjectLegalHold": f"{_VERSION} {_LOCK}",
    "s3:BypassGovernanceRetention": f"{_VERSION} {_LOCK} {_ACL} {_NEW_TAGS}",
    "s3:DeleteObject": _VERSION,
    "s3:DeleteObjectVersion": _VERSION,
    "s3:RestoreObject": _VERSION,
    "s3:UpdateObjectEncryption": f"{_VERSION} {_TAGGED} {_SSE}",
    "s3:PutObject": _PUT,
    "s3:PutObjectFanOut": _PUT,
    "s3:ReplicateObject": _PUT,
    "s3:ReplicateTags": f"{_VERSION} {_NEW_TAGS}",
    "s3:ReplicateDelete": _VERSION,
    "s3:CreateBucket": f"{_ACL} s3:x-amz-object-ownership",
    "s3:PutBucketAcl": _ACL,
    "s3:PutBucketOwnershipControls": "s3:x-amz-object-ownership",
    "sts:AssumeRoleWithWebIdentity": "sts:durationseconds",
}
#: What actions of a service have beside what all have.
_OF_SERVICE: Mapping[str, frozenset[str]] = {
    "s3": _COMMON_S3,
    "admin": frozenset({"svc:durationseconds"}),
    "kms": frozenset(),
    "sts": frozenset(),
}
_PARSED = {action: _names(names) for action, names in _FURTHER.items()}
_ALL = _COMMON.union(*_OF_SERVICE.values(), *_PARSED.values())

#: What answers yes or no.
_BOOLEAN = _names(
    """
    aws:securetransport aws:multifactorauthpresent aws:principalisawsservice aws:viaawsservice
    """
)
_ADDRESSES = frozenset({"aws:sourceip", "aws:vpcsourceip"})

#: How the keys begin whose values are tags of the object as it is.
EXISTING_TAG = "s3:existingobjecttag/"


def normal(name: str) -> str:
    """
    The name of a key as it is compared.
    """
    head, slash, tag = name.partition("/")
    return head.lower() + slash + tag


def is_known(key: str) -> bool:
    """
    Whether some action has a key.
    """
    return _family(key) in _ALL


def is_boolean(key: str) -> bool:
    """
    Whether the values of a key are ``true`` and ``false``.
    """
    return key in _BOOLEAN


def is_address(key: str) -> bool:
    """
    Whether the values of a key are IP addresses.
    """
    return key in _ADDRESSES


def may_be_variable(key: str) -> bool:
    """
    Whether ``${...}`` may name a key: those that all requests may have.
    """
    return key in _COMMON or key in _COMMON_S3


def has_key(action: str, key: str) -> bool:
    """
    Whether an action, by its full name, can have a key.
    """
    return _family(key) in _keys(action)


@lru_cache(maxsize=512)
def _keys(action: str) -> frozenset[str]:
    further = (keys for pattern, keys in _PARSED.items() if fnmatchcase(action, pattern))
    return _COMMON.union(_OF_SERVICE[action.partition(":")[0]], *further)


def _family(key: str) -> str:
    head, slash, tag = key.partition("/")
    return f"{head}/*" if slash and tag else key
