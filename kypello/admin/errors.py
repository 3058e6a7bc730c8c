# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The one table from what can go wrong to the errors of the administration API.
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

from attrs import define, field
from twisted.logger import Logger

from kypello.archive import MalformedArchive
from kypello.errors import (
    AccessKeyTaken,
    BodyTimeout,
    BodyTruncated,
    Damaged,
    GroupNotEmpty,
    InvalidAccount,
    InvalidKeyName,
    KeyExists,
    KeyMismatch,
    KeyNotAllowed,
    KeyNotFound,
    KMSForbidden,
    KMSNotConfigured,
    KMSNotSupported,
    KMSUnavailable,
    KypelloError,
    MalformedPolicy,
    NoPolicyChange,
    NoSuchAccessKey,
    NoSuchBucket,
    NoSuchGroup,
    NoSuchPolicy,
    NoSuchUser,
    NotAuthentic,
    PolicyInUse,
    PolicyProtected,
    Refused,
    StorageFailed,
    StorageFull,
)

_log = Logger()


@define(eq=False)
class Rejected(KypelloError):
    """
    A request that breaks a rule of the administration API.

    :ivar code: What programs tell it by.
    :ivar message: What is wrong, for people.
    :ivar headers: Further headers of the answer.
    """

    status: int
    code: str
    message: str
    headers: tuple[tuple[str, str], ...] = field(default=())


def access_denied() -> Rejected:
    """
    The refusal of somebody who may not do it.
    """
    return Rejected(403, "AccessDenied", "Access Denied.")


def invalid_argument(message: str = "Invalid arguments specified.") -> Rejected:
    """
    The refusal of a parameter.
    """
    return Rejected(400, "XMinioAdminInvalidArgument", message)


def not_offered(reason: str) -> Rejected:
    """
    The refusal of something that the API knows and this server does not offer.

    :param reason: Why not, and what there is instead.
    """
    return Rejected(501, "NotImplemented", reason)


def malformed_archive(error: MalformedArchive) -> Rejected:
    """
    The refusal of an archive that cannot be read.
    """
    return Rejected(400, "InvalidRequest", f"The archive: {error.reason}.")


#: The status of the codes that a signature can be refused with; all others are 400.
_STATUSES: Mapping[str, int] = {
    "AccessDenied": 403,
    "InvalidAccessKeyId": 403,
    "RequestTimeTooSkewed": 403,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
}

#: Status and code of what can be wrong with an account.
_INVALID: Mapping[str, tuple[int, str]] = {
    "access key": (400, "XMinioAdminInvalidAccessKey"),
    "reserved access key": (403, "XMinioInvalidIAMCredentials"),
    "secret key": (400, "XMinioAdminInvalidSecretKey"),
    "group name": (400, "XMinioInvalidGroupName"),
    "policy name": (400, "PolicyInvalidName"),
    "policy": (400, "XMinioIAMServiceAccountSessionPolicyTooLarge"),
    "name": (400, "XMinioInvalidResource"),
    "description": (400, "XMinioInvalidResource"),
}


def _invalid_account(error: InvalidAccount) -> Rejected:
    status, code = _INVALID.get(error.what, (400, "XMinioAdminInvalidArgument"))
    return Rejected(status, code, error.reason)


def _not_allowed(reason: str) -> Rejected:
    return Rejected(
        400,
        "XMinioIAMServiceAccountNotAllowed",
        f"Specified service account action is not allowed: {reason}",
    )


#: What becomes of each domain error.
TABLE: Mapping[type[Exception], Callable[[Any], Rejected]] = {
    Rejected: lambda error: error,
    Refused: lambda error: Rejected(_STATUSES.get(error.code, 400), error.code, error.message),
    NoSuchUser: lambda error: Rejected(
        404, "XMinioAdminNoSuchUser", "The specified user does not exist."
    ),
    NoSuchGroup: lambda error: Rejected(
        404, "XMinioAdminNoSuchGroup", "The specified group does not exist."
    ),
    GroupNotEmpty: lambda error: Rejected(
        400,
        "XMinioAdminGroupNotEmpty",
        "The specified group is not empty - cannot remove it.",
    ),
    NoSuchPolicy: lambda error: Rejected(
        404, "XMinioAdminNoSuchPolicy", "The canned policy does not exist."
    ),
    PolicyInUse: lambda error: Rejected(
        400, "XMinioIAMPolicyInUse", "The policy cannot be removed, as it is in use"
    ),
    PolicyProtected: lambda error: Rejected(
        400, "XMinioAdminInvalidArgument", "A policy that comes with the server cannot be removed."
    ),
    # Clients take this code for a success.
    NoPolicyChange: lambda error: Rejected(
        400,
        "XMinioAdminPolicyChangeAlreadyApplied",
        "The specified policy change is already in effect.",
    ),
    MalformedPolicy: lambda error: Rejected(400, "XMinioMalformedIAMPolicy", error.reason),
    NoSuchAccessKey: lambda error: Rejected(
        404, "XMinioInvalidIAMCredentials", "The specified service account is not found"
    ),
    AccessKeyTaken: lambda error: _not_allowed("the access key is in use"),
    KeyNotAllowed: lambda error: _not_allowed(error.reason),
    InvalidAccount: _invalid_account,
    NoSuchBucket: lambda error: Rejected(
        404, "NoSuchBucket", "The specified bucket does not exist"
    ),
    # Clients repeat what is answered 503: these pass by themselves.
    KMSUnavailable: lambda error: Rejected(
        503,
        "ServiceUnavailable",
        "The key management service cannot be reached, and this request needs a key of it."
        " Please try again.",
        (("Retry-After", str(max(1, ceil(error.retry_after)))),),
    ),
    StorageFailed: lambda error: Rejected(
        503, "ServiceUnavailable", "The storage does not work at the moment. Please try again."
    ),
    StorageFull: lambda error: Rejected(
        507, "XMinioStorageFull", "There is no room left on the disk; nothing was changed."
    ),
    Damaged: lambda error: Rejected(
        500, "InternalError", "What is stored there is damaged and cannot be returned."
    ),
    NotAuthentic: lambda error: Rejected(
        500, "InternalError", "What is stored there is not what was written."
    ),
    BodyTruncated: lambda error: Rejected(
        400, "IncompleteBody", "The body of the request is shorter than announced."
    ),
    BodyTimeout: lambda error: Rejected(
        400, "RequestTimeout", "The body of the request did not come in time."
    ),
    InvalidKeyName: lambda error: Rejected(
        400, "XMinioKMSInvalidKeyName", "A key cannot have this name."
    ),
    KeyExists: lambda error: Rejected(
        409, "XMinioKMSKeyExists", f"There is a key {error.name!r} already."
    ),
    KeyNotFound: lambda error: Rejected(
        404, "XMinioKMSKeyNotFound", f"The key management service has no key {error.name!r}."
    ),
    KeyMismatch: lambda error: Rejected(503, "XMinioKMSKeyMismatch", str(error)),
    KMSForbidden: lambda error: Rejected(
        403,
        "XMinioKMSNotAuthorized",
        "The key management service forbids this server the operation.",
    ),
    KMSNotSupported: lambda error: Rejected(
        501, "NotImplemented", "The key management service has no such operation."
    ),
    KMSNotConfigured: lambda error: Rejected(
        501, "NotImplemented", "Server side encryption specified but KMS is not configured"
    ),
}

_UNKNOWN = Rejected(500, "InternalError", "We encountered an internal error, please try again.")


def text_of(error: KypelloError) -> str:
    """
    What an error is to people, where it is told within an answer.
    """
    word = TABLE.get(type(error))
    return str(error) if word is None else word(error).message


def translate(error: Exception, request_id: str) -> Rejected:
    """
    The error in the vocabulary of the API; failures of the server's own are logged.

    An exception that is no :class:`kypello.errors.KypelloError` is logged by who caught it.
    """
    word = TABLE.get(type(error))
    rejected = _UNKNOWN if word is None else word(error)
    told = isinstance(error, Rejected | Refused | KMSNotConfigured)
    if rejected.status >= 500 and isinstance(error, KypelloError) and not told:
        _log.error("request {request_id}: {error}", request_id=request_id, error=error)
    return rejected
