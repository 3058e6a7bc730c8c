# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Settings of who may do what: whose word counts, and for whom bucket policies do.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

from attrs import frozen

from kypello.environment import Environment

_PROXIES = "MINIO_TRUSTED_PROXIES"
_METRICS = "MINIO_PROMETHEUS_AUTH_TYPE"
_SCOPE = "MINIO_BUCKET_POLICY_SCOPE"
_SCOPES = ("all", "anonymous")

Network: TypeAlias = IPv4Network | IPv6Network


@frozen
class AccessSettings:
    """
    How requests are judged.

    :ivar proxies: Whose ``X-Forwarded-For`` tells the address of a client.
    :ivar policies_for_all: Whether bucket policies count for everybody, as in AWS, and not only
        for anonymous requests, as in MinIO.
    :ivar public_metrics: Whether everybody may read the metrics.
    """

    proxies: tuple[Network, ...] = ()
    policies_for_all: bool = True
    public_metrics: bool = False


def read_access(environment: Environment) -> AccessSettings:
    """
    Understand the settings; mistakes go to the environment's list.
    """
    scope = environment.text(_SCOPE) or _SCOPES[0]
    if scope not in _SCOPES:
        environment.mistakes.append(
            f"KYPELLO_BUCKET_POLICY_SCOPE is {scope!r}, and has to be all or anonymous."
        )
    metrics = environment.text(_METRICS) or "jwt"
    if metrics not in ("jwt", "public"):
        environment.mistakes.append(f"{_METRICS} is {metrics!r}, and has to be jwt or public.")
    return AccessSettings(_proxies(environment), scope == "all", metrics == "public")


def _proxies(environment: Environment) -> tuple[Network, ...]:
    stated = [one.strip() for one in (environment.text(_PROXIES) or "").split(",")]
    networks = []
    for text in filter(None, stated):
        try:
            networks.append(ip_network(text))
        except ValueError:
            environment.mistakes.append(
                f"KYPELLO_TRUSTED_PROXIES: {text!r} is no address or network such as 10.0.0.0/8."
            )
    return tuple(networks)
