# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``docs/s3-api.md``, made of the routing table and the model of S3 that botocore has:

    python -m tests.s3.surface >docs/s3-api.md

Each operation of the model becomes a request, and the routing table tells what it is here.  What it
offers in part needs a note below, and what it does not offer a reason; a test finds those missing
and those left over.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from urllib.parse import parse_qsl

from attrs import frozen
from botocore.model import OperationModel, ServiceModel
from botocore.session import get_session

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.s3.routes import (
    BUCKET,
    OBJECT,
    SERVICE,
    Level,
    Operation,
    every_operation,
    find_operation,
)

_HEAD = """\
# The S3 API

What becomes of each operation of the AWS SDKs, as of November 2026. *Yes* is offered, but for what
stands beside it; *fixed* shows and accepts only what is always the same here; *no* is answered with
`NotImplemented` (501), so that nothing is ever taken for something else.

Answers follow AWS, and MinIO where its clients need it. What a policy must allow is in
[policies.md](policies.md). `x-amz-expected-bucket-owner` counts if `KYPELLO_ACCOUNT_ID` is set.

This file is made by `python -m tests.s3.surface`.

## Operations

| operation | offered | what else |
|---|---|---|
"""

_TAIL = """
## Beside the model

| operation | what it is |
|---|---|
{extensions}
[archives.md](archives.md) tells what is taken out of archives.

## Browsers

A bucket with CORS rules (`PutBucketCors`, `mc cors set`) is answered by them as in AWS: preflights
(`OPTIONS`) need no signature, and what no rule allows is `403 AccessForbidden`; answers to requests
with an `Origin`, errors as well, have the headers of the first rule that allows origin and method.

For all other requests `MINIO_API_CORS_ALLOW_ORIGIN` counts: the origins, separated by commas, with
one `*` at most in each, whose pages may send everything and read all headers. It is `*` unless it
is set, as in MinIO; `off` allows none. Unlike MinIO, it allows no credentials: requests are signed,
so that browsers have nothing to add.

Rules protect those who use browsers, not buckets: other clients do not ask.

## Access lists

Policies decide, as in buckets of AWS with `BucketOwnerEnforced`. A canned list with a new bucket or
object (`x-amz-acl`) is accepted and means nothing; a list can be set to what it is, and everything
else is refused as `AccessControlListNotSupported`. Where a bucket has `BlockPublicAcls`, whoever
asks for a public one is refused.

## Headers without effect

`x-amz-request-payer` and `x-amz-mfa` mean nothing: there is no bill, and no deletion that needs a
second factor. `x-amz-optional-object-attributes` asks listings for `RestoreStatus`, which objects
have that were archived: here is none.
"""

_NO_REPLICATION = "Buckets are not replicated yet."
_NO_WEBSITE = "Web sites have an endpoint of their own in S3; use a web server in front."
_LISTS = "Policies decide; see below."

#: Why an operation is not offered whose subresource is known, and what is fixed of those that are.
NOTES: Mapping[tuple[str, ...], str] = {
    ("GetBucketAccelerateConfiguration",): "Never set.",
    ("PutBucketAccelerateConfiguration",): "There is nothing to accelerate with.",
    ("GetBucketAcl", "GetObjectAcl", "PutBucketAcl", "PutObjectAcl"): _LISTS,
    ("GetBucketLogging", "PutBucketLogging"): "Off; the access log is the server's.",
    (
        "DeleteBucketOwnershipControls",
        "GetBucketOwnershipControls",
        "PutBucketOwnershipControls",
    ): "`BucketOwnerEnforced`.",
    ("GetBucketRequestPayment", "PutBucketRequestPayment"): "`BucketOwner`.",
    ("DeleteBucketReplication", "GetBucketReplication", "PutBucketReplication"): _NO_REPLICATION,
    ("DeleteBucketWebsite", "GetBucketWebsite", "PutBucketWebsite"): _NO_WEBSITE,
    ("WriteGetObjectResponse",): "Objects are given as they are.",
}

#: What else is to be said of operations that are offered.
REMARKS: Mapping[str, str] = {
    "CreateBucket": "Tags may be in the document.",
    "PutBucketNotificationConfiguration": "Queues that are webhooks; see [events.md](events.md).",
    "GetBucketEncryption": "`ServerSideEncryptionConfigurationNotFoundError` unless it was set.",
    "GetObjectLockConfiguration": "`ObjectLockConfigurationNotFoundError` unless it was set; see"
    " [object-lock.md](object-lock.md).",
    "ListDirectoryBuckets": "On the wire it is `ListBuckets`, and answered so.",
    "PutBucketLifecycleConfiguration": "Without transitions; see [lifecycle.md](lifecycle.md).",
}

_EXTENSIONS: Mapping[str, str] = {
    "ListenBucketNotification": "MinIO's `?events=`: what happens in a bucket, as it happens"
    " (`mc watch`).",
    "ListenNotification": "The same of all buckets.",
    "PostObject": "Forms of browsers, signed with version 4 or 2.",
    "ForceDeleteBucket": "MinIO's `x-minio-force-delete`: a bucket with all that is in it,"
    " unless it has object lock.",
    "ForceDeleteObject": "The same for all keys below one.",
    "GetObjectInArchive": "MinIO's `x-minio-extract`: a file within a zip archive.",
    "HeadObjectInArchive": "The same, without its content.",
    "PutObjectExtract": "`X-Amz-Meta-Snowball-Auto-Extract`: objects of the entries of an archive.",
}


@frozen
class Row:
    """
    What becomes of an operation.

    :ivar name: As the model calls it.
    :ivar operation: The one that it is here; ``None`` when it is not offered.
    :ivar reason: Why its subresource is not offered; empty when that says nothing.
    """

    name: str
    operation: Operation | None
    reason: str = ""

    @property
    def offered(self) -> str:
        """
        How it is offered, in a word.
        """
        if self.operation is None:
            return "no"
        return "fixed" if self.operation.settled else "yes"


@cache
def model() -> ServiceModel:
    """
    The model of S3.
    """
    return get_session().get_service_model("s3")


def request_of(operation: OperationModel) -> tuple[Level, RequestHead]:
    """
    The least request that asks for an operation, for a bucket ``bucket`` and a key ``k``, and its
    level.
    """
    path, _mark, query = operation.http["requestUri"].partition("?")
    parameters = parse_qsl(query, keep_blank_values=True)
    headers = []
    shape = operation.input_shape
    for member in shape.required_members if shape is not None else ():
        told = shape.members[member].serialization
        if told.get("location") == "querystring":
            parameters.append((told["name"], "1"))
        elif told.get("location") == "header":
            headers.append((told["name"].lower(), "bucket/k"))
    level = OBJECT if "{Key" in path else SERVICE if path == "/" else BUCKET
    target = path.replace("{Bucket}", "bucket").replace("{Key+}", "k")
    head = RequestHead(
        operation.http["method"], target, tuple(parameters), tuple(headers), secure=True
    )
    return level, head


def rows() -> Iterator[Row]:
    """
    All operations of the model, by name.
    """
    for name in sorted(model().operation_names):
        level, head = request_of(model().operation_model(name))
        try:
            yield Row(name, find_operation(level, head))
        except Refused:
            reasons = [level.unsupported.get(parameter, "") for parameter, _value in head.query]
            yield Row(name, None, "".join(reasons[:1]))


def notes() -> Mapping[str, str]:
    """
    :data:`NOTES`, each operation by itself.
    """
    return {name: note for names, note in NOTES.items() for name in names}


def extensions() -> Sequence[str]:
    """
    The operations that the model does not know.
    """
    known = {row.operation for row in rows()}
    return [operation.name for operation in every_operation() if operation not in known]


def document() -> str:
    """
    The whole document.
    """
    texts = {**REMARKS, **notes()}
    table = "".join(
        f"| {row.name} | {row.offered} | {row.reason or texts.get(row.name, '')} |\n".replace(
            "|  |", "| |"
        )
        for row in rows()
    )
    beside = "".join(f"| {name} | {_EXTENSIONS[name]} |\n" for name in extensions())
    return _HEAD + table + _TAIL.format(extensions=beside)


if __name__ == "__main__":
    sys.stdout.write(document())
