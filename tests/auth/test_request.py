# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of requests as signatures see them.
"""

from kypello.auth.request import RequestHead
from tests.cases import SyncCase

HEAD = RequestHead(
    "GET",
    "/b/k",
    (("a", "1"), ("b", ""), ("a", "2")),
    (("host", "h"), ("x", "1"), ("x", "2"), ("y", "")),
)


class HeadTests(SyncCase):
    """
    The head of a request.
    """

    def test_headers(self) -> None:
        """
        Repeated headers are one, in arrival order.
        """
        self.assertEqual(set(HEAD.header_names), {"host", "x", "y"})
        self.assertEqual([HEAD.header(name) for name in ("x", "y", "z")], ["1,2", "", None])

    def test_parameters(self) -> None:
        """
        Of a repeated parameter the first value counts.
        """
        self.assertEqual([HEAD.parameter(name) for name in "abc"], ["1", "", None])

    def test_no_secrets(self) -> None:
        """
        It can be shown: what may hold secrets is left out.
        """
        head = RequestHead("GET", "/b", (("X-Amz-Signature", "secret"),), (("a", "secret"),))
        self.assertNotIn("secret", repr(head))
