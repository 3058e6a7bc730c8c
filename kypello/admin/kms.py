# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Master keys, by the administration API and by that of the key service.
"""

from typing import Any

from kypello.admin.call import Call
from kypello.admin.errors import access_denied, invalid_argument, text_of
from kypello.admin.wire import DONE, NEVER, json_response
from kypello.crypto.keys import context_bytes
from kypello.errors import KMSNotConfigured, KypelloError
from kypello.http.response import Response
from kypello.interfaces import IKMS
from kypello.model import KMSStatus

_LEGACY = "/minio/admin/"
_CONTEXT = context_bytes({"MinIO admin API": "KMSKeyStatusHandler"})


async def status(call: Call) -> Response:
    """
    The key service and its endpoints.
    """
    await _require(call, "kms:Status", "admin:KMSKeyStatus")
    return json_response(tell_status(await _kms(call).status()))


async def create_key(call: Call) -> Response:
    """
    Make a master key.
    """
    name = call.named("key-id")
    await _require(call, "kms:CreateKey", "admin:KMSCreateKey", name)
    await _kms(call).create_key(name)
    return DONE


async def list_keys(call: Call) -> Response:
    """
    The master keys whose names begin like the pattern, as far as whoever asks may list them.
    """
    pattern = call.parameter("pattern")
    if "pattern" not in call.head.parameter_names:
        raise invalid_argument("The parameter 'pattern' is missing.")
    names = await _kms(call).list_keys(pattern.rstrip("*"))
    told = [name for name in names if await call.may("kms:ListKeys", name)]
    if not told and not await call.may("kms:ListKeys"):
        raise access_denied()
    return json_response([{"createdAt": NEVER, "createdBy": "", "name": name} for name in told])


async def key_status(call: Call) -> Response:
    """
    Whether a master key encrypts, and decrypts to the same.
    """
    kms = _kms(call)
    name = call.parameter("key-id") or kms.default_key
    await _require(call, "kms:KeyStatus", "admin:KMSKeyStatus", name)
    told = {"key-id": name}
    try:
        key = await kms.generate_key(name, _CONTEXT)
    except KypelloError as error:
        told["encryption-error"] = text_of(error)
        return json_response(told)
    try:
        opened = await kms.decrypt_key(key.key_name, key.sealed, _CONTEXT)
    except KypelloError as error:
        told["decryption-error"] = text_of(error)
        return json_response(told)
    if opened != key.plaintext:
        told["decryption-error"] = "The generated and the decrypted data key do not match"
        return json_response(told)
    # Others answer in its place; whoever looks at the key wants to know all the same.
    left_out = [
        f"{endpoint.url}: {endpoint.refused[name]}"
        for endpoint in (await kms.status()).endpoints
        if name in endpoint.refused
    ]
    if left_out:
        told["decryption-error"] = "; ".join(left_out)
    return json_response(told)


async def metrics(call: Call) -> Response:
    """
    How many calls of the key service there were, how they ended, and how long they took.
    """
    await call.require("kms:Metrics")
    _kms(call)
    return json_response(call.front.key_calls())


async def version(call: Call) -> Response:
    """
    The version of the key service: of the first endpoint that tells its own.
    """
    await call.require("kms:Version")
    told = [endpoint.version for endpoint in (await _kms(call).status()).endpoints]
    # A key of the environment has no service but this server.
    return json_response({"version": next(filter(None, told), call.front.version)})


def tell_status(status: KMSStatus) -> dict[str, Any]:
    """
    The state of the key service, as the API tells it.
    """
    endpoints = {
        endpoint.url: "online" if endpoint.online else "offline" for endpoint in status.endpoints
    }
    return {"name": status.name, "default-key-id": status.default_key, "endpoints": endpoints}


def _kms(call: Call) -> IKMS:
    """
    The key service.

    :raises KMSNotConfigured:
    """
    if call.front.kms is None:
        raise KMSNotConfigured()
    return call.front.kms


async def _require(call: Call, action: str, older: str, key_name: str = "") -> None:
    """
    See that whoever asks may do it, by the action of the API that they use.

    :raises Rejected: ``AccessDenied``.
    """
    if call.head.path.startswith(_LEGACY):
        await call.require(older)
    else:
        await call.require(action, resource=key_name)
