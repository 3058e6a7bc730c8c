# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which operation a request is: a table by level, subresource and method.

The level is the service, a bucket or an object.  A subresource is the first query parameter
that has a name in the table; parameters with other names change nothing.  What S3 knows and
this server does not offer is in the table too: it must never be taken for the plain operation
of its level.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeAlias
from urllib.parse import unquote

from attrs import frozen

from kypello.auth.request import RequestHead
from kypello.errors import PreconditionFailed, Refused
from kypello.http.response import Response
from kypello.s3 import unoffered
from kypello.s3.acl import get_acl, put_bucket_acl, put_object_acl
from kypello.s3.attributes import get_object_attributes
from kypello.s3.bucketconfig import (
    absent,
    delete_absent,
    delete_encryption,
    fixed,
    get_encryption,
    put_encryption,
)
from kypello.s3.bucketlock import LOCK
from kypello.s3.bucketpolicy import BLOCK, POLICY, get_policy_status
from kypello.s3.buckets import (
    create_bucket,
    delete_bucket,
    get_location,
    head_bucket,
    list_buckets,
)
from kypello.s3.buckettags import TAGS
from kypello.s3.call import Call
from kypello.s3.copying import copy_object
from kypello.s3.copysource import COPY_SOURCE
from kypello.s3.cors import CORS
from kypello.s3.deletion import delete_objects
from kypello.s3.errors import not_implemented
from kypello.s3.extensions import (
    force_delete_bucket,
    force_delete_object,
    is_forced,
)
from kypello.s3.forms import post_object
from kypello.s3.lifecycle import LIFECYCLE, get_lifecycle, put_lifecycle
from kypello.s3.listening import listen
from kypello.s3.listings import list_objects
from kypello.s3.multipart import abort_upload, complete_upload, create_upload, list_uploads
from kypello.s3.notification import get_notification, put_notification
from kypello.s3.objects import delete_object, get_object, head_object, put_object
from kypello.s3.parts import list_parts, upload_part, upload_part_copy
from kypello.s3.reencryption import update_object_encryption
from kypello.s3.retention import (
    get_object_legal_hold,
    get_object_retention,
    put_object_legal_hold,
    put_object_retention,
)
from kypello.s3.settled import (
    put_logging,
    put_ownership_controls,
    put_request_payment,
)
from kypello.s3.snowball import put_archive, wants_unpacking
from kypello.s3.tagging import (
    delete_object_tagging,
    get_object_tagging,
    put_object_tagging,
)
from kypello.s3.versioning import get_versioning, put_versioning
from kypello.s3.versionlisting import list_versions
from kypello.s3.zipped import get_inside, head_inside, leads_inside

Perform: TypeAlias = Callable[[Call], Awaitable[Response]]


@frozen
class Operation:
    """
    One kind of request.

    :ivar name: As the S3 API reference calls it; for logs.
    :ivar action: What a policy must allow on the bucket or object; empty when the operation asks
        for each thing that it touches.
    :ivar versions: Whether it is another action, of a version, when the request names one.
    :ivar settled: Whether it shows or accepts what is always the same.
    :ivar form: Whether the body tells who sent it: the operation asks for permission by itself.
    :ivar asks: Whether the operation asks for its action by itself, as policies may ask for what
        the body says.
    """

    name: str
    action: str
    perform: Perform
    versions: bool = False
    form: bool = False
    settled: bool = False
    asks: bool = False

    def action_for(self, head: RequestHead) -> str:
        """
        What a policy must allow for one request.
        """
        if self.versions and head.parameter("versionId"):
            return self.action.replace("Object", "ObjectVersion")
        return self.action


_Methods: TypeAlias = Mapping[str, Operation]


def _configuration(
    name: str, get: Perform, delete: str = "", put: Perform | None = None
) -> _Methods:
    """
    A configuration that cannot be changed.

    :param name: As in the names of its operations.
    :param delete: The action of its removal, which changes nothing; empty when there is none.
    :param put: Sets it to what it is; ``None`` when there is no such thing.
    """
    methods = {"GET": Operation(f"Get{name}", f"s3:Get{name}", get, settled=True)}
    if delete:
        methods["DELETE"] = Operation(f"Delete{name}", delete, delete_absent, settled=True)
    if put is not None:
        methods["PUT"] = Operation(f"Put{name}", f"s3:Put{name}", put, settled=True)
    return methods


_SERVICE: Mapping[str, _Methods] = {
    "": {"GET": Operation("ListBuckets", "", list_buckets)},
    "events": {"GET": Operation("ListenNotification", "s3:ListenNotification", listen)},
}

_BUCKET: Mapping[str, _Methods] = {
    "": {
        "GET": Operation("ListObjects", "s3:ListBucket", list_objects),
        "HEAD": Operation("HeadBucket", "s3:ListBucket", head_bucket),
        # A condition may ask where the bucket is to be, which the body tells.
        "PUT": Operation("CreateBucket", "", create_bucket),
        "DELETE": Operation("DeleteBucket", "s3:DeleteBucket", delete_bucket),
    },
    "location": {
        "GET": Operation("GetBucketLocation", "s3:GetBucketLocation", get_location),
    },
    "versions": {
        "GET": Operation("ListObjectVersions", "s3:ListBucketVersions", list_versions),
    },
    "uploads": {
        "GET": Operation("ListMultipartUploads", "s3:ListBucketMultipartUploads", list_uploads),
    },
    # Each object of the list is authorized by itself, as is each bucket of a list.
    "delete": {"POST": Operation("DeleteObjects", "", delete_objects)},
    "encryption": {
        "GET": Operation("GetBucketEncryption", "s3:GetEncryptionConfiguration", get_encryption),
        "PUT": Operation("PutBucketEncryption", "s3:PutEncryptionConfiguration", put_encryption),
        "DELETE": Operation(
            "DeleteBucketEncryption", "s3:PutEncryptionConfiguration", delete_encryption
        ),
    },
    "accelerate": _configuration("AccelerateConfiguration", fixed("AccelerateConfiguration")),
    "acl": _configuration("BucketAcl", get_acl, put=put_bucket_acl),
    "cors": {
        "GET": Operation("GetBucketCors", "s3:GetBucketCORS", CORS.get),
        "PUT": Operation("PutBucketCors", "s3:PutBucketCORS", CORS.put),
        "DELETE": Operation("DeleteBucketCors", "s3:PutBucketCORS", CORS.delete),
    },
    "lifecycle": {
        "GET": Operation(
            "GetBucketLifecycleConfiguration", "s3:GetLifecycleConfiguration", get_lifecycle
        ),
        "PUT": Operation(
            "PutBucketLifecycleConfiguration", "s3:PutLifecycleConfiguration", put_lifecycle
        ),
        "DELETE": Operation(
            "DeleteBucketLifecycle", "s3:PutLifecycleConfiguration", LIFECYCLE.delete
        ),
    },
    "logging": _configuration("BucketLogging", fixed("BucketLoggingStatus"), put=put_logging),
    "notification": {
        "GET": Operation("GetBucketNotification", "s3:GetBucketNotification", get_notification),
        "PUT": Operation("PutBucketNotification", "s3:PutBucketNotification", put_notification),
    },
    "events": {
        "GET": Operation("ListenBucketNotification", "s3:ListenBucketNotification", listen),
    },
    "object-lock": {
        "GET": Operation(
            "GetObjectLockConfiguration", "s3:GetBucketObjectLockConfiguration", LOCK.get
        ),
        "PUT": Operation(
            "PutObjectLockConfiguration", "s3:PutBucketObjectLockConfiguration", LOCK.put
        ),
    },
    "ownershipControls": _configuration(
        "BucketOwnershipControls",
        fixed(
            "OwnershipControls",
            "<Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>",
        ),
        "s3:PutBucketOwnershipControls",
        put_ownership_controls,
    ),
    "policy": {
        "GET": Operation("GetBucketPolicy", "s3:GetBucketPolicy", POLICY.get),
        "PUT": Operation("PutBucketPolicy", "s3:PutBucketPolicy", POLICY.put),
        "DELETE": Operation("DeleteBucketPolicy", "s3:DeleteBucketPolicy", POLICY.delete),
    },
    "policyStatus": {
        "GET": Operation("GetBucketPolicyStatus", "s3:GetBucketPolicyStatus", get_policy_status),
    },
    "publicAccessBlock": {
        "GET": Operation("GetPublicAccessBlock", "s3:GetBucketPublicAccessBlock", BLOCK.get),
        "PUT": Operation("PutPublicAccessBlock", "s3:PutBucketPublicAccessBlock", BLOCK.put),
        "DELETE": Operation(
            "DeletePublicAccessBlock", "s3:PutBucketPublicAccessBlock", BLOCK.delete
        ),
    },
    "replication": _configuration(
        "ReplicationConfiguration",
        absent(
            "ReplicationConfigurationNotFoundError",
            "The replication configuration was not found",
        ),
        "s3:PutReplicationConfiguration",
    ),
    "requestPayment": _configuration(
        "BucketRequestPayment",
        fixed("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>"),
        put=put_request_payment,
    ),
    "tagging": {
        "GET": Operation("GetBucketTagging", "s3:GetBucketTagging", TAGS.get),
        "PUT": Operation("PutBucketTagging", "s3:PutBucketTagging", TAGS.put),
        "DELETE": Operation("DeleteBucketTagging", "s3:PutBucketTagging", TAGS.delete),
    },
    "versioning": {
        "GET": Operation("GetBucketVersioning", "s3:GetBucketVersioning", get_versioning),
        "PUT": Operation("PutBucketVersioning", "s3:PutBucketVersioning", put_versioning),
    },
    "website": _configuration(
        "BucketWebsite",
        absent(
            "NoSuchWebsiteConfiguration",
            "The specified bucket does not have a website configuration",
        ),
        "s3:DeleteBucketWebsite",
    ),
}

_OBJECT: Mapping[str, _Methods] = {
    "": {
        "GET": Operation("GetObject", "s3:GetObject", get_object, versions=True),
        "HEAD": Operation("HeadObject", "s3:GetObject", head_object, versions=True),
        "PUT": Operation("PutObject", "s3:PutObject", put_object),
        "DELETE": Operation("DeleteObject", "s3:DeleteObject", delete_object, versions=True),
    },
    "uploads": {
        "POST": Operation("CreateMultipartUpload", "s3:PutObject", create_upload),
    },
    "uploadId": {
        "GET": Operation("ListParts", "s3:ListMultipartUploadParts", list_parts),
        "PUT": Operation("UploadPart", "s3:PutObject", upload_part),
        "POST": Operation("CompleteMultipartUpload", "s3:PutObject", complete_upload),
        "DELETE": Operation("AbortMultipartUpload", "s3:AbortMultipartUpload", abort_upload),
    },
    "acl": _configuration("ObjectAcl", get_acl, put=put_object_acl),
    "attributes": {
        "GET": Operation(
            "GetObjectAttributes",
            "s3:GetObjectAttributes",
            get_object_attributes,
            versions=True,
        ),
    },
    "encryption": {
        "PUT": Operation(
            "UpdateObjectEncryption", "s3:UpdateObjectEncryption", update_object_encryption
        ),
    },
    "legal-hold": {
        "GET": Operation("GetObjectLegalHold", "s3:GetObjectLegalHold", get_object_legal_hold),
        "PUT": Operation(
            "PutObjectLegalHold", "s3:PutObjectLegalHold", put_object_legal_hold, asks=True
        ),
    },
    "retention": {
        "GET": Operation("GetObjectRetention", "s3:GetObjectRetention", get_object_retention),
        "PUT": Operation(
            "PutObjectRetention", "s3:PutObjectRetention", put_object_retention, asks=True
        ),
    },
    "tagging": {
        "GET": Operation(
            "GetObjectTagging",
            "s3:GetObjectTagging",
            get_object_tagging,
            versions=True,
        ),
        "PUT": Operation(
            "PutObjectTagging",
            "s3:PutObjectTagging",
            put_object_tagging,
            versions=True,
        ),
        "DELETE": Operation(
            "DeleteObjectTagging",
            "s3:DeleteObjectTagging",
            delete_object_tagging,
            versions=True,
        ),
    },
}

#: What becomes of operations that name a source.  The source is authorized by itself.
_COPIES: Mapping[str, Operation] = {
    "PutObject": Operation("CopyObject", "s3:PutObject", copy_object),
    "UploadPart": Operation("UploadPartCopy", "s3:PutObject", upload_part_copy),
}

#: What becomes of removals that mean everything below, too.
_FORCED: Mapping[str, Operation] = {
    "DeleteBucket": Operation("ForceDeleteBucket", "s3:ForceDeleteBucket", force_delete_bucket),
    "DeleteObject": Operation("ForceDeleteObject", "s3:DeleteObject", force_delete_object),
}
_POST_OBJECT = Operation("PostObject", "s3:PutObject", post_object, form=True)

#: What becomes of reads that lead into archives, which are authorized by themselves.
_INSIDE: Mapping[str, Operation] = {
    "GetObject": Operation("GetObjectInArchive", "", get_inside),
    "HeadObject": Operation("HeadObjectInArchive", "", head_inside),
}

#: What becomes of a PUT whose content is an archive of objects.
_PUT_ARCHIVE = Operation("PutObjectExtract", "s3:PutObject", put_archive)

#: Names the request that a function answers with ``WriteGetObjectResponse``.
_LAMBDA = "x-amz-request-route"


@frozen
class Level:
    """
    What a path can lead to.

    :ivar kind: For error documents.
    :ivar unsupported: Subresources that are known and not offered, and why.
    """

    kind: str
    routes: Mapping[str, _Methods]
    unsupported: Mapping[str, str]


SERVICE = Level("SERVICE", _SERVICE, unoffered.SERVICE)
BUCKET = Level("BUCKET", _BUCKET, unoffered.BUCKET)
OBJECT = Level("OBJECT", _OBJECT, unoffered.OBJECT)


def every_operation() -> Iterator[Operation]:
    """
    All operations, in the order of the tables.
    """
    for level in (SERVICE, BUCKET, OBJECT):
        for methods in level.routes.values():
            yield from methods.values()
    yield from (*_COPIES.values(), *_FORCED.values(), _POST_OBJECT, _PUT_ARCHIVE)
    yield from _INSIDE.values()


def find_operation(level: Level, head: RequestHead) -> Operation:
    """
    The operation that a request asks for.

    :raises Refused: ``NotImplemented``, ``MethodNotAllowed``, ``InvalidRequest`` or
        ``InvalidArgument``.
    :raises PreconditionFailed: A form that is none.
    """
    subresource = _subresource(level, head)
    if subresource in level.unsupported:
        raise not_implemented(subresource, level.unsupported[subresource])
    methods = level.routes[subresource]
    operation = methods.get(head.method)
    if operation is not None:
        if level is OBJECT:
            _check_object(head, subresource)
        return _variant(operation, head)
    if level is BUCKET and head.method == "POST" and not subresource:
        return _form(head)
    if level is OBJECT and head.method == "GET" and subresource == "uploads":
        raise Refused(
            "InvalidRequest", "Key is not expected for the GET method ?uploads subresource"
        )
    if subresource and head.method in ("PUT", "POST", "DELETE"):
        raise not_implemented(subresource)
    raise Refused(
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
        {
            "Method": head.method,
            "ResourceType": level.kind,
            "AllowedMethods": ", ".join(sorted(methods)),
        },
    )


def _variant(operation: Operation, head: RequestHead) -> Operation:
    """
    What headers make of an operation.
    """
    name = operation.name
    if name in _INSIDE and leads_inside(head, unquote(head.path)):
        return _INSIDE[name]
    if name in _COPIES and head.header(COPY_SOURCE) is not None:
        return _COPIES[name]
    if name == "PutObject" and wants_unpacking(head):
        return _PUT_ARCHIVE
    if name in _FORCED and is_forced(head):
        return _FORCED[name]
    return operation


def _subresource(level: Level, head: RequestHead) -> str:
    for name, _value in head.query:
        if name and (name in level.routes or name in level.unsupported):
            return name
    return ""


def _check_object(head: RequestHead, subresource: str) -> None:
    if head.parameter("versions") is not None:
        raise Refused(
            "InvalidRequest", "There is no such thing as the ?versions sub-resource for a key"
        )
    numbered = head.parameter("partNumber") is not None
    if head.method == "PUT" and numbered and subresource != "uploadId":
        raise Refused(
            "InvalidArgument", "This operation does not accept partNumber without uploadId"
        )


def _form(head: RequestHead) -> Operation:
    if head.header(_LAMBDA) is not None:
        raise not_implemented(_LAMBDA)
    kind = (head.header("content-type") or "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _POST_OBJECT
    raise PreconditionFailed("Bucket POST must be of the enclosure-type multipart/form-data")
