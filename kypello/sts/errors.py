# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The one table from what can go wrong to the errors of the security token service.
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

from attrs import evolve
from twisted.logger import Logger

from kypello.errors import (
    BodyTimeout,
    BodyTruncated,
    InvalidAccount,
    KeyMismatch,
    KeyNotAllowed,
    KeyNotFound,
    KMSForbidden,
    KMSUnavailable,
    KypelloError,
    MalformedPolicy,
    NoSuchUser,
    Refused,
    StorageFailed,
    StorageFull,
)
from kypello.http.response import Response
from kypello.iam.certificates import CertificateRefused
from kypello.iam.logins import LoginExpired, LoginRefused, ProviderUnreachable
from kypello.iam.slowing import TooManyAttempts
from kypello.sts.wire import error_response

_log = Logger()

#: The status of each code; all others are 400.
_STATUSES: Mapping[str, int] = {
    "AccessDenied": 403,
    "IDPCommunicationError": 503,
    "InternalError": 500,
    "ServiceUnavailable": 503,
    "STSNotInitialized": 503,
    "Throttling": 429,
}

_RETRY = 5.0
_UNKNOWN = Refused("InternalError", "We encountered an internal error, please try again.")
_UNAVAILABLE = Refused("ServiceUnavailable", "The service cannot do this now. Please try again.")
_DENIED = Refused("AccessDenied", "Access Denied.")
_CUT = Refused("RequestTimeout", "The body of the request did not come as a whole.")

_TABLE: Mapping[type[KypelloError], Callable[[Any], Refused]] = {
    BodyTimeout: lambda _: _CUT,
    BodyTruncated: lambda _: _CUT,
    CertificateRefused: lambda error: Refused(error.code, error.reason),
    InvalidAccount: lambda error: Refused("InvalidParameterValue", error.reason),
    KeyMismatch: lambda _: _UNAVAILABLE,
    KeyNotAllowed: lambda _: _DENIED,
    KeyNotFound: lambda _: _UNAVAILABLE,
    KMSForbidden: lambda _: _UNAVAILABLE,
    KMSUnavailable: lambda _: _UNAVAILABLE,
    LoginExpired: lambda error: Refused("ExpiredToken", error.reason),
    LoginRefused: lambda error: Refused("InvalidParameterValue", error.reason),
    MalformedPolicy: lambda error: Refused("InvalidParameterValue", error.reason),
    NoSuchUser: lambda _: _DENIED,
    ProviderUnreachable: lambda _: Refused(
        "IDPCommunicationError", "The identity provider does not answer. Please try again."
    ),
    Refused: lambda error: error,
    StorageFailed: lambda _: _UNAVAILABLE,
    StorageFull: lambda _: _UNAVAILABLE,
    TooManyAttempts: lambda _: Refused(
        "Throttling", "Too many attempts have failed. Please try again later."
    ),
}


def word(error: Exception, action: str, source: str, request_id: str) -> Response:
    """
    Word an error, and log what whoever runs the server wants to know of.

    :param action: What was asked for.
    :param source: The address that the call came from.
    """
    make = _TABLE.get(type(error))  # type: ignore[arg-type]  # others are unknown here
    refused = _UNKNOWN if make is None else make(error)
    status = _STATUSES.get(refused.code, 400)
    if status in (500, 503) and isinstance(error, KypelloError) and error is not refused:
        _log.error(
            "{request_id} {action}: {error}", request_id=request_id, action=action, error=error
        )
    elif isinstance(error, LoginRefused):
        _log.warn(
            "{request_id} {action} from {source} is refused: {reason}",
            request_id=request_id,
            action=action,
            source=source,
            reason=error.detail or error.reason,
        )
    answer = error_response(status, refused, request_id)
    if status in (429, 503):
        retry = ceil(getattr(error, "retry_after", _RETRY))
        answer = evolve(answer, headers=(*answer.headers, ("Retry-After", str(retry))))
    return answer
