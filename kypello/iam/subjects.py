# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Service accounts of people whom an identity provider knows, as archives tell of them.

MinIO writes what the provider said as claims by the provider's names; here they are the values of
the condition keys that policies see.
"""

from collections.abc import Mapping
from typing import Any

from kypello.iam.values import BUILTIN, KeyInfo

_LDAP = {"ldapUser": "ldap:user", "ldapUsername": "ldap:username"}
_JWT = "jwt:"
_POLICIES = "policy"
#: What the server itself adds to the claims of a key.
_OWN = frozenset({"accessKey", "parent", "exp", "roleArn", "tokenRevokeType", _POLICIES})
_PREFIX = ("sa-", "sessionPolicy")

Claims = Mapping[str, tuple[str, ...]]


def read_claims(parent: str, archived: Mapping[str, Any]) -> tuple[str, Claims]:
    """
    Who knows the parent of a key, and what was said of it.

    :return: The provider, ``builtin`` when it is a user, and values by condition key.
    """
    if "ldapUser" in archived:
        values = {_LDAP[name]: archived[name] for name in _LDAP.keys() & archived.keys()}
        return "ldap", {name: _values(value) for name, value in values.items()}
    if "sub" not in archived or "iss" not in archived:
        return BUILTIN, {}
    found = {
        _JWT + name.lower(): _values(value)
        for name, value in archived.items()
        if name not in _OWN and not name.startswith(_PREFIX)
    }
    provider = "tls" if parent.startswith("tls:") else "openid"
    return provider, {name: values for name, values in found.items() if values}


def write_claims(about: KeyInfo) -> dict[str, Any]:
    """
    The claims of a key, for an archive.
    """
    if about.provider == BUILTIN:
        return {}
    names = {key: name for name, key in _LDAP.items()}
    told: dict[str, Any] = {
        names.get(key, key.removeprefix(_JWT)): values[0] if len(values) == 1 else list(values)
        for key, values in about.claims.items()
    }
    if about.provider == "ldap":
        told.setdefault("ldapUser", about.parent)
    if about.policies is not None:
        told[_POLICIES] = ",".join(about.policies)
    return told


def bound_policies(archived: Mapping[str, Any]) -> tuple[str, ...] | None:
    """
    The names of the policies that a key has by its claims; ``None`` when they name none.
    """
    told = archived.get(_POLICIES)
    named = told.split(",") if isinstance(told, str) else _values(told)
    return tuple(name.strip() for name in named if name.strip()) or None


def _values(told: Any) -> tuple[str, ...]:
    if isinstance(told, str):
        return (told,)
    if isinstance(told, list):
        return tuple(each for each in told if isinstance(each, str))
    return ()
