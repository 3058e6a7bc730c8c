# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Accounts in a zip archive: the format in which MinIO's ``mc admin cluster iam export`` writes them,
with all secrets in clear.

An archive comes from outside, so nothing in it is believed: what it unpacks to is bounded, and an
entry that makes no sense is told of and does no harm to the others.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from attrs import define, field, frozen
from msgspec import Raw, Struct

from kypello.archive import Limits, pack, unpack
from kypello.iam.importreport import Thing

S = TypeVar("S")
T = TypeVar("T")

#: Of an archive.
LIMITS = Limits(16 << 20, 32 << 20, 64)

_NEVER = ("1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z")
_EMBEDDED, _INHERITED = "embedded-policy", "inherited-policy"
_EMPTY = (b"", b"null", b"{}", b'""')


@frozen
class ArchivedUser:
    """
    A user in an archive.
    """

    secret_key: str = field(repr=False)
    enabled: bool


@frozen
class ArchivedGroup:
    """
    A group in an archive.
    """

    enabled: bool
    members: tuple[str, ...]


@frozen
class ArchivedKey:
    """
    A service account in an archive.

    :ivar policy: What limits it, in JSON; ``None`` when nothing does.
    :ivar expires: Seconds since the epoch; ``None`` for never.
    :ivar claims: What an identity provider, or the server, said of the parent.
    """

    parent: str
    secret_key: str = field(repr=False)
    enabled: bool
    policy: bytes | None
    name: str
    description: str
    expires: float | None
    groups: tuple[str, ...]
    claims: Mapping[str, Any] = field(repr=False)


@frozen
class Odd:
    """
    Something in an archive that makes no sense.

    :ivar name: Its own; that of the file for a whole one.
    """

    thing: Thing
    name: str
    reason: str


@frozen
class Archive:
    """
    All accounts of a server.  Mappings are by name, in the order of the archive.

    :ivar policies: In JSON.
    :ivar user_policies: The names of the policies that a user has; so with the next two.
    :ivar odd: What could not be read.
    """

    policies: Mapping[str, bytes]
    users: Mapping[str, ArchivedUser]
    groups: Mapping[str, ArchivedGroup]
    keys: Mapping[str, ArchivedKey]
    user_policies: Mapping[str, tuple[str, ...]]
    group_policies: Mapping[str, tuple[str, ...]]
    subject_policies: Mapping[str, tuple[str, ...]]
    odd: tuple[Odd, ...] = ()


class _User(Struct, rename="camel"):
    secret_key: str
    status: str = "enabled"
    policy_name: str | None = None


class _Group(Struct, rename="camel"):
    status: str = "enabled"
    members: list[str] | None = None


class _Given(Struct):
    policy: str | None = None


class _Key(Struct, rename="camel"):
    parent: str
    secret_key: str
    status: str = "on"
    name: str | None = None
    description: str | None = None
    expiration: str | None = None
    groups: list[str] | None = None
    claims: dict[str, Any] | None = None
    session_policy: Raw = Raw(b"")


_NAMES = {
    Thing.POLICY: "policies",
    Thing.USER: "users",
    Thing.GROUP: "groups",
    Thing.USER_POLICIES: "user_mappings",
    Thing.GROUP_POLICIES: "group_mappings",
    Thing.SUBJECT_POLICIES: "stsuser_mappings",
    Thing.KEY: "svcaccts",
}


def read_archive(content: bytes) -> Archive:
    """
    Read an archive.

    :raises MalformedArchive:
    """
    reading = _Reading(unpack(content, LIMITS))
    old = reading.entries(Thing.USER, _User, lambda told: names(told.policy_name))
    given = reading.entries(Thing.USER_POLICIES, _Given, _names)
    return Archive(
        policies=reading.entries(Thing.POLICY, Raw, bytes),
        users=reading.entries(Thing.USER, _User, _user),
        groups=reading.entries(Thing.GROUP, _Group, _group),
        keys=reading.entries(Thing.KEY, _Key, _key),
        user_policies=_held({**old, **given}),
        group_policies=_held(reading.entries(Thing.GROUP_POLICIES, _Given, _names)),
        subject_policies=_held(reading.entries(Thing.SUBJECT_POLICIES, _Given, _names)),
        odd=reading.oddities(),
    )


def write_archive(archive: Archive) -> bytes:
    """
    Write an archive, the same for the same accounts.
    """
    assets: dict[Thing, Mapping[str, object]] = {
        Thing.POLICY: {name: Raw(text) for name, text in archive.policies.items()},
        Thing.USER: {name: _told_user(user) for name, user in archive.users.items()},
        Thing.GROUP: {name: _told_group(group) for name, group in archive.groups.items()},
        Thing.KEY: {name: _told_key(name, key) for name, key in archive.keys.items()},
        Thing.USER_POLICIES: _told_policies(archive.user_policies),
        Thing.GROUP_POLICIES: _told_policies(archive.group_policies),
        Thing.SUBJECT_POLICIES: _told_policies(archive.subject_policies),
    }
    return pack(
        {
            _path(thing): msgspec.json.encode(entries, order="sorted")
            for thing, entries in assets.items()
        }
    )


def names(text: str | None) -> tuple[str, ...]:
    """
    The names in a list with commas.
    """
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


@define(eq=False)
class _Reading:
    """
    One reading of the files of an archive.
    """

    _files: dict[str, bytes] = field(repr=False)
    _used: set[str] = field(factory=set)
    _odd: dict[tuple[Thing, str], str] = field(factory=dict)

    def entries(self, thing: Thing, kind: type[S], make: Callable[[S], T]) -> dict[str, T]:
        """
        What *make* makes of each entry of a file; a file that is missing has none.
        """
        name = _path(thing)
        self._used.add(name)
        content = self._files.get(name, b"")
        found: dict[str, T] = {}
        if content.strip() in _EMPTY:
            return found
        try:
            entries = msgspec.json.decode(content, type=dict[str, Raw])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            self._odd[Thing.FILE, name] = "it is not a JSON object"
            return found
        for entry, raw in entries.items():
            try:
                found[entry] = make(msgspec.json.decode(raw, type=kind))
            except msgspec.ValidationError as error:
                self._odd[thing, entry] = str(error)
            except (ValueError, RecursionError) as error:
                self._odd[thing, entry] = str(error) or "it cannot be read"
        return found

    def oddities(self) -> tuple[Odd, ...]:
        """
        What could not be read, and files that say nothing to us.
        """
        unknown = [
            Odd(Thing.FILE, name, "it is no file that is known")
            for name in sorted(self._files.keys() - self._used)
        ]
        return (*(Odd(*place, reason) for place, reason in self._odd.items()), *unknown)


def _path(thing: Thing) -> str:
    return f"iam-assets/{_NAMES[thing]}.json"


def _user(told: _User) -> ArchivedUser:
    return ArchivedUser(told.secret_key, _is_on(told.status))


def _group(told: _Group) -> ArchivedGroup:
    return ArchivedGroup(_is_on(told.status), tuple(told.members or ()))


def _key(told: _Key) -> ArchivedKey:
    claims = told.claims or {}
    policy: bytes | None = bytes(told.session_policy).strip()
    if policy in _EMPTY:
        sealed = claims.get("sessionPolicy")
        policy = b64decode(sealed, validate=True) if isinstance(sealed, str) and sealed else None
        if policy is None and claims.get("sa-policy") == _EMBEDDED:
            # To leave the limit out would widen what the key may do.
            raise ValueError("it has a policy of its own, which is missing")
    return ArchivedKey(
        parent=told.parent,
        secret_key=told.secret_key,
        enabled=_is_on(told.status),
        policy=policy,
        name=told.name or "",
        description=told.description or "",
        expires=_moment(told.expiration),
        groups=tuple(told.groups or ()),
        claims=claims,
    )


def _moment(told: str | None) -> float | None:
    if not told or told in _NEVER:
        return None
    moment = datetime.fromisoformat(told)
    if moment.tzinfo is None:
        raise ValueError("its expiration names no time zone")
    return moment.timestamp()


def _is_on(status: str) -> bool:
    """
    Whether something is enabled.  What is neither is off.
    """
    return status in ("enabled", "on")


def _names(told: _Given) -> tuple[str, ...]:
    return names(told.policy)


def _held(given: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {holder: policies for holder, policies in given.items() if policies}


def _told_user(user: ArchivedUser) -> dict[str, object]:
    return {"secretKey": user.secret_key, "status": "enabled" if user.enabled else "disabled"}


def _told_group(group: ArchivedGroup) -> dict[str, object]:
    status = "enabled" if group.enabled else "disabled"
    return {"version": 1, "status": status, "members": group.members}


def _told_policies(held: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    return {
        holder: {"version": 1, "policy": ",".join(policies)} for holder, policies in held.items()
    }


def _told_key(name: str, key: ArchivedKey) -> dict[str, object]:
    claims = {**key.claims, "accessKey": name, "parent": key.parent, "sa-policy": _INHERITED}
    if key.policy is not None:
        claims["sa-policy"] = _EMBEDDED
        claims["sessionPolicy"] = b64encode(key.policy).decode()
    expires = key.expires
    return {
        "parent": key.parent,
        "accessKey": name,
        "secretKey": key.secret_key,
        "groups": key.groups or None,
        "claims": claims,
        "sessionPolicy": None if key.policy is None else Raw(key.policy),
        "status": "on" if key.enabled else "off",
        "name": key.name,
        "description": key.description,
        "expiration": _NEVER[0] if expires is None else _written(expires),
    }


def _written(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
