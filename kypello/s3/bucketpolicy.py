# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The policy of a bucket, and what it may not make public.
"""

from collections.abc import Mapping

from kypello.errors import Refused
from kypello.http.response import Response
from kypello.interfaces import BUCKET_POLICY, PUBLIC_ACCESS_BLOCK
from kypello.policy.document import parse_bucket_policy
from kypello.policy.publicaccess import PublicAccessBlock, is_public
from kypello.s3.bucketsettings import BucketSetting
from kypello.s3.call import Call
from kypello.s3.errors import access_denied
from kypello.s3.xml import CONTENT_TYPE, child_texts, document, malformed, read_document

#: The largest policy, in bytes.
MAX_POLICY = 20 * 1024

_ROOT = "PublicAccessBlockConfiguration"

#: The elements of a public access block, and what they are called here.
_BLOCKS = {
    "BlockPublicAcls": "block_public_acls",
    "IgnorePublicAcls": "ignore_public_acls",
    "BlockPublicPolicy": "block_public_policy",
    "RestrictPublicBuckets": "restrict_public_buckets",
}


def _read_policy(call: Call, text: bytes) -> bytes:
    """
    A policy as it is, byte for byte.
    """
    if len(text) > MAX_POLICY:
        raise Refused("PolicyTooLarge", "Policy exceeds the maximum allowed document size.")
    parse_bucket_policy(text, call.bucket)
    return text


def _check_policy(call: Call, text: bytes, settings: Mapping[str, bytes]) -> None:
    """
    See that a policy makes nothing public where none may.
    """
    if not block_of(settings).block_public_policy:
        return
    if is_public(parse_bucket_policy(text, call.bucket)):
        raise access_denied()


def _read_block(call: Call, body: bytes) -> bytes:
    """
    What the policy of a bucket may not do, in canonical form.
    """
    texts = child_texts(read_document(body, _ROOT), frozenset(_BLOCKS))
    stated = {_BLOCKS[name]: _read_flag(text) for name, text in texts.items()}
    return PublicAccessBlock(**stated).to_bytes()


def _show_block(value: bytes) -> bytes:
    """
    The document of what a policy may not do, with all that it may as well.
    """
    block = PublicAccessBlock.from_bytes(value)
    content = "".join(
        f"<{element}>{'true' if getattr(block, name) else 'false'}</{element}>"
        for element, name in _BLOCKS.items()
    )
    return document(_ROOT, content)


#: The policy of a bucket.
POLICY = BucketSetting(
    BUCKET_POLICY,
    ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    _read_policy,
    check=_check_policy,
    status=204,
    media_type=("Content-Type", "application/json"),
    # What is a little too long is told so in its own words.
    limit=4 * MAX_POLICY,
)

#: What the policy of a bucket may not do.
BLOCK = BucketSetting(
    PUBLIC_ACCESS_BLOCK,
    (
        "NoSuchPublicAccessBlockConfiguration",
        "The public access block configuration was not found",
    ),
    _read_block,
    show=_show_block,
)


async def get_policy_status(call: Call) -> Response:
    """
    Tell whether the policy of a bucket makes it public.
    """
    policy = parse_bucket_policy(await POLICY.value(call), call.bucket)
    public = "true" if is_public(policy) else "false"
    content = f"<IsPublic>{public}</IsPublic>"
    return Response(200, (CONTENT_TYPE,), document("PolicyStatus", content))


def block_of(settings: Mapping[str, bytes]) -> PublicAccessBlock:
    """
    The public access block of a bucket with these settings; one that blocks nothing when there is
    none.

    :raises Damaged:
    """
    stored = settings.get(PUBLIC_ACCESS_BLOCK)
    return PublicAccessBlock() if stored is None else PublicAccessBlock.from_bytes(stored)


def _read_flag(text: str) -> bool:
    flag = text.strip().lower()
    if flag not in ("true", "false"):
        raise malformed()
    return flag == "true"
