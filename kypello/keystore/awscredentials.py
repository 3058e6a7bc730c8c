# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Credentials for AWS: where they come from, and how they are kept fresh.
"""

import configparser
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from attrs import define, field
from twisted.web.http_headers import Headers

from kypello.auth.signer import Keys
from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.interfaces import ILane
from kypello.keystore.awsconfig import (
    Container,
    Instance,
    SharedFile,
    Source,
    WebIdentity,
)
from kypello.keystore.renewed import Lease, Renewed
from kypello.keystore.web import Answer, WebClient

#: How long services of the machine itself may take, in seconds: on other machines nobody answers.
_NEAR = 2.0

#: How often a file of profiles is read again, in seconds.
_REREAD = 300.0

#: How long a session of the instance's metadata service shall last, in seconds.
_SESSION = "300"

_METADATA = "/latest/meta-data/iam/security-credentials/"


@define(eq=False)
class AWSCredentials:
    """
    Gets credentials from the first source that has any, and again before they expire.

    :ivar _lane: Where files are read.
    :ivar _now: Seconds since the epoch.
    """

    _sources: tuple[Source, ...]
    _web: WebClient
    _lane: ILane
    _now: Callable[[], float]
    _kept: Renewed[Keys] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Have none yet.
        """
        self._kept = Renewed(self._find, self._now)

    async def keys(self) -> Keys:
        """
        Credentials that are good now.

        :raises KeyStoreFailed: There are none.
        :raises KeyStoreUnreachable: Who has them does not answer.
        """
        return await self._kept.value()

    def refused(self, keys: Keys) -> None:
        """
        AWS says that these have expired: get others for the next call.
        """
        self._kept.forget(keys)

    def close(self) -> None:
        """
        Give up what is under way.
        """
        self._kept.close()

    async def _find(self) -> Lease[Keys]:
        for source in self._sources:
            found = await self._from(source)
            if found is not None:
                return found
        raise KeyStoreFailed("there are no credentials for AWS: neither given nor in a file")

    async def _from(self, source: Source) -> Lease[Keys] | None:
        match source:
            case Keys():
                return Lease(source)
            case SharedFile():
                found: Lease[Keys] | None = await self._lane.run(_read_profile, source)
                return found
            case WebIdentity():
                return await self._assume(source)
            case Container():
                return await self._of_container(source)
            case Instance():
                return await self._of_instance(source)

    async def _assume(self, source: WebIdentity) -> Lease[Keys]:
        token = await self._lane.run(_read_token, source.file)
        # In the body, for what is in a URL is in the logs of proxies.
        body = urlencode(
            {
                "Action": "AssumeRoleWithWebIdentity",
                "Version": "2011-06-15",
                "RoleArn": source.role,
                "RoleSessionName": source.session,
                "WebIdentityToken": token,
            }
        ).encode()
        headers = Headers({"Content-Type": ["application/x-www-form-urlencoded"]})
        answer = await self._web.call("POST", f"{source.endpoint}/", headers, body)
        text = answer.body.decode("utf-8", "replace")
        if answer.status != 200:
            reason = (
                f"{source.endpoint} does not give the role {source.role}:"
                f" {_tag(text, 'Code') or answer.status} {_tag(text, 'Message')[:200]}"
            )
            raise KeyStoreUnreachable(reason) if answer.unwell else KeyStoreFailed(reason)
        found = {name: _tag(text, name) for name in (*_NAMES, "Expiration")}
        return self._lease(source.endpoint, {**found, "Token": found["SessionToken"]})

    async def _of_container(self, source: Container) -> Lease[Keys]:
        token = source.token
        if source.file is not None:
            token = await self._lane.run(_read_token, source.file)
        headers = Headers({"Accept": ["application/json"]})
        if token:
            headers.addRawHeader("Authorization", token)
        answer = await self._web.call("GET", source.url, headers, deadline=_NEAR)
        return self._lease(source.url, _granted(source.url, answer).document())

    async def _of_instance(self, source: Instance) -> Lease[Keys]:
        url = f"{source.endpoint}/latest/api/token"
        headers = Headers({"X-aws-ec2-metadata-token-ttl-seconds": [_SESSION]})
        try:
            answer = await self._web.call("PUT", url, headers, deadline=_NEAR)
        except KeyStoreUnreachable as error:
            raise KeyStoreUnreachable(f"no credentials are given, and {error.reason}") from error
        _granted(url, answer)
        headers = Headers({b"X-aws-ec2-metadata-token": [answer.body.strip()]})
        url = f"{source.endpoint}{_METADATA}"
        answer = await self._web.call("GET", url, headers, deadline=_NEAR)
        if answer.status == 404:
            raise KeyStoreFailed("this machine has no role of AWS, and no credentials are given")
        role = _granted(url, answer).body.decode("ascii", "replace").split()
        if not role:
            raise KeyStoreFailed(f"{url} names no role")
        url += role[0]
        answer = await self._web.call("GET", url, headers, deadline=_NEAR)
        return self._lease(url, _granted(url, answer).document())

    def _lease(self, place: str, found: Mapping[str, Any]) -> Lease[Keys]:
        access, secret, token = (found.get(name) for name in (*_NAMES[:2], "Token"))
        if not (isinstance(access, str) and isinstance(secret, str) and access and secret):
            raise KeyStoreFailed(f"{place} gives no credentials")
        try:
            seconds = datetime.fromisoformat(str(found.get("Expiration"))).timestamp() - self._now()
        except ValueError:
            raise KeyStoreFailed(f"{place} does not say when its credentials expire") from None
        return Lease(Keys(access, secret, str(token or "")), seconds)


_NAMES = ("AccessKeyId", "SecretAccessKey", "SessionToken")


def _granted(url: str, answer: Answer) -> Answer:
    if answer.status != 200:
        reason = f"{url} gives no credentials: it answers {answer.status}"
        raise KeyStoreUnreachable(reason) if answer.unwell else KeyStoreFailed(reason)
    return answer


def _tag(text: str, name: str) -> str:
    # Four elements that each occur once, in a document whose other parts do not matter.
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return unescape(found.group(1)).strip() if found else ""


# From here on in a thread.


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise KeyStoreFailed(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise KeyStoreFailed(f"{path} holds no token") from None


def _read_profile(source: SharedFile) -> Lease[Keys] | None:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(source.path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if source.required:
            raise KeyStoreFailed(f"{source.path} is not there") from None
        return None
    except OSError as error:
        raise KeyStoreFailed(f"{source.path}: {error.strerror}") from error
    except (configparser.Error, UnicodeDecodeError):
        # The cause is dropped: its text shows lines of the file.
        raise KeyStoreFailed(f"{source.path} is no file of credentials") from None
    if not parser.has_section(source.profile):
        if source.required:
            raise KeyStoreFailed(f"{source.path} has no profile {source.profile}")
        return None
    access, secret, token = (
        parser.get(source.profile, name, fallback="")
        for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    )
    if not (access and secret):
        raise KeyStoreFailed(
            f"{source.path}: the profile {source.profile} must have aws_access_key_id and"
            " aws_secret_access_key"
        )
    return Lease(Keys(access, secret, token), _REREAD)
