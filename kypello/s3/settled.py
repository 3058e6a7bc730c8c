# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Configurations of buckets that are always the same: to set them to that succeeds.
"""

from xml.etree.ElementTree import Element

from kypello.errors import Refused
from kypello.http.response import Response
from kypello.s3.call import Call
from kypello.s3.errors import not_implemented
from kypello.s3.xml import child_texts, children, malformed, read_document

_OWNERSHIPS = frozenset({"BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"})
_PAYERS = frozenset({"BucketOwner", "Requester"})


async def put_ownership_controls(call: Call) -> Response:
    """
    Let the owner of a bucket own all that is in it.
    """
    tree = await _read(call, "OwnershipControls")
    rules = list(children(tree, frozenset({"Rule"})))
    if len(rules) != 1:
        raise malformed()
    ownership = child_texts(rules[0], frozenset({"ObjectOwnership"})).get("ObjectOwnership", "")
    if ownership not in _OWNERSHIPS:
        raise malformed()
    if ownership != "BucketOwnerEnforced":
        raise Refused("InvalidRequest", "Buckets here have no ACLs: use BucketOwnerEnforced.")
    return Response(200)


async def put_request_payment(call: Call) -> Response:
    """
    Let the owner of a bucket pay.
    """
    tree = await _read(call, "RequestPaymentConfiguration")
    payer = child_texts(tree, frozenset({"Payer"})).get("Payer", "")
    if payer not in _PAYERS:
        raise malformed()
    if payer != "BucketOwner":
        raise not_implemented("Payer")
    return Response(200)


async def put_logging(call: Call) -> Response:
    """
    Log nothing into a bucket.
    """
    if list(children(await _read(call, "BucketLoggingStatus"), frozenset({"LoggingEnabled"}))):
        raise not_implemented("LoggingEnabled")
    return Response(200)


async def _read(call: Call, root: str) -> Element:
    await call.front.store.bucket(call.bucket)
    return read_document(await call.read_document(), root)
