# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who else says who somebody is, by the administration API: to read.
"""

from collections.abc import Mapping
from typing import Any

from kypello.admin.call import Call
from kypello.admin.errors import Rejected
from kypello.http.response import Response
from kypello.identityconfig import IdentitySettings, LDAPSettings, OpenIDSettings

_OPENID, _LDAP = "openid", "ldap"

#: What the provider without a name is called.
_DEFAULT = "_"


async def providers(call: Call) -> Response:
    """
    The OpenID providers or the directory that are set up in the environment; or one of them with
    its settings, but for its passwords.
    """
    kind, _slash, name = call.tail.partition("/")
    found = _find(call.front.identity, kind)
    if not name:
        return await call.seal([_tell(kind, each, found[each]) for each in found])
    if name not in found:
        raise _unknown(f"There is no provider {name!r} of this kind.")
    settings = [
        {"key": key, "value": value, "isCfg": False, "isEnv": True}
        for key, value in _settings(found[name]).items()
        if value
    ]
    return await call.seal({"type": kind, "name": name, "info": settings})


def _find(identity: IdentitySettings, kind: str) -> Mapping[str, OpenIDSettings | LDAPSettings]:
    if kind == _OPENID:
        return {each.name or _DEFAULT: each for each in identity.openid}
    if kind == _LDAP:
        return {} if identity.ldap is None else {_DEFAULT: identity.ldap}
    raise _unknown("There are no providers of this kind.")


def _unknown(message: str) -> Rejected:
    return Rejected(404, "XMinioConfigError", message)


def _tell(kind: str, name: str, provider: OpenIDSettings | LDAPSettings) -> dict[str, Any]:
    told = {"type": kind, "name": name, "enabled": True}
    if isinstance(provider, OpenIDSettings) and provider.role_policies:
        told["roleARN"] = provider.role
    return told


def _settings(provider: OpenIDSettings | LDAPSettings) -> dict[str, str]:
    if isinstance(provider, OpenIDSettings):
        return {
            "config_url": provider.config_url,
            "client_id": provider.client_id,
            "claim_name": "" if provider.role_policies else provider.claim,
            "role_policy": ",".join(provider.role_policies),
            "claim_userinfo": "on" if provider.userinfo else "",
            "roleARN": provider.role if provider.role_policies else "",
        }
    return {
        "server_addr": f"{provider.host}:{provider.port}",
        "server_insecure": "on" if provider.security == "none" else "",
        "server_starttls": "on" if provider.security == "starttls" else "",
        "tls_skip_verify": "" if provider.verify else "on",
        "lookup_bind_dn": provider.lookup_dn,
        "user_dn_search_base_dn": ";".join(provider.user_bases),
        "user_dn_search_filter": provider.user_filter,
        "group_search_base_dn": ";".join(provider.group_bases),
        "group_search_filter": provider.group_filter,
    }
