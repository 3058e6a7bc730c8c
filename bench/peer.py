# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The same work done by another S3 server, in turn with ours.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlsplit

from attrs import frozen

from bench.messages import Credentials
from bench.objects import LARGE, SMALL, NewObjects, connections, small_messages, uploads
from bench.pairs import Figure, Target, compare
from bench.processes import listener
from bench.servers import Server
from bench.stage import SSE_S3, Endpoint, Stage, rate, transfer

_LISTED = 10_000

#: Against MinIO with encryption; another peer may be faster or slower.
_LARGE_GET = {1: Target(1.5, 2.2), 8: Target(1.1, 1.5)}
_LARGE_PUT = {1: Target(1.0, 1.5), 8: Target(1.3, 2.0)}
_SMALL_GET, _SMALL_PUT, _PAGE = Target(2.0, 4.0), Target(3.0, 6.0), Target(5.0, 12.0)


@frozen
class Peer:
    """
    Another server, with a bucket for this run.

    :ivar sse: The headers that ask it for encryption; none if it refuses them.
    """

    endpoint: Endpoint
    sse: Sequence[tuple[str, str]]


def peer_endpoint(url: str) -> Endpoint:
    """
    Another server, and the credentials for it from the environment.

    :raises ValueError: The URL or the environment does not say enough.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"the peer must be http://host:port, not {url}")
    variables = os.environ.get
    access_key = variables("PEER_ACCESS_KEY") or variables("AWS_ACCESS_KEY_ID")
    secret_key = variables("PEER_SECRET_KEY") or variables("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        raise ValueError("set PEER_ACCESS_KEY and PEER_SECRET_KEY for the peer")
    port = parts.port or 80
    here = parts.hostname in ("localhost", "127.0.0.1")
    server = Server("peer", (parts.hostname, port), listener(port) if here else None)
    return Endpoint(server, Credentials(access_key, secret_key), f"kypello-bench-{os.getpid()}")


def against(stage: Stage, ours: Endpoint, theirs: Endpoint) -> None:
    """
    Compare with another server, and leave nothing behind there.
    """
    with _bucket(theirs):
        peer = Peer(theirs, _encryption(theirs))
        _large(stage, ours, peer)
        _small(stage, ours, peer)
        _listing(stage, ours, peer)
        memories = {name: _mebibytes(one.server) for name, one in (("us", ours), ("peer", theirs))}
        if memories["us"] is not None:
            more = {"MiB of the peer": memories["peer"]}
            stage.add(Figure("memory after all this", memories["us"], "MiB", None, more))


@contextmanager
def _bucket(theirs: Endpoint) -> Iterator[None]:
    theirs.ask(theirs.message("PUT"))
    try:
        yield
    finally:
        while names := _listed(theirs):
            theirs.send(theirs.message("DELETE", name) for name in names)
        theirs.ask(theirs.message("DELETE"))


def _listed(endpoint: Endpoint) -> list[str]:
    _, body = endpoint.ask(endpoint.message("GET", "?list-type=2"))
    return [piece.partition(b"</Key>")[0].decode() for piece in body.split(b"<Key>")[1:]]


def _encryption(theirs: Endpoint) -> Sequence[tuple[str, str]]:
    try:
        theirs.store("encrypted")
    except RuntimeError as error:
        print(f"the peer encrypts nothing: {error}", file=sys.stderr)
        return ()
    return SSE_S3


def _large(stage: Stage, ours: Endpoint, peer: Peer) -> None:
    body = stage.random.randbytes(LARGE)
    for streams in (1, 8):
        what = f"64 MiB, {connections(streams)}"
        puts = uploads(ours, body, streams)
        their_puts = uploads(peer.endpoint, body, streams, peer.sse)
        stage.add(
            compare(
                f"encrypted PUT of {what}",
                partial(transfer, ours.server, puts, LARGE, 2 * streams),
                partial(transfer, peer.endpoint.server, their_puts, LARGE, 2 * streams),
                reference="the peer",
                unit="GB/s",
                cpu_unit="CPU s/GB",
                pairs=stage.pairs,
                target=_LARGE_PUT[streams],
            )
        )
        names = [f"written/{number}" for number in range(streams)]
        gets = [ours.message("GET", name) for name in names]
        their_gets = [peer.endpoint.message("GET", name) for name in names]
        stage.add(
            compare(
                f"encrypted GET of {what}",
                partial(transfer, ours.server, gets, LARGE, 4 * streams),
                partial(transfer, peer.endpoint.server, their_gets, LARGE, 4 * streams),
                reference="the peer",
                unit="GB/s",
                cpu_unit="CPU s/GB",
                pairs=stage.pairs,
                target=_LARGE_GET[streams],
            )
        )


def _small(stage: Stage, ours: Endpoint, peer: Peer) -> None:
    body = stage.random.randbytes(SMALL)
    gets, puts = small_messages(ours, body, SSE_S3)
    their_gets, their_puts = small_messages(peer.endpoint, body, peer.sse)
    server = peer.endpoint.server
    for name, mine, other, target in (
        (
            "PUT of 4 KiB",
            NewObjects(ours, body, SSE_S3),
            NewObjects(peer.endpoint, body, peer.sse),
            _SMALL_PUT,
        ),
        (
            "PUT of 4 KiB in place of others",
            partial(rate, ours.server, puts, 3000),
            partial(rate, server, their_puts, 3000),
            _SMALL_PUT,
        ),
        (
            "GET of 4 KiB",
            partial(rate, ours.server, gets, 3000),
            partial(rate, server, their_gets, 3000),
            _SMALL_GET,
        ),
    ):
        stage.add(
            compare(
                f"encrypted {name}, 32 connections",
                mine,
                other,
                reference="the peer",
                unit="per s",
                cpu_unit="CPU us each",
                pairs=stage.pairs,
                target=target,
            )
        )


def _listing(stage: Stage, ours: Endpoint, peer: Peer) -> None:
    for endpoint, headers in ((ours, SSE_S3), (peer.endpoint, peer.sse)):
        endpoint.send(
            endpoint.message("PUT", f"listed/{number:08}", b"x", headers)
            for number in range(_LISTED)
        )
    page = "?list-type=2&prefix=listed%2F"
    stage.add(
        compare(
            f"list 1000 of {_LISTED} encrypted keys",
            partial(rate, ours.server, [ours.message("GET", page)], 40, 1),
            partial(rate, peer.endpoint.server, [peer.endpoint.message("GET", page)], 40, 1),
            reference="the peer",
            unit="pages per s",
            cpu_unit="CPU us each",
            pairs=stage.pairs,
            target=_PAGE,
        )
    )


def _mebibytes(server: Server) -> float | None:
    size = server.memory()
    return None if size is None else size / 1024 / 1024
