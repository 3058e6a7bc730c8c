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
from typing import Any

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from kypello.crypto.masterkey import Algorithm
from kypello.crypto.randomness import Random
from kypello.errors import KeyNotFound, KeyStoreFailed, KeyStoreUnreachable
from kypello.http.response import Response
from kypello.kes.call import Call, page, selected
from kypello.kes.keyring import Keyring
from kypello.kes.metrics import Counts, Renderer, memory
from kypello.kes.policy import Access, Policy
from kypello.kes.proxy import REFUSED
from kypello.kes.streams import LogStream, Streams
from kypello.kes.wire import LINES, UNKNOWN_TIME, Rejected, is_identity, json_response, text_of

#: How many keys one answer tells more of than the name, for which each of them is read.
DETAILED_PAGE = 250

#: The header that repeats the name of a key to be deleted.
CONFIRMATION = "X-Kypello-Confirm"

_DATA_KEY_SIZE = 32
_ALGORITHMS: dict[str, Algorithm] = {
    "AES256": "AES256",
    "AES256-GCM_SHA256": "AES256",
    "ChaCha20": "ChaCha20",
    "XCHACHA20-POLY1305": "ChaCha20",
}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@frozen
class About:
    """
    What a server tells of itself.

    :ivar born: When it began, in seconds of the clock.
    :ivar routes: Answers which calls there are.
    :ivar render: Writes the metrics.
    :ivar confirmed: Keys are deleted only when their name is repeated.
    """

    version: str
    born: float
    routes: Callable[[], Response]
    counts: Counts
    streams: Streams
    render: Renderer
    confirmed: bool = False


@define(eq=False)
class Operations:
    """
    The calls.

    All raise :class:`Rejected`, what the keyring raises, and :class:`Malformed` for a field of
    the body that has another type.

    :ivar _now: Seconds since the epoch.
    :ivar _started: Since when the policies are in force.
    """

    _keys: Keyring
    _access: Access
    _about: About
    _random: Random
    _clock: IReactorTime
    _now: Callable[[], float]
    _started: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Look at the clock.
        """
        started = datetime.fromtimestamp(int(self._now()), UTC)
        self._started = started.strftime("%Y-%m-%dT%H:%M:%SZ")

    # The server

    async def version(self, _call: Call) -> Response:
        """
        Which program this is.
        """
        return json_response({"version": self._about.version, "commit": ""})

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
            "version": self._about.version,
            "os": sys.platform,
            "arch": _MACHINES.get(platform.machine(), platform.machine()),
            "uptime": int(self._uptime()),
            "num_cpu": os.cpu_count() or 1,
            "num_cpu_used": 1,
            "mem_heap_used": memory(),
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

    async def metrics(self, _call: Call) -> Response:
        """
        The numbers of the server.
        """
        kind, text = self._about.render(self._about.counts.numbers(self._uptime()))
        return Response(200, (("Content-Type", kind),), text)

    async def api(self, _call: Call) -> Response:
        """
        Which calls there are.
        """
        return self._about.routes()

    async def follow_errors(self, _call: Call) -> Response:
        """
        The error log as it is written.
        """
        return _followed(self._about.streams.follow_errors())

    async def follow_audits(self, _call: Call) -> Response:
        """
        The audit log as it is written.
        """
        return _followed(self._about.streams.follow_audits())

    # Identities and policies

    async def describe_self(self, call: Call) -> Response:
        """
        Who the caller is and what it may do.
        """
        if not call.identity:
            raise Rejected(400, "tls: client certificate is required")
        told = {"identity": call.identity, **self._identity(call.identity)}
        policy = self._access.policies.get(call.identity)
        if policy is not None and call.identity != self._access.admin:
            told["allow"] = {rule: {} for rule in policy.allow}
            told["deny"] = {rule: {} for rule in policy.deny}
        return json_response(told)

    async def describe_identity(self, call: Call) -> Response:
        """
        What an identity is.
        """
        return json_response(self._identity(call.name))

    async def list_identities(self, call: Call) -> Response:
        """
        The identities that begin so, the administrator's among them.
        """
        known = sorted({*self._access.policies, *filter(is_identity, [self._access.admin])})
        return page(call, known, "identities", "identity", always=True)

    async def describe_policy(self, call: Call) -> Response:
        """
        Since when a policy is in force.
        """
        self._policy(call.name)
        return json_response({"name": call.name, **self._made()})

    async def read_policy(self, call: Call) -> Response:
        """
        The rules of a policy.
        """
        policy = self._policy(call.name)
        told: dict[str, Any] = {"name": call.name}
        for name, rules in (("allow", policy.allow), ("deny", policy.deny)):
            if rules:
                told[name] = {rule: {} for rule in rules}
        return json_response({**told, **self._made()})

    async def list_policies(self, call: Call) -> Response:
        """
        The names of the policies that begin so.
        """
        return page(call, sorted(self._access.named), "names", "name", always=True)

    def _identity(self, identity: str) -> dict[str, Any]:
        if identity == self._access.admin:
            return {"admin": True, "created_at": self._started}
        policy = self._access.policies.get(identity)
        if policy is None:
            raise Rejected(404, "identity does not exist")
        return {"policy": policy.name, **self._made()}

    def _policy(self, name: str) -> Policy:
        policy = self._access.named.get(name)
        if policy is None:
            raise Rejected(404, "policy does not exist")
        return policy

    def _made(self) -> dict[str, str]:
        return {"created_at": self._started, "created_by": self._access.admin}

    def _uptime(self) -> float:
        return self._clock.seconds() - self._about.born

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
        return json_response(await self._details(call.name))

    async def list_keys(self, call: Call) -> Response:
        """
        The names that begin so; up to :data:`PAGE` of them, and how to go on.
        """
        names = await self._keys.names()
        if not call.details:
            return page(call, names, "names", "name")
        found, more = selected(call.name, names, DETAILED_PAGE)
        # One after the other: a listing must not take the key store from those who need a key.
        listed = [await self._listed(call, one) for one in found]
        told: dict[str, Any] = {"names": found, "keys": listed}
        return json_response(told | ({"continue_at": more} if more else {}))

    async def delete_key(self, call: Call) -> Response:
        """
        Remove a key.
        """
        if self._about.confirmed and call.confirmed != call.name:
            raise Rejected(
                400,
                "deletion is not confirmed: what the key has sealed is lost with it;"
                f" send the header {CONFIRMATION}: {call.name}",
            )
        await self._keys.delete(call.name)
        return Response(200)

    async def _details(self, name: str) -> dict[str, str]:
        key = await self._keys.get(name)
        return {
            "name": name,
            "algorithm": key.algorithm,
            "created_at": key.created_at or UNKNOWN_TIME,
            "created_by": key.created_by,
            "fingerprint": key.key_id,
        }

    async def _listed(self, call: Call, name: str) -> dict[str, str]:
        if not self._access.decide(call.identity, f"/v1/key/describe/{name}").allowed:
            return {"name": name, "error": REFUSED}
        try:
            return await self._details(name)
        except (KeyNotFound, KeyStoreFailed):
            # Deleted since, or no key at all: the others are told all the same.
            return {"name": name, "error": "failed to read key"}

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

    async def decrypt_all(self, call: Call) -> Response:
        """
        Open several messages under one key, all or none; as before October 2023.
        """
        pairs = [(item.binary("ciphertext"), item.binary("context")) for item in call.items]
        key = await self._keys.get(call.name)
        return json_response([{"plaintext": text_of(key.open(*pair))} for pair in pairs])

    async def authenticate(self, call: Call) -> Response:
        """
        The HMAC-SHA-256 of a message.
        """
        message = call.fields.binary("message")
        key = await self._keys.get(call.name)
        if key.hmac_key is None:
            raise Rejected(409, "key does not support HMAC")
        return json_response({"hmac": text_of(hmac.digest(key.hmac_key, message, "sha256"))})


def _followed(stream: LogStream) -> Response:
    return Response(200, (("Content-Type", LINES),), stream)
