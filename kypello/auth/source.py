# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Where a request comes from.
"""

from collections.abc import Sequence
from ipaddress import ip_address

from kypello.accessconfig import Network
from kypello.auth.request import RequestHead


def source_address(head: RequestHead, proxies: Sequence[Network]) -> str:
    """
    The address of the client: the last one on the way here that is no proxy of ours.

    Anybody can write into ``X-Forwarded-For``; only what our own proxies add to it counts.
    """
    address = head.peer
    if not proxies:
        return address
    stated = [part.strip() for part in (head.header("x-forwarded-for") or "").split(",")]
    while stated and stated[-1] and _is_proxy(address, proxies):
        address = stated.pop()
    return address


def _is_proxy(address: str, proxies: Sequence[Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in proxies)
