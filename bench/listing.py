# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A bucket of very many keys: pages of a listing, and single requests against a bucket of few.
"""

import sys
from functools import partial
from itertools import repeat
from time import perf_counter

from attrs import evolve

from bench.client import Client
from bench.filling import fill
from bench.messages import Message
from bench.objects import SMALL
from bench.pairs import Figure, Target, compare
from bench.stage import SSE_S3, Endpoint, Stage, rate, used

#: How many keys the other bucket has, and a page of a listing.
FEW = PAGE = 1000

_TEMPLATE = "template"
_ROUNDS = 40

#: A listing of a thousand keys costs the server at most so many milliseconds of CPU time.
_TARGET = Target(10.0, 3.0, least=True)


def listings(stage: Stage, keys: int) -> None:
    """
    Measure both buckets, in a data directory of their own.
    """
    with stage.ours("many") as ours:
        for endpoint in _buckets(ours):
            endpoint.ask(endpoint.message("PUT"))
            endpoint.store(_TEMPLATE, b"x")
    started = perf_counter()
    data = stage.root / "many"
    for endpoint, count in zip(_buckets(ours), (keys, FEW), strict=True):
        fill(data, endpoint.bucket, _TEMPLATE, map(_name, range(count)))
    print(f"{keys} keys made in {perf_counter() - started:.1f} s", file=sys.stderr)
    with stage.ours("many") as ours:
        many, few = _buckets(ours)
        for name, start in (("first", ""), ("middle", f"&start-after={_name(keys // 2)}")):
            page = many.message("GET", f"?list-type=2&prefix=listed{start}")
            _check(many, page)
            stage.add(_page(many, page, f"list 1000 of {keys} keys, {name} page"))
        _singles(stage, many, few, keys)


def _buckets(ours: Endpoint) -> tuple[Endpoint, Endpoint]:
    return evolve(ours, bucket="many"), evolve(ours, bucket="few")


def _name(number: int) -> str:
    return f"listed{number:08}"


def _check(many: Endpoint, page: Message) -> None:
    _, body = many.ask(page)
    if body.count(b"<Size>1</Size>") != PAGE:
        raise RuntimeError(f"a page of something else: {body[:500]!r}")


def _page(endpoint: Endpoint, page: Message, name: str) -> Figure:
    server = endpoint.server
    with Client(server.address, 1) as client:
        client.run(repeat(page, 3))
        before = server.cpu()
        elapsed = client.run(repeat(page, _ROUNDS))
        cpu = used(server, before, _ROUNDS / 1e3)
    assert cpu is not None
    return Figure(name, cpu, "CPU ms", _TARGET, {"ms": elapsed / _ROUNDS * 1e3})


def _singles(stage: Stage, many: Endpoint, few: Endpoint, keys: int) -> None:
    """
    Requests for keys all over the bucket: it must not matter how many others there are.
    """
    body = stage.random.randbytes(SMALL)
    ours = [_name(stage.random.randrange(keys)) for _ in range(FEW)]
    theirs = [_name(number) for number in stage.random.sample(range(FEW), FEW)]
    for method, content, headers, count in (("HEAD", b"", (), 6000), ("PUT", body, SSE_S3, 3000)):
        heads = [
            [endpoint.message(method, name, content, headers) for name in names]
            for endpoint, names in ((many, ours), (few, theirs))
        ]
        stage.add(
            compare(
                f"{method} in a bucket of {keys} keys, 32 connections",
                partial(rate, many.server, heads[0], count),
                partial(rate, few.server, heads[1], count),
                reference=f"a bucket of {FEW}",
                unit="per s",
                cpu_unit="CPU us each",
                pairs=stage.pairs,
            )
        )
