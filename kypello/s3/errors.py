# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The one table from what can go wrong to S3 error codes, and how an error is worded.
"""

from collections.abc import Callable, Iterator, Mapping
from math import ceil
from typing import Any

from attrs import frozen
from twisted.logger import Logger

from kypello.errors import (
    BodyTimeout,
    BodyTruncated,
    BucketExists,
    BucketNotEmpty,
    Damaged,
    InvalidKeyName,
    IsDeleteMarker,
    KeyMismatch,
    KeyNotFound,
    KMSForbidden,
    KMSNotConfigured,
    KMSNotSupported,
    KMSUnavailable,
    KypelloError,
    MalformedPolicy,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    NotAuthentic,
    PreconditionFailed,
    QuotaExceeded,
    Refused,
    StorageFailed,
    StorageFull,
)
from kypello.http.framing import BadRequest, HeadTooLarge
from kypello.http.response import Response
from kypello.s3.dates import http_date
from kypello.s3.standing import standing_headers
from kypello.s3.xml import CONTENT_TYPE, error_document

#: The headers that tell a version, and that it is a delete marker.
VERSION_ID = "x-amz-version-id"
DELETE_MARKER = "x-amz-delete-marker"

_log = Logger()

#: The status of each code that breaks no rule of the protocol, or a special one; all other
#: codes are 400.
STATUSES: Mapping[str, int] = {
    "AccessDenied": 403,
    "AccessForbidden": 403,
    "AllAccessDisabled": 403,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidBucketState": 409,
    "InvalidPartNumber": 416,
    "InvalidRange": 416,
    "kms:KeyMismatch": 503,
    "kms:NotAuthorized": 403,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchBucketPolicy": 404,
    "NoSuchCORSConfiguration": 404,
    "NoSuchKey": 404,
    "NoSuchLifecycleConfiguration": 404,
    "NoSuchObjectLockConfiguration": 404,
    "NoSuchPublicAccessBlockConfiguration": 404,
    "NoSuchTagSet": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NoSuchWebsiteConfiguration": 404,
    "NotImplemented": 501,
    "OperationAborted": 409,
    "ObjectLockConfigurationNotFoundError": 404,
    "PreconditionFailed": 412,
    "ReplicationConfigurationNotFoundError": 404,
    "RequestTimeTooSkewed": 403,
    "ServerSideEncryptionConfigurationNotFoundError": 404,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "XMinioObjectTampered": 500,
    "XMinioStorageFull": 507,
}

_UNKNOWN = Refused("InternalError", "We encountered an internal error, please try again.")


def access_denied() -> Refused:
    """
    The refusal of somebody who may not do it.
    """
    return Refused("AccessDenied", "Access Denied.")


def not_implemented(what: str, why: str = "") -> Refused:
    """
    The refusal of something that S3 knows and this server does not offer.

    :param what: The header or parameter that asks for it.
    :param why: A sentence.
    """
    message = f"This server does not implement {what}" + (f": {why}" if why else ".")
    return Refused("NotImplemented", message, {"Header": what})


def invalid_argument(name: str, value: str, message: str) -> Refused:
    """
    The refusal of the value of a header or parameter.
    """
    return Refused("InvalidArgument", message, {"ArgumentName": name, "ArgumentValue": value})


def _no_such_bucket(error: NoSuchBucket) -> Refused:
    return Refused("NoSuchBucket", "The specified bucket does not exist")


def _unavailable(error: KMSUnavailable) -> Refused:
    # SDKs repeat requests that are answered 503; the code is the one that all of them know.
    return Refused(
        "ServiceUnavailable",
        "The key management service cannot be reached, and this request needs a key of it."
        " Please try again.",
    )


#: What becomes of each domain error.
TABLE: Mapping[type[Exception], Callable[[Any], Refused]] = {
    Refused: lambda error: error,
    NoSuchBucket: _no_such_bucket,
    BucketExists: lambda error: Refused(
        "BucketAlreadyOwnedByYou",
        "Your previous request to create the named bucket succeeded and you already own it.",
    ),
    BucketNotEmpty: lambda error: Refused(
        "BucketNotEmpty", "The bucket you tried to delete is not empty"
    ),
    NoSuchKey: lambda error: Refused("NoSuchKey", "The specified key does not exist."),
    NoSuchUpload: lambda error: Refused(
        "NoSuchUpload",
        "The specified multipart upload does not exist. The upload ID may be invalid, or the"
        " upload may have been aborted or completed.",
        {"UploadId": error.upload_id},
    ),
    NoSuchVersion: lambda error: Refused(
        "NoSuchVersion", "The specified version does not exist.", {"VersionId": error.version_id}
    ),
    IsDeleteMarker: lambda error: Refused(
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
        {"ResourceType": "DeleteMarker", "AllowedMethods": "DELETE"},
    ),
    PreconditionFailed: lambda error: Refused(
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        {"Condition": error.condition},
    ),
    QuotaExceeded: lambda error: Refused(
        "XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded", {"BucketName": error.bucket}
    ),
    StorageFull: lambda error: Refused(
        "XMinioStorageFull",
        "Storage backend has reached its minimum free drive threshold. Please delete a few"
        " objects to proceed.",
    ),
    StorageFailed: lambda error: Refused(
        "ServiceUnavailable", "The storage does not work at the moment. Please try again."
    ),
    Damaged: lambda error: Refused(
        "InternalError", "What is stored there is damaged and cannot be returned."
    ),
    BodyTruncated: lambda error: Refused(
        "IncompleteBody",
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
    ),
    BodyTimeout: lambda error: Refused(
        "RequestTimeout",
        "Your socket connection to the server was not read from or written to within the"
        " timeout period. Idle connections will be closed.",
    ),
    NotAuthentic: lambda error: Refused(
        "XMinioObjectTampered",
        "The encrypted object, or the key that belongs to it, is not what was written.",
    ),
    InvalidKeyName: lambda error: Refused(
        "InvalidArgument", "The specified KMS KeyID contains unsupported characters"
    ),
    KeyNotFound: lambda error: Refused(
        "kms:KeyNotFound", f"The key management service has no key {error.name!r}."
    ),
    KeyMismatch: lambda error: Refused(
        "kms:KeyMismatch",
        f"The key management service holds another key under the name {error.name!r} than the"
        " one that the data here is encrypted with.",
    ),
    KMSUnavailable: _unavailable,
    KMSForbidden: lambda error: Refused(
        "kms:NotAuthorized", "The key management service forbids this server the operation."
    ),
    KMSNotSupported: lambda error: Refused(
        "NotImplemented", "The key management service has no such operation."
    ),
    MalformedPolicy: lambda error: Refused("MalformedPolicy", error.reason),
    KMSNotConfigured: lambda error: Refused(
        "NotImplemented", "Server side encryption specified but KMS is not configured"
    ),
}


@frozen
class Subject:
    """
    What a request was about, for its error document.

    :ivar path: Decoded, for people.
    :ivar bucket: Empty when it was not about one.
    :ivar key: Likewise.
    """

    path: str
    bucket: str = ""
    key: str = ""


def translate(error: Exception, request_id: str, path: str) -> Refused:
    """
    The error in the vocabulary of S3; failures of the server's own are logged.

    :param path: What it happened to, decoded.

    An exception that is no :class:`kypello.errors.KypelloError` is logged by who caught it.
    """
    word = TABLE.get(type(error))
    refused = _UNKNOWN if word is None else word(error)
    ours = isinstance(error, KypelloError) and not isinstance(error, Refused | KMSNotConfigured)
    if ours and status_of(refused) >= 500:
        _log.error(
            "request {request_id} for {path!r}: {error}",
            request_id=request_id,
            path=path,
            error=error,
        )
    return refused


def status_of(refused: Refused) -> int:
    """
    The HTTP status of an error.
    """
    return STATUSES.get(refused.code, 400)


def error_response(
    error: Exception, subject: Subject, request_id: str, host_id: str, *, bodiless: bool
) -> Response:
    """
    Word the answer to an exception.

    :param bodiless: The request is a ``HEAD``: minio-go takes code and text from headers.
    """
    refused = translate(error, request_id, subject.path)
    headers = [CONTENT_TYPE, *_headers(refused), *_marker_headers(error)]
    if isinstance(error, KMSUnavailable):
        headers.append(("Retry-After", str(max(1, ceil(error.retry_after)))))
    if bodiless:
        headers.append(("X-Minio-Error-Code", _visible(refused.code)))
        headers.append(("X-Minio-Error-Desc", f'"{_visible(refused.message)}"'))
    body = _document(refused, subject, request_id, host_id)
    return Response(status_of(refused), headers, body)


def refuse_framing(error: BadRequest, request_id: str, host_id: str) -> Response:
    """
    Word the answer to something that is no HTTP request, complete with all its headers.
    """
    code = "RequestHeaderSectionTooLarge" if isinstance(error, HeadTooLarge) else "BadRequest"
    refused = Refused(code, error.reason)
    body = _document(refused, Subject(""), request_id, host_id)
    standing = standing_headers(request_id, host_id, secure=False)
    return Response(error.status, (*standing, CONTENT_TYPE), body)


def _document(refused: Refused, subject: Subject, request_id: str, host_id: str) -> bytes:
    elements = {
        "Code": refused.code,
        "Message": refused.message,
        "Key": subject.key,
        "BucketName": subject.bucket,
        "Resource": subject.path,
        **refused.fields,
        "RequestId": request_id,
        "HostId": host_id,
    }
    return error_document((name, text) for name, text in elements.items() if text)


def _headers(refused: Refused) -> list[tuple[str, str]]:
    fields = refused.fields
    if refused.code == "InvalidRange":
        return [("Content-Range", f"bytes */{fields['ActualObjectSize']}")]
    if refused.code == "MethodNotAllowed":
        return [("Allow", fields["AllowedMethods"])]
    return []


def _marker_headers(error: Exception) -> Iterator[tuple[str, str]]:
    """
    What tells of the delete marker that was met.
    """
    if isinstance(error, NoSuchKey) and error.marker:
        yield DELETE_MARKER, "true"
        yield VERSION_ID, error.marker
    elif isinstance(error, IsDeleteMarker):
        yield DELETE_MARKER, "true"
        yield VERSION_ID, error.version_id
        yield "Last-Modified", http_date(error.modified)


def _visible(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)
