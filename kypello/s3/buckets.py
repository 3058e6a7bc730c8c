# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Operations on buckets as a whole.
"""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from attrs import evolve

from kypello.crypto.sse import BLOCKED
from kypello.errors import BucketNotEmpty, Refused
from kypello.http.response import Response
from kypello.model import SSE_C, BucketInfo
from kypello.s3.bucketlock import read_lock_of_bucket
from kypello.s3.buckettags import read_new_tags
from kypello.s3.call import Call
from kypello.s3.dates import xml_date
from kypello.s3.errors import access_denied, invalid_argument, not_implemented
from kypello.s3.owner import OWNER
from kypello.s3.payload import read_small
from kypello.s3.tokens import read_token, write_token
from kypello.s3.xml import (
    CONTENT_TYPE,
    children,
    document,
    escape,
    malformed,
    read_document,
)
from kypello.versioning import versioning_of

_MAX_BUCKETS = 10_000
_LIST_PARAMETERS = ("max-buckets", "continuation-token", "prefix", "bucket-region")
_OWNERSHIPS = ("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter")

#: The condition key of where a bucket is to be.
_LOCATION = "s3:locationconstraint"
_NAMESPACE = "x-amz-bucket-namespace"
_MAX_CONFIGURATION = 64 * 1024
_CONFIGURATION = frozenset({"LocationConstraint", "Location", "Bucket", "Tags"})


async def list_buckets(call: Call) -> Response:
    """
    List the buckets, all of them unless fewer are asked for.
    """
    head = call.head
    limit = _max_buckets(head.parameter("max-buckets"))
    after = read_token(head.parameter("continuation-token") or "")
    prefix = head.parameter("prefix")
    region = head.parameter("bucket-region")
    shown = call.front.shown_region
    found = [
        info
        for info in await _visible(call)
        if info.name.startswith(prefix or "") and info.name > after and region in (None, "", shown)
    ]
    regional = any(head.parameter(name) is not None for name in _LIST_PARAMETERS)
    page = found if limit is None else found[:limit]
    content = f"{OWNER}<Buckets>{_elements(page, shown if regional else None)}</Buckets>"
    if len(page) < len(found):
        content += f"<ContinuationToken>{write_token(page[-1].name)}</ContinuationToken>"
    if prefix is not None:
        content += f"<Prefix>{escape(prefix)}</Prefix>"
    return Response(200, (CONTENT_TYPE,), document("ListAllMyBucketsResult", content))


async def _visible(call: Call) -> Sequence[BucketInfo]:
    """
    The buckets that whoever sent the request may know of: all, or those that they may look into.

    :raises Refused: ``AccessDenied``: there is none of those.
    """
    buckets = await call.front.store.buckets()
    if await call.may("s3:ListAllMyBuckets"):
        return buckets
    seen = [
        info
        for info in buckets
        if await call.may("s3:ListBucket", info.name)
        or await call.may("s3:GetBucketLocation", info.name)
    ]
    if not seen:
        raise access_denied()
    return seen


async def create_bucket(call: Call) -> Response:
    """
    Make a bucket.
    """
    head, name = call.head, call.bucket
    ownership = head.header("x-amz-object-ownership")
    if ownership is not None and ownership not in _OWNERSHIPS:
        raise invalid_argument(
            "x-amz-object-ownership", ownership, "Invalid x-amz-object-ownership"
        )
    namespace = head.header(_NAMESPACE) or "global"
    if namespace == "account-regional":
        raise not_implemented(_NAMESPACE)
    if namespace != "global":
        raise invalid_argument(_NAMESPACE, namespace, f"Invalid {_NAMESPACE}")
    lock = read_lock_of_bucket(head)
    body = await read_small(call.payload(), _MAX_CONFIGURATION)
    try:
        region, tags = _read_settings(call, body)
    except Refused:
        # Who may make no bucket learns nothing else.
        await call.require("s3:CreateBucket")
        raise
    await evolve(call, told={_LOCATION: region} if region else {}).require("s3:CreateBucket")
    if tags:
        await call.require("s3:PutBucketTagging")
    if lock:
        await call.require("s3:PutBucketObjectLockConfiguration")
        await call.require("s3:PutBucketVersioning")
    blocked = {BLOCKED: SSE_C.encode()} if call.front.blocks_customer_keys else {}
    await call.front.store.create_bucket(name, {**tags, **lock, **blocked})
    await call.announce("s3:BucketCreated:*")
    return Response(200, (("Location", f"/{name}"),))


async def head_bucket(call: Call) -> Response:
    """
    Tell that a bucket exists.
    """
    await call.front.store.bucket(call.bucket)
    return Response(200)


async def delete_bucket(call: Call) -> Response:
    """
    Remove an empty bucket.
    """
    try:
        await call.front.store.delete_bucket(call.bucket)
    except BucketNotEmpty:
        bucket = await call.front.store.bucket(call.bucket)
        if versioning_of(bucket.settings) is None:
            raise
        # What a listing of objects does not show.
        raise Refused(
            "BucketNotEmpty",
            "The bucket you tried to delete is not empty. You must delete all versions in the"
            " bucket.",
        ) from None
    await call.announce("s3:BucketRemoved:*")
    return Response(204)


async def get_location(call: Call) -> Response:
    """
    Tell the region of a bucket; ``us-east-1`` has no name here.
    """
    await call.front.store.bucket(call.bucket)
    region = call.front.shown_region
    content = "" if region == "us-east-1" else escape(region)
    return Response(200, (CONTENT_TYPE,), document("LocationConstraint", content))


def _max_buckets(stated: str | None) -> int | None:
    if stated is None:
        return None
    if stated.isascii() and stated.isdigit() and len(stated) <= len(str(_MAX_BUCKETS)):
        number = int(stated)
        if 1 <= number <= _MAX_BUCKETS:
            return number
    raise invalid_argument(
        "max-buckets", stated, "Argument max-buckets must be an integer between 1 and 10000."
    )


def _elements(buckets: Sequence[BucketInfo], region: str | None) -> str:
    shown = "" if region is None else f"<BucketRegion>{escape(region)}</BucketRegion>"
    return "".join(
        f"<Bucket><Name>{escape(info.name)}</Name>"
        f"<CreationDate>{xml_date(info.created)}</CreationDate>{shown}</Bucket>"
        for info in buckets
    )


def _read_settings(call: Call, body: bytes) -> tuple[str, Mapping[str, bytes]]:
    """
    Where a new bucket is to be, if that is told, and the settings that it is to have: its tags,
    if there are any.

    :raises Refused: The bucket is wanted as it would not be.
    """
    if not body:
        return "", {}
    parts: dict[str, Element] = {}
    for part in children(read_document(body, "CreateBucketConfiguration"), _CONFIGURATION):
        if part.tag in parts:
            raise malformed()
        parts[part.tag] = part
    for name in ("Bucket", "Location"):
        # Those that S3 Express knows.
        if name in parts:
            raise not_implemented(name)
    region = _read_region(call, parts.get("LocationConstraint"))
    return region, read_new_tags(parts["Tags"]) if "Tags" in parts else {}


def _read_region(call: Call, constraint: Element | None) -> str:
    if constraint is None:
        return ""
    if len(constraint):
        raise malformed()
    region, configured = (constraint.text or "").strip(), call.front.region
    if configured is not None and region not in ("", "us-east-1", configured):
        raise Refused("InvalidRegion", "Region does not match.", {"Region": configured})
    return region
