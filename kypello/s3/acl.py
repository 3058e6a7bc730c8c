# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Access control lists: policies decide here, so that a list may only be set to what it is.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from xml.etree.ElementTree import Element

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.http.response import Response
from kypello.interfaces import PUBLIC_ACCESS_BLOCK
from kypello.s3.bucketconfig import check_exists
from kypello.s3.bucketpolicy import block_of
from kypello.s3.call import Call
from kypello.s3.errors import access_denied, invalid_argument
from kypello.s3.owner import FULL_CONTROL, OWNER_ID
from kypello.s3.payload import read_small
from kypello.s3.xml import CONTENT_TYPE, child_texts, children, document, read_document

#: The canned lists by which the owner alone may do everything.
_PRIVATE = frozenset({"private"})
_PRIVATE_OBJECT = _PRIVATE | {"bucket-owner-full-control", "bucket-owner-read"}

_CANNED = _PRIVATE_OBJECT | {
    "authenticated-read",
    "aws-exec-read",
    "log-delivery-write",
    "public-read",
    "public-read-write",
}
_HEADER = "x-amz-acl"
_GRANTS = "x-amz-grant-"
_PERMISSIONS = frozenset({"FULL_CONTROL", "READ", "READ_ACP", "WRITE", "WRITE_ACP"})
_FULL_CONTROL = f"{_GRANTS}full-control"
_GRANT_NAMES = frozenset(
    _GRANTS + permission.lower().replace("_", "-") for permission in _PERMISSIONS
)
_GRANTEE = re.compile(r'\s*(id|uri|emailAddress)\s*=\s*"?([^",]*)"?\s*')

#: The canned lists, and the groups, by which strangers may do something.
_PUBLIC = frozenset({"authenticated-read", "public-read", "public-read-write"})
_EVERYBODY = (
    "http://acs.amazonaws.com/groups/global/AllUsers",
    "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
)
_MAX_LIST = 64 * 1024

_LIST = frozenset({"Owner", "AccessControlList"})
_OWNER = frozenset({"ID", "DisplayName"})
_GRANT = frozenset({"Grantee", "Permission"})
_GRANTEE_PARTS = frozenset({"ID", "DisplayName", "EmailAddress", "URI"})


def check_public_list(settings: Mapping[str, bytes], canned: str | None, head: RequestHead) -> None:
    """
    See that no public list is asked for where the bucket blocks these.

    Lists mean nothing here; but who blocks public ones wants to be told of clients that think
    otherwise.

    :param settings: Of the bucket.
    :param canned: The canned list that is asked for.
    :param head: With headers that grant something.
    :raises Refused: ``AccessDenied``.
    """
    if PUBLIC_ACCESS_BLOCK not in settings:
        # Every request comes along here, and few buckets block anything.
        return
    grants = (value for name, value in head.headers if name.startswith(_GRANTS))
    public = canned in _PUBLIC or any(group in value for value in grants for group in _EVERYBODY)
    if public and block_of(settings).block_public_acls:
        raise access_denied()


async def get_acl(call: Call) -> Response:
    """
    Show who may use a bucket or an object: its owner.
    """
    await check_exists(call)
    return Response(200, (CONTENT_TYPE,), document("AccessControlPolicy", FULL_CONTROL))


def put_acl(canned: frozenset[str]) -> Callable[[Call], Awaitable[Response]]:
    """
    An operation that sets a list to what it is.

    :param canned: The canned lists that mean that.
    """

    async def put(call: Call) -> Response:
        """
        Check that it is, and that there is what it is about.
        """
        body = await read_small(call.payload(), _MAX_LIST)
        await check_exists(call)
        _check(call, body, canned)
        return Response(200)

    return put


#: Sets the list of a bucket.
put_bucket_acl = put_acl(_PRIVATE)

#: Sets the list of an object.
put_object_acl = put_acl(_PRIVATE_OBJECT)


def _check(call: Call, body: bytes, canned: frozenset[str]) -> None:
    head = call.head
    stated = head.header(_HEADER)
    grants = {name for name in head.header_names if name.startswith(_GRANTS)}
    if stated is not None and grants:
        raise Refused(
            "InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed"
        )
    if body and (stated is not None or grants):
        raise Refused("UnexpectedContent", "This request does not support content")
    if stated is not None:
        if stated not in _CANNED:
            raise invalid_argument(_HEADER, stated, f"{stated} is no canned ACL")
        allowed = stated in canned
    elif grants:
        for name in sorted(grants):
            _check_grant(name, head.header(name) or "")
        allowed = grants == {_FULL_CONTROL} and _grantees(head.header(_FULL_CONTROL) or "") == {
            ("id", OWNER_ID)
        }
    elif body:
        allowed = _is_private(body)
    else:
        raise Refused(
            "MissingSecurityHeader", "Your request was missing a required header: x-amz-acl"
        )
    if not allowed:
        raise Refused("AccessControlListNotSupported", "The bucket does not allow ACLs.")


def _check_grant(name: str, value: str) -> None:
    if name not in _GRANT_NAMES or ("", "") in _grantees(value):
        raise invalid_argument(name, value, "Argument format not recognized")


def _grantees(value: str) -> set[tuple[str, str]]:
    """
    Who is granted something: kind and name; both empty for what is neither.
    """
    found = [_GRANTEE.fullmatch(one) for one in value.split(",")]
    return {("", "") if one is None else (one[1], one[2]) for one in found}


def _is_private(body: bytes) -> bool:
    """
    Whether a document grants the owner everything, and nobody anything else.

    :raises Refused: ``MalformedACLError``.
    """
    try:
        tree = read_document(body, "AccessControlPolicy")
        found = {child.tag: child for child in children(tree, _LIST)}
        if len(found) != len(tree) or "AccessControlList" not in found:
            raise _malformed()
        owner = found.get("Owner")
        owned = owner is None or child_texts(owner, _OWNER).get("ID", OWNER_ID) == OWNER_ID
        grants = [
            _read_grant(grant)
            for grant in children(found["AccessControlList"], frozenset({"Grant"}))
        ]
    except Refused:
        raise _malformed() from None
    return owned and grants == [(OWNER_ID, "FULL_CONTROL")]


def _read_grant(grant: Element) -> tuple[str, str]:
    found = {child.tag: child for child in children(grant, _GRANT)}
    if len(found) != 2 or len(grant) != 2:
        raise _malformed()
    grantee = child_texts(found["Grantee"], _GRANTEE_PARTS)
    permission = (found["Permission"].text or "").strip()
    if not grantee or permission not in _PERMISSIONS or len(found["Permission"]):
        raise _malformed()
    return grantee.get("ID", ""), permission


def _malformed() -> Refused:
    return Refused(
        "MalformedACLError",
        "The XML you provided was not well-formed or did not validate against our published schema",
    )
