# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Several fronts behind one address.
"""

from collections.abc import Mapping

from twisted.web.resource import Resource

from kypello.http.request import StreamingRequest


class Fronts(Resource):
    """
    Hands each request to the front that its path, as sent, belongs to.

    All fronts are leaves: they find their own way from there.
    """

    isLeaf = True

    def __init__(self, others: Mapping[bytes, Resource], rest: Resource) -> None:
        """
        Serve several fronts.

        :param others: By the prefix of their paths, which ends with a slash.
        :param rest: What gets every other path.
        """
        Resource.__init__(self)
        self._others = others
        self._rest = rest

    def render(self, request: StreamingRequest) -> int:
        """
        Called by Twisted.
        """
        for prefix, front in self._others.items():
            if request.path.startswith(prefix):
                return front.render(request)  # type: ignore[no-any-return]  # Twisted has no annotation
        return self._rest.render(request)  # type: ignore[no-any-return]  # as above
