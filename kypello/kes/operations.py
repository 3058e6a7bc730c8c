# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the KES API does: one coroutine per call.
"""

import hmac
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from resource import RUSAGE_SELF, getrusage
from typing import Any

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from kypello.crypto.masterkey import Algorithm
from kypello.crypto.randomness import Random
from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.http.response import Response
from kypello.kes.keyring import Keyring
from kypello.kes.policy import Access
from kypello.kes.wire import (
    UNKNOWN_TIME,
    Fields,
    Rejected,
    continuation,
    json_response,
    parse_selection,
    text_of,
)

#: How many names one answer lists: clients read 1 MiB, and a name has up to 80 bytes.
PAGE = 10_000

_DATA_KEY_SIZE = 32
_ALGORITHMS: dict[str, Algorithm] = {
    "AES256": "AES256",
    "AES256-GCM_SHA256": "AES256",
    "ChaCha20": "ChaCha20",
    "XCHACHA20-POLY1305": "ChaCha20",
}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@frozen
class Call:
    """
    One call, checked so far as its route tells.

    :ivar name: What follows the route's path: a key name, or a pattern.
    :ivar identity: Who calls.
    :ivar fields: Of the body; none where the route takes no body.
    """

    name: str
    identity: str
    fields: Fields = field(repr=False)


@define(eq=False)
class Operations:
    """
    The calls.

    All raise :class:`Rejected`, what the keyring raises, and :class:`Malformed` for a field of
    the body that has another type.

    :ivar _now: Seconds since the epoch.
    :ivar _born: When this was made, in seconds of the clock; uptime counts from here.
    """

    _keys: Keyring
    _access: Access
    _version: str
    _random: Random
    _clock: IReactorTime
    _now: Callable[[], float]
    _born: float = field(init=False)
    _started: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Look at the clock.
        """
        self._born = self._clock.seconds()
        started = datetime.fromtimestamp(int(self._now()), UTC)
        self._started = started.strftime("%Y-%m-%dT%H:%M:%SZ")

    # The server

    async def version(self, _call: Call) -> Response:
        """
        Which program this is.
        """
        return json_response({"version": self._version, "commit": ""})

    async def ready(self, _call: Call) -> Response:
        """
        Whether keys can be had.
        """
        try:
            await self._keys.status()
        except KeyStoreUnreachable as error:
            raise Rejected(504, "key store is not reachable") from error
        except KeyStoreFailed as error:
            raise Rejected(502, "key store is unavailable") from error
        return Response(200)

    async def status(self, _call: Call) -> Response:
        """
        How the server is; always answers, however the key store is.
        """
        told: dict[str, Any] = {
            "version": self._version,
            "os": sys.platform,
            "arch": _MACHINES.get(platform.machine(), platform.machine()),
            "uptime": int(self._clock.seconds() - self._born),
            "num_cpu": os.cpu_count() or 1,
            "num_cpu_used": 1,
            "mem_heap_used": getrusage(RUSAGE_SELF).ru_maxrss * 1024,
            "mem_stack_used": 0,
        }
        try:
            latency = await self._keys.status()
        except KeyStoreUnreachable:
            # Clients refuse one without the other.
            told["keystore_unreachable"] = told["keystore_unavailable"] = True
        except KeyStoreFailed:
            told["keystore_unavailable"] = True
        else:
            told["keystore_latency"] = max(1, round(latency * 1000))
        return json_response(told)

    async def describe_self(self, call: Call) -> Response:
        """
        Who the caller is and what it may do.
        """
        told: dict[str, Any] = {"identity": call.identity, "created_at": self._started}
        policy = self._access.policies.get(call.identity)
        if call.identity == self._access.admin:
            told["admin"] = True
        elif policy is not None:
            told["policy"] = policy.name
            told["created_by"] = self._access.admin
            told["allow"] = {rule: {} for rule in policy.allow}
            told["deny"] = {rule: {} for rule in policy.deny}
        else:
            raise Rejected(404, "identity does not exist")
        return json_response(told)

    # Keys

    async def create_key(self, call: Call) -> Response:
        """
        Make a key.
        """
        await self._keys.create(call.name, call.identity)
        return Response(200)

    async def import_key(self, call: Call) -> Response:
        """
        Take a key that was made elsewhere.

        Clients of 2022 call it ``bytes`` and name no cipher: those had AES keys only.
        """
        cipher = call.fields.text("cipher")
        key = call.fields.binary("key")
        if not key and not cipher:
            key, cipher = call.fields.binary("bytes"), "AES256"
        algorithm = _ALGORITHMS.get(cipher)
        if algorithm is None:
            raise Rejected(406, f"algorithm '{cipher}' is not supported")
        if len(key) != 32:
            raise Rejected(406, f"invalid key size for '{cipher}'")
        await self._keys.adopt(call.name, key, algorithm, call.identity)
        return Response(200)

    async def describe_key(self, call: Call) -> Response:
        """
        Tell about a key.
        """
        key = await self._keys.get(call.name)
        told = {
            "name": call.name,
            "algorithm": key.algorithm,
            "created_at": key.created_at or UNKNOWN_TIME,
            "created_by": key.created_by,
        }
        return json_response(told)

    async def list_keys(self, call: Call) -> Response:
        """
        The names that begin so; up to :data:`PAGE` of them, and how to go on.
        """
        wanted = parse_selection(call.name)
        if wanted is None:
            raise Rejected(400, f"listing pattern '{call.name}' is empty, too long or is invalid")
        found = [
            name
            for name in await self._keys.names()
            if name.startswith(wanted.prefix) and name > wanted.after
        ]
        told: dict[str, Any] = {"names": found[:PAGE]}
        if len(found) > PAGE:
            told["continue_at"] = continuation(wanted.prefix, found[PAGE - 1])
        return json_response(told)

    async def delete_key(self, call: Call) -> Response:
        """
        Remove a key.
        """
        await self._keys.delete(call.name)
        return Response(200)

    async def generate_key(self, call: Call) -> Response:
        """
        Make a data key.
        """
        context = call.fields.binary("context")
        key = await self._keys.get(call.name)
        plaintext = self._random(_DATA_KEY_SIZE)
        told = {
            "plaintext": text_of(plaintext),
            "ciphertext": text_of(key.seal(plaintext, context, self._random)),
        }
        return json_response(told)

    async def encrypt(self, call: Call) -> Response:
        """
        Seal a message.
        """
        plaintext, context = call.fields.binary("plaintext"), call.fields.binary("context")
        key = await self._keys.get(call.name)
        return json_response({"ciphertext": text_of(key.seal(plaintext, context, self._random))})

    async def decrypt(self, call: Call) -> Response:
        """
        Open a message.
        """
        ciphertext, context = call.fields.binary("ciphertext"), call.fields.binary("context")
        key = await self._keys.get(call.name)
        return json_response({"plaintext": text_of(key.open(ciphertext, context))})

    async def authenticate(self, call: Call) -> Response:
        """
        The HMAC-SHA-256 of a message.
        """
        message = call.fields.binary("message")
        key = await self._keys.get(call.name)
        if key.hmac_key is None:
            raise Rejected(409, "key does not support HMAC")
        return json_response({"hmac": text_of(hmac.digest(key.hmac_key, message, "sha256"))})
