# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which call is made where.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

from attrs import evolve, frozen

from kypello.http.response import Response
from kypello.kes.call import Call
from kypello.kes.operations import Operations
from kypello.kes.wire import json_response

_MEGABYTE = 1_000_000


@frozen
class Setting:
    """
    What a configuration says of a call.

    :ivar skip_auth: Whoever comes may make it, also without a certificate.
    :ivar timeout: In seconds; ``0`` for the usual one.
    """

    skip_auth: bool = False
    timeout: float = 0.0


@frozen
class Route:
    """
    One kind of call.

    :ivar method: ``PUT`` stands for ``POST`` too.
    :ivar path: With a slash at its end when something follows.
    :ivar max_body: The longest body, in bytes; ``0`` when bodies are ignored.
    :ivar optional: A body of no bytes is an empty object.
    :ivar array: A body is an array of objects, and not one.
    :ivar timeout: For the whole call, in seconds; ``0`` for no end.
    :ivar access: Who may call: whoever has a policy that allows it, or whoever comes, with the
        identity that a certificate gives, or anybody.
    :ivar takes: What follows the path.
    :ivar denied_as: The path of a call that does the same: who is denied that one is denied this
        one, too.  KES has it no more, so that policies for KES do not name it.
    :ivar noun: What a name stands for.
    :ivar probe: Is about the server, and neither counted nor limited.
    :ivar failure: What to say when the key store fails.
    :ivar malformed: What to say of a body that cannot be read.
    """

    method: Literal["GET", "PUT", "DELETE"]
    path: str
    operation: Callable[[Operations, Call], Awaitable[Response]]
    max_body: int = 0
    optional: bool = False
    array: bool = False
    timeout: float = 15
    access: Literal["policy", "identity", "anybody"] = "policy"
    takes: Literal["nothing", "name", "pattern"] = "name"
    denied_as: str = ""
    noun: Literal["key", "policy", "identity"] = "key"
    probe: bool = False
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


def _probe(
    path: str, operation: Callable[[Operations, Call], Awaitable[Response]], timeout: float = 15
) -> Route:
    return Route("GET", path, operation, timeout=timeout, takes="nothing", probe=True)


#: All calls.
ROUTES = (
    Route(
        "GET",
        "/version",
        Operations.version,
        timeout=10,
        access="anybody",
        takes="nothing",
        probe=True,
    ),
    _probe("/v1/ready", Operations.ready),
    _probe("/v1/status", Operations.status),
    _probe("/v1/metrics", Operations.metrics),
    _probe("/v1/api", Operations.api, timeout=10),
    _probe("/v1/log/error", Operations.follow_errors, timeout=0),
    _probe("/v1/log/audit", Operations.follow_audits, timeout=0),
    Route(
        "GET",
        "/v1/identity/self/describe",
        Operations.describe_self,
        access="identity",
        takes="nothing",
    ),
    Route("GET", "/v1/identity/describe/", Operations.describe_identity, noun="identity"),
    Route("GET", "/v1/identity/list/", Operations.list_identities, takes="pattern"),
    Route("GET", "/v1/policy/describe/", Operations.describe_policy, noun="policy"),
    Route("GET", "/v1/policy/read/", Operations.read_policy, noun="policy"),
    Route("GET", "/v1/policy/list/", Operations.list_policies, takes="pattern"),
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
    Route(
        "PUT",
        "/v1/key/bulk/decrypt/",
        Operations.decrypt_all,
        _MEGABYTE,
        array=True,
        denied_as="/v1/key/decrypt/",
    ),
    Route("PUT", "/v1/key/hmac/", Operations.authenticate, _MEGABYTE),
)


def configured_routes(settings: Mapping[str, Setting]) -> tuple[Route, ...]:
    """
    All calls as a configuration wants them.

    :param settings: By path.
    """
    found = []
    for route in ROUTES:
        setting = settings.get(route.path, Setting())
        access = "identity" if setting.skip_auth and route.access == "policy" else route.access
        found.append(evolve(route, access=access, timeout=setting.timeout or route.timeout))
    return tuple(found)


def tell_routes(routes: Sequence[Route]) -> Response:
    """
    Which calls there are, as ``/v1/api`` answers.
    """
    return json_response(
        [
            {
                "method": route.method,
                "path": route.path,
                "max_body": route.max_body,
                "timeout": int(route.timeout),
            }
            for route in routes
        ]
    )


def find_route(routes: Sequence[Route], path: str) -> tuple[Route, str] | None:
    """
    The route of a path, and what follows it.

    :param path: Percent-decoded.
    """
    for route in routes:
        rest = route.rest(path)
        if rest is not None:
            return route, rest
    return None
