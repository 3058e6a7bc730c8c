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


async def put_policy(call: Call) -> Response:
    """
    Set the policy of a bucket.
    """
    await call.front.store.bucket(call.bucket)
    text = await call.read_document(4 * MAX_POLICY)
    if len(text) > MAX_POLICY:
        raise Refused("PolicyTooLarge", "Policy exceeds the maximum allowed document size.")
    public = is_public(parse_bucket_policy(text, call.bucket))

    def change(settings: Mapping[str, bytes]) -> Mapping[str, bytes]:
        if public and _block(settings).block_public_policy:
            raise access_denied()
        return {**settings, BUCKET_POLICY: text}

    await call.front.store.change_bucket(call.bucket, change)
    return Response(204)


async def get_policy(call: Call) -> Response:
    """
    Give the policy of a bucket as it was set, byte for byte.
    """
    text = await _policy(call)
    return Response(200, (("Content-Type", "application/json"),), text)


async def delete_policy(call: Call) -> Response:
    """
    Remove the policy of a bucket; one that has none stays as it is.
    """
    await _remove(call, BUCKET_POLICY)
    return Response(204)


async def get_policy_status(call: Call) -> Response:
    """
    Tell whether the policy of a bucket makes it public.
    """
    policy = parse_bucket_policy(await _policy(call), call.bucket)
    public = "true" if is_public(policy) else "false"
    content = f"<IsPublic>{public}</IsPublic>"
    return Response(200, (CONTENT_TYPE,), document("PolicyStatus", content))


async def put_public_access_block(call: Call) -> Response:
    """
    Set what the policy of a bucket may not do.
    """
    await call.front.store.bucket(call.bucket)
    texts = child_texts(read_document(await call.read_document(), _ROOT), frozenset(_BLOCKS))
    stated = {_BLOCKS[name]: _read_flag(text) for name, text in texts.items()}
    block = PublicAccessBlock(**stated)

    def change(settings: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return {**settings, PUBLIC_ACCESS_BLOCK: block.to_bytes()}

    await call.front.store.change_bucket(call.bucket, change)
    return Response(200)


async def get_public_access_block(call: Call) -> Response:
    """
    Tell what the policy of a bucket may not do.
    """
    settings = (await call.front.store.bucket(call.bucket)).settings
    if PUBLIC_ACCESS_BLOCK not in settings:
        raise Refused(
            "NoSuchPublicAccessBlockConfiguration",
            "The public access block configuration was not found",
        )
    block = _block(settings)
    content = "".join(
        f"<{element}>{'true' if getattr(block, name) else 'false'}</{element}>"
        for element, name in _BLOCKS.items()
    )
    return Response(200, (CONTENT_TYPE,), document(_ROOT, content))


async def delete_public_access_block(call: Call) -> Response:
    """
    Let the policy of a bucket do everything.
    """
    await _remove(call, PUBLIC_ACCESS_BLOCK)
    return Response(204)


async def _policy(call: Call) -> bytes:
    settings = (await call.front.store.bucket(call.bucket)).settings
    if BUCKET_POLICY not in settings:
        raise Refused("NoSuchBucketPolicy", "The bucket policy does not exist")
    return settings[BUCKET_POLICY]


async def _remove(call: Call, setting: str) -> None:
    def change(settings: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return {name: value for name, value in settings.items() if name != setting}

    await call.front.store.change_bucket(call.bucket, change)


def _block(settings: Mapping[str, bytes]) -> PublicAccessBlock:
    stored = settings.get(PUBLIC_ACCESS_BLOCK)
    return PublicAccessBlock() if stored is None else PublicAccessBlock.from_bytes(stored)


def _read_flag(text: str) -> bool:
    flag = text.strip().lower()
    if flag not in ("true", "false"):
        raise malformed()
    return flag == "true"
