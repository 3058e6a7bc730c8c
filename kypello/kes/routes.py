# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which call is made where.
"""

from collections.abc import Awaitable, Callable
from typing import Literal

from attrs import frozen

from kypello.http.response import Response
from kypello.kes.operations import Call, Operations
from kypello.kes.wire import json_response

_MEGABYTE = 1_000_000


@frozen
class Route:
    """
    One kind of call.

    :ivar method: ``PUT`` stands for ``POST`` too.
    :ivar path: With a slash at its end when something follows.
    :ivar max_body: The longest body, in bytes; ``0`` when bodies are ignored.
    :ivar optional: A body of no bytes is an empty object.
    :ivar timeout: For the whole call, in seconds.
    :ivar access: Who may call: whoever has a policy that allows it, or anybody with an identity,
        or anybody.
    :ivar takes: What follows the path.
    :ivar failure: What to say when the key store fails.
    :ivar malformed: What to say of a body that cannot be read.
    """

    method: Literal["GET", "PUT", "DELETE"]
    path: str
    operation: Callable[[Operations, Call], Awaitable[Response]]
    max_body: int = 0
    optional: bool = False
    timeout: int = 15
    access: Literal["policy", "identity", "anybody"] = "policy"
    takes: Literal["nothing", "name", "pattern"] = "name"
    failure: str = "failed to read key"
    malformed: str = "invalid request body"

    def rest(self, path: str) -> str | None:
        """
        What follows the route's path in *path*, or ``None`` when it is another route's.

        A missing slash before nothing does not matter.
        """
        if self.takes == "nothing":
            return "" if path == self.path else None
        if path == self.path[:-1]:
            return ""
        return path[len(self.path) :] if path.startswith(self.path) else None

    def allows(self, method: str) -> bool:
        """
        Whether the call may be made with this method.
        """
        return method == self.method or (method == "POST" and self.method == "PUT")


async def _tell_api(_operations: Operations, _call: Call) -> Response:
    """
    Which calls there are.
    """
    return json_response(
        [
            {
                "method": route.method,
                "path": route.path,
                "max_body": route.max_body,
                "timeout": route.timeout,
            }
            for route in ROUTES
        ]
    )


#: All calls.
ROUTES = (
    Route("GET", "/version", Operations.version, timeout=10, access="anybody", takes="nothing"),
    Route("GET", "/v1/ready", Operations.ready, takes="nothing"),
    Route("GET", "/v1/status", Operations.status, takes="nothing"),
    Route("GET", "/v1/api", _tell_api, timeout=10, takes="nothing"),
    Route(
        "GET",
        "/v1/identity/self/describe",
        Operations.describe_self,
        access="identity",
        takes="nothing",
    ),
    Route("PUT", "/v1/key/create/", Operations.create_key, failure="failed to create key"),
    Route(
        "PUT",
        "/v1/key/import/",
        Operations.import_key,
        _MEGABYTE,
        failure="failed to create key",
        malformed="invalid import key request body",
    ),
    Route("GET", "/v1/key/describe/", Operations.describe_key),
    Route(
        "GET",
        "/v1/key/list/",
        Operations.list_keys,
        takes="pattern",
        failure="failed to list keys",
    ),
    Route("DELETE", "/v1/key/delete/", Operations.delete_key, failure="failed to delete key"),
    Route("PUT", "/v1/key/generate/", Operations.generate_key, _MEGABYTE, optional=True),
    Route("PUT", "/v1/key/encrypt/", Operations.encrypt, _MEGABYTE),
    Route("PUT", "/v1/key/decrypt/", Operations.decrypt, _MEGABYTE),
    Route("PUT", "/v1/key/hmac/", Operations.authenticate, _MEGABYTE),
)


def find_route(path: str) -> tuple[Route, str] | None:
    """
    The route of a path, and what follows it.

    :param path: Percent-decoded.
    """
    for route in ROUTES:
        rest = route.rest(path)
        if rest is not None:
            return route, rest
    return None
