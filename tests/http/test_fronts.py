# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for several fronts behind one address.
"""

from twisted.web.resource import Resource

from kypello.http.fronts import Fronts, below
from kypello.http.request import StreamingRequest
from kypello.http.respond import respond
from kypello.http.response import Response
from kypello.testing.harness import Answer, Harness
from tests.cases import SyncCase


class Named(Resource):
    """
    A front that answers with its name.
    """

    isLeaf = True

    def __init__(self, name: bytes) -> None:
        """
        Give it a name.
        """
        Resource.__init__(self)
        self._name = name

    def render(self, request: StreamingRequest) -> int:
        """
        Called by Twisted.
        """
        return respond(request, self._answer(), lambda error: Response(500))

    async def _answer(self) -> Response:
        return Response(200, (), self._name)


class FrontsTests(SyncCase):
    """
    The choice of a front.
    """

    def test_choice(self) -> None:
        """
        The path as sent decides: what is escaped is another path.
        """
        fronts = Fronts([(below(b"/minio/admin/"), Named(b"admin"))], Named(b"rest"))
        harness = Harness(fronts, access_log=False)
        for target, expected in (
            ("/minio/admin/v3/info", b"admin"),
            ("/minio/admin/", b"admin"),
            ("/minio/admin", b"rest"),
            ("/minio/adminx/y", b"rest"),
            ("/%6dinio/admin/v3/info", b"rest"),
            ("/bucket/minio/admin/", b"rest"),
            ("/?x=/minio/admin/", b"rest"),
            ("/", b"rest"),
        ):
            answer = self.successResultOf(harness.request("GET", target, [], None))
            assert isinstance(answer, Answer)
            self.assertEqual(answer.body, expected, target)
