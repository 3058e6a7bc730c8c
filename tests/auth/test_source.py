# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for where requests come from.
"""

from ipaddress import ip_network

from kypello.auth.request import RequestHead
from kypello.auth.source import source_address
from tests.cases import SyncCase

_PROXIES = (ip_network("10.0.0.0/8"), ip_network("::1"))


def forwarded(stated: str, peer: str) -> RequestHead:
    """
    A request with what a proxy adds.
    """
    return RequestHead("GET", "/b/k", (), (("x-forwarded-for", stated),), peer=peer)


class SourceAddressTests(SyncCase):
    """
    Where a request comes from.
    """

    def test_strangers(self) -> None:
        """
        Nobody may give themselves another address.
        """
        asked = forwarded("127.0.0.1", "192.0.2.1")
        for proxies in ((), _PROXIES):
            self.assertEqual(source_address(asked, proxies), "192.0.2.1")

    def test_proxies(self) -> None:
        """
        Through proxies of ours, it is the last address that is none of them.
        """
        for stated, expected in (
            ("198.51.100.7", "198.51.100.7"),
            ("127.0.0.1, 198.51.100.7", "198.51.100.7"),
            ("127.0.0.1, 198.51.100.7, 10.2.3.4", "198.51.100.7"),
            ("10.9.9.9", "10.9.9.9"),
            ("", "10.0.0.1"),
            ("nonsense, 10.1.1.1", "nonsense"),
        ):
            asked = forwarded(stated, "10.0.0.1")
            self.assertEqual(source_address(asked, _PROXIES), expected)
