# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Several fronts behind one address.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from twisted.web.resource import Resource

from kypello.http.request import StreamingRequest

#: Tells whether a request belongs to a front.
Belongs: TypeAlias = Callable[[StreamingRequest], bool]


def below(prefix: bytes) -> Belongs:
    """
    What tells requests with paths, as sent, that begin so.
    """
    return lambda request: request.path.startswith(prefix)


class Fronts(Resource):
    """
    Hands each request to the first front that it belongs to.

    All fronts are leaves: they find their own way from there.
    """

    isLeaf = True

    def __init__(self, others: Sequence[tuple[Belongs, Resource]], rest: Resource) -> None:
        """
        Serve several fronts.

        :param others: With what tells the requests that belong to them.
        :param rest: What gets every other request.
        """
        Resource.__init__(self)
        self._others = others
        self._rest = rest

    def render(self, request: StreamingRequest) -> int:
        """
        Called by Twisted.
        """
        for belongs, front in self._others:
            if belongs(request):
                return front.render(request)  # type: ignore[no-any-return]  # Twisted has no annotation
        return self._rest.render(request)  # type: ignore[no-any-return]  # as above
