# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is kept of accounts in the index: keys and records, in the space ``accounts``.

=====================================  ==========================================================
``generation``                         16 random bytes, which every change replaces in the same
                                       commit, but the making and sweeping of sessions
``datakey``                            :class:`DataKeyRecord`; absent when nothing is sealed
``user/`` name                         :class:`UserRecord`
``group/`` name                        :class:`GroupRecord`
``policy/`` name                       :class:`PolicyRecord`
``subject/`` name                      :class:`SubjectRecord`
``key/`` access key                    :class:`KeyRecord`: a service account or a session
``child/`` owner parent NUL key        nothing: the access keys of a parent
``expiry/`` seconds key                nothing: the sessions as they expire; the number has 8 bytes
=====================================  ==========================================================

Structures are arrays: later releases append fields with defaults, so that older records stay
readable; what cannot be told that way takes another format byte (``sealing.py``).
"""

import hmac
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
from msgspec.msgpack import Decoder, Encoder

from kypello.errors import Damaged
from kypello.model import Identity

#: The space of the index.
SPACE = "accounts"

GENERATION = b"generation"
DATA_KEY = b"datakey"

#: Ranges of keys, each from its prefix to the next one.
USERS = (b"user/", b"user0")
GROUPS = (b"group/", b"group0")
POLICIES = (b"policy/", b"policy0")
SUBJECTS = (b"subject/", b"subject0")
KEYS = (b"key/", b"key0")
EXPIRIES = (b"expiry/", b"expiry0")


class Owner(StrEnum):
    """
    Of what kind the parent of a key is.  The root user may get another name; their keys stay
    theirs, and those of a user who has that name do not become theirs.
    """

    ROOT = "r"
    USER = "u"
    SUBJECT = "s"


class DataKeyRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    The data key that seals all others, as the KMS sealed it.

    :ivar key_name: The master key.
    :ivar sealed: A data key, as the KMS sealed it: the one that seals, as it was made.
    :ivar wrapped: When another master key came since: the one that seals under that data key.
    """

    key_name: str
    sealed: bytes
    wrapped: bytes = b""


class UserRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    A user.

    :ivar birth: Made at random with the user: what belonged to an earlier user of the name, or
        is being made for one, does not belong to this one.
    :ivar updated: Nanoseconds since the epoch.
    """

    birth: bytes
    secret: str
    enabled: bool
    policies: tuple[str, ...]
    groups: tuple[str, ...]
    updated: int


class GroupRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    A group; its members are the users that name it.

    :ivar updated: Nanoseconds since the epoch; also the last time that members changed.
    """

    enabled: bool
    policies: tuple[str, ...]
    updated: int


class PolicyRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    A policy, as it was put.

    :ivar created: Nanoseconds since the epoch.
    :ivar updated: Likewise.
    """

    text: bytes
    created: int
    updated: int


class SubjectRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    The policies of a subject, never none.

    :ivar updated: Nanoseconds since the epoch.
    """

    policies: tuple[str, ...]
    updated: int


class KeyRecord(msgspec.Struct, array_like=True, frozen=True):
    """
    A service account or a session; see :class:`kypello.iam.values.KeyInfo`.

    :ivar owner: Of what kind the parent is.
    :ivar parent: Empty for the root user.
    :ivar birth: That of the parent, if it is a user; for a session of the root user a digest of
        their credentials, so that it ends when these change; else empty.
    :ivar session: Whether it is a session.
    :ivar token: Of a session.
    :ivar policy: The text of what limits it.
    """

    owner: Owner
    parent: str
    birth: bytes
    secret: str
    enabled: bool
    session: bool
    token: str
    policy: bytes | None
    policies: tuple[str, ...] | None
    name: str
    description: str
    expires: float | None
    groups: tuple[str, ...]
    provider: str
    claims: dict[str, tuple[str, ...]]
    revoke_type: str
    updated: int


R = TypeVar("R", DataKeyRecord, UserRecord, GroupRecord, PolicyRecord, SubjectRecord, KeyRecord)

encode = Encoder().encode

#: How to read a record, by its class.
_DECODE: Mapping[type, Callable[[Any], Any]] = {
    kind: Decoder(kind).decode for kind in R.__constraints__
}


def decode(kind: type[R], value: bytes) -> R:
    """
    Read a record.

    :raises Damaged: It is none.
    """
    try:
        record: R = _DECODE[kind](value)
    except ValueError:
        # What msgspec says of it may quote the record.
        raise Damaged(f"{kind.__name__} of the accounts") from None
    return record


def user_key(name: str) -> bytes:
    """
    Where a user is.
    """
    return USERS[0] + _bytes(name)


def group_key(name: str) -> bytes:
    """
    Where a group is.
    """
    return GROUPS[0] + _bytes(name)


def policy_key(name: str) -> bytes:
    """
    Where a policy is.
    """
    return POLICIES[0] + _bytes(name)


def subject_key(name: str) -> bytes:
    """
    Where the policies of a subject are.
    """
    return SUBJECTS[0] + _bytes(name)


def key_key(access_key: str) -> bytes:
    """
    Where a service account or a session is.
    """
    return KEYS[0] + _bytes(access_key)


def child_key(owner: Owner, parent: str, access_key: str) -> bytes:
    """
    Where it is noted that a parent has a key.
    """
    return children(owner, parent)[0] + _bytes(access_key)


def children(owner: Owner, parent: str) -> tuple[bytes, bytes]:
    """
    The range of the notes of what keys a parent has.
    """
    prefix = b"child/%b%b" % (owner.encode(), _bytes(parent))
    return prefix + b"\x00", prefix + b"\x01"


def expiry_key(expires: float, access_key: str) -> bytes:
    """
    Where it is noted when a session expires.
    """
    return expiry_bound(expires) + _bytes(access_key)


def expired_key(note: bytes) -> str:
    """
    The access key of a session, by the note of when it expires.
    """
    return note[len(EXPIRIES[0]) + 8 :].decode()


def expiry_bound(when: float) -> bytes:
    """
    What comes before all notes of sessions that expire in this second, or later.

    :param when: Seconds since the epoch.
    """
    return EXPIRIES[0] + max(0, int(when)).to_bytes(8, "big")


def root_birth(root: Identity) -> bytes:
    """
    What sessions of the root user are bound to: they end when its credentials change.
    """
    text = f"session of {root.access_key}".encode()
    return hmac.digest(root.secret_key.encode(), text, "sha256")[:16]


def _bytes(name: str) -> bytes:
    # Names that are kept are UTF-8; what is looked up may be anything.
    return name.encode("utf-8", "surrogatepass")
