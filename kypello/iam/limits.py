# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How names, secrets and limits of accounts have to be.

All functions raise :class:`InvalidAccount`.
"""

import re
from typing import Final

from kypello.errors import InvalidAccount
from kypello.policy.document import Policy

#: The largest policy, in bytes.
POLICY_SIZE: Final = 20 * 1024

#: The longest life of a session or a service account, in seconds.
LONGEST: Final = 365 * 86400

#: The shortest time ahead that a service account may expire at, in seconds.
SHORTEST: Final = 15 * 60

_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]*")

#: The most bytes of a name of which nothing else is said.
_NAME_SIZE = 1024


def check_access_key(access_key: str, root: str) -> None:
    """
    Check the access key of a user or a service account.

    :param root: That of the root user.
    """
    if access_key == root:
        raise InvalidAccount(
            "reserved access key", "Credential is not allowed to be same as admin access key"
        )
    if not 3 <= len(access_key) <= 20:
        raise InvalidAccount("access key", "access key length should be between 3 and 20")
    if "=" in access_key or "," in access_key:
        raise InvalidAccount(
            "access key", "access key contains one of reserved characters '=' or ','"
        )
    _check_clean("access key", access_key)


def check_secret_key(secret_key: str) -> None:
    """
    Check a secret key.
    """
    if not 8 <= len(secret_key) <= 40:
        raise InvalidAccount("secret key", "secret key length should be between 8 and 40")
    if not _is_text(secret_key):
        raise InvalidAccount("secret key", "secret key contains characters that are not allowed")


def check_group(name: str) -> None:
    """
    Check the name of a group.
    """
    if "=" in name or "," in name:
        raise InvalidAccount("group name", "Group name contains reserved characters '=' or ','")
    _check_clean("group name", name)


def check_policy(name: str, policy: Policy) -> None:
    """
    Check a policy that is to be kept, and its name.
    """
    if "," in name:
        raise InvalidAccount("policy name", "Policy name may not contain comma")
    _check_clean("policy name", name)
    if len(policy.text) > POLICY_SIZE:
        raise InvalidAccount("policy", f"a policy has {POLICY_SIZE} bytes at most")


def check_subject(name: str) -> None:
    """
    Check the name of a subject.
    """
    _check_clean("name", name)


def check_labels(name: str, description: str) -> None:
    """
    Check what a service account is called.
    """
    if name and (len(name) > 32 or not _NAME.fullmatch(name)):
        raise InvalidAccount(
            "name",
            "a name has 32 characters at most, letters, digits, '_' and '-', and begins with a"
            " letter",
        )
    if len(description.encode("utf-8", "surrogatepass")) > 256 or not _is_utf8(description):
        raise InvalidAccount("description", "a description has 256 bytes of UTF-8 at most")


def check_expiry(expires: float | None, now: float) -> None:
    """
    Check when a service account expires.

    :param now: Seconds since the epoch, like *expires*.
    """
    if expires is not None and not SHORTEST <= expires - now <= LONGEST:
        raise InvalidAccount("expiration", "an access key expires in 15 minutes to 365 days")


def check_duration(duration: float) -> None:
    """
    Check how long a session lives, in seconds.
    """
    if not 0 < duration <= LONGEST:
        raise InvalidAccount("duration", "a session lives for 365 days at most")


def _check_clean(what: str, name: str) -> None:
    """
    Refuse names that cannot be kept, or that people cannot tell apart.
    """
    if not name:
        raise InvalidAccount(what, f"{what} is empty")
    if not _is_text(name) or name != name.strip():
        raise InvalidAccount(
            what, f"{what} contains characters that are not allowed, or spaces around it"
        )
    if len(name.encode()) > _NAME_SIZE:
        raise InvalidAccount(what, f"{what} has {_NAME_SIZE} bytes at most")


def _is_text(value: str) -> bool:
    # Control characters, NUL, line separators and what is no UTF-8 are not printable.
    return value.isprintable()


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
