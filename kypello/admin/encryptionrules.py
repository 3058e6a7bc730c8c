# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How the objects of a bucket have to be encrypted.

It is this server's own; S3 has no request for it.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from kypello.admin.call import Call
from kypello.admin.errors import invalid_argument
from kypello.admin.wire import Document, json_response
from kypello.crypto.required import (
    KINDS,
    MAX_KEYS,
    SETTING,
    WITH_KEYS,
    RequiredEncryption,
    required_of,
)
from kypello.crypto.sse import BLOCKED, ServerSideEncryption, encryption_for, master_key_name
from kypello.crypto.sse import SETTING as DEFAULT
from kypello.errors import KMSNotConfigured, Refused
from kypello.http.response import Response
from kypello.model import SSE_C


class _Wanted(Document, forbid_unknown_fields=True):
    """
    What is to be required.

    :ivar kinds: Those that are accepted: ``sse-s3``, ``sse-kms``, ``dsse-kms``, ``sse-c``.
    :ivar keys: The master keys that are accepted with those of them that name one, in any form of
        their names; none for any.
    """

    kinds: tuple[str, ...]
    keys: tuple[str, ...] = ()


async def rules(call: Call) -> Response:
    """
    Tell which encryption a bucket has by default, requires and blocks, and what becomes of an
    object whose client asks for none.
    """
    settings = (await call.front.store.bucket(call.named("bucket"))).settings
    return json_response(_told(call, settings))


async def require(call: Call) -> Response:
    """
    Set which encryption a bucket requires of all that is written from now on.  What is there
    already stays.
    """
    bucket, asked = call.named("bucket"), call.read(_Wanted)
    # That it is not there is told before its keys are looked for.
    await call.front.store.bucket(bucket)
    required = await _read(call, asked)
    change = partial(_changed, value=required.to_bytes())
    info = await call.front.store.change_bucket(bucket, change)
    return json_response(_told(call, info.settings))


async def require_nothing(call: Call) -> Response:
    """
    Have a bucket require no encryption any more.
    """
    change = partial(_changed, value=None)
    info = await call.front.store.change_bucket(call.named("bucket"), change)
    return json_response(_told(call, info.settings))


async def _read(call: Call, asked: _Wanted) -> RequiredEncryption:
    """
    What is to be required, if it makes sense.

    :raises Rejected: It does not.
    :raises KypelloError: There is no such master key, or nobody can tell.
    """
    kinds = tuple(kind for kind in KINDS.values() if kind in asked.kinds)
    if not kinds or not set(kinds).issuperset(asked.kinds):
        raise invalid_argument(f"The kinds of encryption are {', '.join(KINDS.values())}.")
    keys = tuple(dict.fromkeys(map(master_key_name, asked.keys)))
    if keys and WITH_KEYS.isdisjoint(kinds):
        raise invalid_argument("Clients name master keys with sse-kms and dsse-kms only.")
    if len(keys) > MAX_KEYS:
        raise invalid_argument(f"A bucket can name {MAX_KEYS} master keys.")
    for key in keys:
        # One that is not there would lock the bucket.
        if call.front.kms is None:
            raise KMSNotConfigured()
        await call.front.kms.describe_key(key)
    return RequiredEncryption(kinds, keys)


def _changed(settings: Mapping[str, bytes], *, value: bytes | None) -> Mapping[str, bytes]:
    others = {name: kept for name, kept in settings.items() if name != SETTING}
    return others if value is None else {**others, SETTING: value}


def _told(call: Call, settings: Mapping[str, bytes]) -> Mapping[str, Any]:
    required = required_of(settings)
    return {
        "default": _default(settings),
        "required": required and {"kinds": required.kinds, "keys": required.keys},
        "blocked": [KINDS[SSE_C]] if BLOCKED in settings else [],
        "unasked": _unasked(call, settings),
    }


def _default(settings: Mapping[str, bytes]) -> Mapping[str, Any] | None:
    stored = settings.get(DEFAULT)
    if stored is None:
        return None
    default = ServerSideEncryption.from_bytes(stored)
    return {"kind": _kind(default.algorithm), "key": default.key_id}


def _unasked(call: Call, settings: Mapping[str, bytes]) -> str:
    """
    What an object gets whose client asks for no encryption: a kind, ``none``, or ``refused``.
    """
    front = call.front
    default_key = "" if front.kms is None else front.kms.default_key
    try:
        chosen = encryption_for(None, settings, front.auto_encryption, default_key)
    except Refused:
        return "refused"
    return "none" if chosen is None else _kind(chosen.algorithm)


def _kind(algorithm: str) -> str:
    """
    The kind of an encryption; one that cannot be required keeps the name that clients know.
    """
    return KINDS.get(algorithm, algorithm)
