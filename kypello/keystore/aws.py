# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key store in AWS Secrets Manager, as the original KES lays it out: one secret per key, its value
the string.
"""

import json
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from attrs import define
from twisted.web.http_headers import Headers
from zope.interface import implementer

from kypello.auth.dates import write_timestamp
from kypello.auth.request import RequestHead
from kypello.auth.signer import authorization
from kypello.auth.sigv4 import Scope
from kypello.crypto.randomness import Random
from kypello.errors import KeyExists, KeyNotFound, KeyStoreFailed, KeyStoreUnreachable
from kypello.interfaces import IKeyStore, ILanes
from kypello.keystore.awsconfig import AWSSettings
from kypello.keystore.awscredentials import AWSCredentials
from kypello.keystore.names import check, is_name, text_of
from kypello.keystore.paging import pages
from kypello.keystore.web import Answer, WebClient

#: The name that :meth:`AWSKeyStore.status` looks for.
PROBE = "kypello-status"

_SERVICE = "secretsmanager"
_EXPIRED = ("ExpiredToken", "ExpiredTokenException")
_OVERLOADED = (
    "InternalServiceError",
    "InternalFailure",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
)


@define(eq=False)
class AWSRefused(KeyStoreFailed):
    """
    AWS does not do what was asked, and has not done it.

    :ivar code: The name of the error.
    """

    code: str


@implementer(IKeyStore)
@define(eq=False)
class AWSKeyStore:
    """
    Keys in secrets.  AWS encrypts them, under a KMS key of the settings or its own.

    :ivar _random: Names requests.
    :ivar _now: Seconds since the epoch; a signature tells it.
    """

    _settings: AWSSettings
    _web: WebClient
    _credentials: AWSCredentials
    _random: Random
    _now: Callable[[], float]

    @classmethod
    def make(
        cls,
        settings: AWSSettings,
        reactor: Any,
        lanes: ILanes,
        random: Random,
        now: Callable[[], float] = time.time,
    ) -> "AWSKeyStore":
        """
        One that connects to nobody before it is asked.
        """
        web = WebClient.make(reactor, settings.tls, lanes)
        credentials = AWSCredentials(settings.sources, web, lanes.lane(), now)
        return cls(settings, web, credentials, random, now)

    async def prepare(self) -> None:
        """
        Find credentials, and see whether secrets can be read with them.
        """
        await self.status()

    async def create(self, name: str, value: bytes) -> None:
        """
        Store a value; see :meth:`IKeyStore.create`.

        :raises InvalidKeyName:
        :raises KeyExists:
        """
        check(name)
        arguments = {
            "Name": self._settings.prefix + name,
            "SecretString": text_of(value),
            # Makes what happens on the way harmless: AWS does not do the same request twice.
            "ClientRequestToken": self._random(16).hex(),
        }
        if self._settings.kms_key:
            arguments["KmsKeyId"] = self._settings.kms_key
        try:
            await self._call("CreateSecret", arguments)
        except AWSRefused as error:
            if error.code == "ResourceExistsException":
                raise KeyExists(name) from None
            raise _explained(name, error) from None

    async def get(self, name: str) -> bytes:
        """
        Read a value; see :meth:`IKeyStore.get`.

        :raises InvalidKeyName:
        :raises KeyNotFound: A secret that is scheduled for deletion is not missing, but a failure.
        """
        check(name)
        try:
            found = await self._call("GetSecretValue", {"SecretId": self._settings.prefix + name})
        except AWSRefused as error:
            raise _explained(name, error) from None
        text, binary = found.get("SecretString"), found.get("SecretBinary")
        if isinstance(text, str):
            return text.encode()
        if isinstance(binary, str):
            with suppress(ValueError):
                return b64decode(binary, validate=True)
        raise KeyStoreFailed(f"the secret of {name} has no value")

    async def delete(self, name: str) -> None:
        """
        Remove a value at once, without the days in which AWS could bring it back; see
        :meth:`IKeyStore.delete`.

        :raises InvalidKeyName:
        :raises KeyNotFound:
        """
        # AWS says nothing of a missing secret when it is deleted for good.
        await self.get(name)
        try:
            await self._call(
                "DeleteSecret",
                {
                    "SecretId": self._settings.prefix + name,
                    "ForceDeleteWithoutRecovery": True,
                },
            )
        except AWSRefused as error:
            raise _explained(name, error) from None

    async def names(self) -> Sequence[str]:
        """
        The names of all secrets that can be keys, sorted, without those that are scheduled for
        deletion.
        """
        prefix = self._settings.prefix
        names: set[str] = set()
        async for page in pages("AWS", "NextToken", self._page):
            secrets = page.get("SecretList")
            for secret in secrets if isinstance(secrets, list) else ():
                name = secret.get("Name") if isinstance(secret, dict) else None
                if not isinstance(name, str):
                    raise KeyStoreFailed("AWS lists a secret without a name")
                # The filter of AWS does not tell upper case from lower case.
                if name.startswith(prefix) and is_name(name.removeprefix(prefix)):
                    names.add(name.removeprefix(prefix))
        return sorted(names)

    async def _page(self, token: str | None) -> dict[str, Any]:
        arguments: dict[str, Any] = {"MaxResults": 100}
        if self._settings.prefix:
            arguments["Filters"] = [{"Key": "name", "Values": [self._settings.prefix]}]
        if token:
            arguments["NextToken"] = token
        return await self._call("ListSecrets", arguments)

    async def status(self) -> float:
        """
        Read a secret that need not be there: this shows that the credentials are good, too.
        """
        await self._credentials.keys()
        began = self._now()
        with suppress(KeyNotFound):
            await self.get(PROBE)
        return max(0.0, self._now() - began)

    async def close(self) -> None:
        """
        Give up what is under way with credentials.
        """
        self._credentials.close()

    async def _call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(arguments).encode()
        try:
            return await self._once(operation, body)
        except AWSRefused as error:
            # The credentials are others now, and nothing has been done.
            if error.code not in _EXPIRED:
                raise
        return await self._once(operation, body)

    async def _once(self, operation: str, body: bytes) -> dict[str, Any]:
        settings = self._settings
        keys = await self._credentials.keys()
        timestamp = write_timestamp(self._now())
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "host": urlsplit(settings.endpoint).netloc,
            "x-amz-date": timestamp,
            "x-amz-target": f"{_SERVICE}.{operation}",
        }
        if keys.token:
            headers["x-amz-security-token"] = keys.token
        head = RequestHead("POST", "/", (), tuple(headers.items()))
        scope = Scope(timestamp[:8], settings.region, _SERVICE)
        headers["authorization"] = authorization(
            head, keys, scope, timestamp, sha256(body).hexdigest()
        )
        answer = await self._web.call(
            "POST",
            f"{settings.endpoint}/",
            Headers({name: [value] for name, value in headers.items()}),
            body,
        )
        try:
            return _understood(settings.endpoint, answer)
        except AWSRefused as error:
            if error.code in _EXPIRED:
                self._credentials.refused(keys)
            raise


def _understood(endpoint: str, answer: Answer) -> dict[str, Any]:
    found = answer.document()
    if answer.status == 200:
        if not found:
            raise KeyStoreFailed(f"{endpoint} does not answer as AWS does")
        return found
    code = str(found.get("__type") or answer.status).rpartition("#")[2]
    # The first line only: behind it AWS shows the request, with the token of the session.
    said = str(found.get("Message") or found.get("message") or "").partition("\n")[0][:300]
    reason = f"{endpoint}: {code} {said}".rstrip()
    if answer.unwell or code in _OVERLOADED:
        raise KeyStoreUnreachable(reason)
    raise AWSRefused(reason, code)


def _explained(name: str, error: AWSRefused) -> Exception:
    if error.code == "ResourceNotFoundException":
        return KeyNotFound(name)
    if error.code == "InvalidRequestException" and "delet" in error.reason:
        return KeyStoreFailed(
            f"the secret of {name} is scheduled for deletion: bring it back with"
            f" 'aws secretsmanager restore-secret' before its time is over ({error.reason})"
        )
    return error
