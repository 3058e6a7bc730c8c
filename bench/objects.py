# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Objects up and down: large ones over few connections, small ones over many.
"""

from collections.abc import Sequence
from functools import partial
from hashlib import sha256

from attrs import define, frozen

from bench.limits import durable_files, one_core_md5
from bench.messages import UNSIGNED, Message, plain
from bench.pairs import Sample, Target, compare
from bench.servers import Server
from bench.stage import CLIENTS, SSE_KMS, SSE_S3, Endpoint, Stage, rate, transfer

MIB = 1024 * 1024

#: Bytes of a large object and of a small one.
LARGE, SMALL = 64 * MIB, 4096

#: How many small objects there are, at least, and how many come at a time where they are new.
_FEW, _NEW = 64, 2000

_GET = {1: Target(0.75, 1.0), 8: Target(0.6, 0.8)}
_PUT = {1: Target(0.65, 0.8), 8: Target(0.75, 0.95)}


@frozen
class Scale:
    """
    How large objects are moved over so many connections.

    :ivar size: Bytes of one object.
    :ivar gets: How many are read in one measurement.
    :ivar puts: How many are written.
    """

    streams: int
    size: int
    gets: int
    puts: int


#: The targets, and what comes beyond; what moves at once stays below 2 GiB.
USUAL = (Scale(1, LARGE, 8, 2), Scale(8, LARGE, 24, 16))
SCALING = (*USUAL, Scale(64, 16 * MIB, 128, 64), Scale(512, 4 * MIB, 512, 512))


def large_objects(
    stage: Stage, ours: Endpoint, static: Server | None, scales: Sequence[Scale]
) -> None:
    """
    Encrypted objects: GET against plain files of nginx, durable PUT against MD5 on one core.
    """
    for scale in scales:
        body = stage.random.randbytes(scale.size)
        what = f"{scale.size // MIB} MiB, {connections(scale.streams)}"
        _check(ours, body)
        if static is not None:
            (stage.root / "files" / "large").write_bytes(body)
            gets = [ours.message("GET", "large")] * scale.streams
            files = [plain("GET", "/large", static.host)] * scale.streams
            stage.add(
                compare(
                    f"encrypted GET of {what}",
                    partial(transfer, ours.server, gets, scale.size, scale.gets),
                    partial(transfer, static, files, scale.size, scale.gets),
                    reference="nginx, sendfile of a plain file",
                    unit="GB/s",
                    cpu_unit="CPU s/GB",
                    pairs=stage.pairs,
                    target=_GET.get(scale.streams),
                )
            )
        puts = uploads(ours, body, scale.streams)
        stage.add(
            compare(
                f"encrypted, signed, durable PUT of {what}",
                partial(transfer, ours.server, puts, scale.size, scale.puts),
                partial(one_core_md5, body),
                reference="MD5 on one core",
                unit="GB/s",
                cpu_unit="CPU s/GB",
                pairs=stage.pairs,
                target=_PUT.get(scale.streams),
            )
        )


def unsigned_uploads(stage: Stage, ours: Endpoint) -> None:
    """
    SSE-KMS, whose ETag is no MD5, with a payload that the signature leaves out: what an SDK
    sends over TLS.
    """
    body = stage.random.randbytes(LARGE)
    put = ours.message("PUT", "written", body, SSE_KMS, UNSIGNED)
    stage.add(
        compare(
            "SSE-KMS, unsigned, durable PUT of 64 MiB, 1 connection",
            partial(transfer, ours.server, [put], LARGE, 4),
            partial(one_core_md5, body),
            reference="MD5 on one core",
            unit="GB/s",
            cpu_unit="CPU s/GB",
            pairs=stage.pairs,
            target=Target(1.2, 2.0),
        )
    )


def small_objects(
    stage: Stage, ours: Endpoint, static: Server | None, clients: int, targets: bool = True
) -> None:
    """
    Encrypted objects of 4 KiB: GET against nginx, durable PUT against files, one by one.
    """
    body = stage.random.randbytes(SMALL)
    # No two clients write the same object at once.
    gets, puts = small_messages(ours, body, SSE_S3, max(_FEW, 2 * clients))
    ours.send(puts)
    what = f"4 KiB, {connections(clients)}"
    if static is not None:
        (stage.root / "files" / "small").write_bytes(body)
        file = plain("GET", "/small", static.host)
        stage.add(
            compare(
                f"encrypted, signed GET of {what}",
                partial(rate, ours.server, gets, 6000, clients),
                partial(rate, static, [file], 20_000, clients),
                reference="nginx, as many workers",
                unit="per s",
                cpu_unit="CPU us each",
                pairs=stage.pairs,
                target=Target(0.30, 0.45) if targets else None,
            )
        )
    for kind, ours_put in (
        ("", NewObjects(ours, body, SSE_S3, clients)),
        (" in place of others", partial(rate, ours.server, puts, 3000, clients)),
    ):
        stage.add(
            compare(
                f"encrypted, signed, durable PUT of {what}{kind}",
                ours_put,
                partial(durable_files, stage.root / "durable", body),
                reference="durable files, one thread",
                unit="per s",
                cpu_unit="CPU us each",
                pairs=stage.pairs,
                target=Target(2.0, 4.0) if targets else None,
            )
        )


def scaling(stage: Stage, ours: Endpoint, static: Server | None) -> None:
    """
    The same over 1, 8, 64 and 512 connections.
    """
    large_objects(stage, ours, static, SCALING)
    for clients in (1, 8, 64, 512):
        small_objects(stage, ours, static, clients, targets=False)
    contention(stage, ours, 512)


def contention(stage: Stage, ours: Endpoint, clients: int) -> None:
    """
    Many clients overwrite few objects, against as many that have objects of their own.
    """
    body = stage.random.randbytes(SMALL)
    _, shared = small_messages(ours, body, SSE_S3)
    _, apart = small_messages(ours, body, SSE_S3, 2 * clients)
    stage.add(
        compare(
            f"PUT of 4 KiB over {_FEW} objects, {connections(clients)}",
            partial(rate, ours.server, shared, 4 * clients, clients),
            partial(rate, ours.server, apart, 4 * clients, clients),
            reference="objects of their own",
            unit="per s",
            cpu_unit="CPU us each",
            pairs=stage.pairs,
        )
    )


@define
class NewObjects:
    """
    Small objects that are not there yet, some thousands each time.
    """

    _endpoint: Endpoint
    _body: bytes
    _headers: Sequence[tuple[str, str]]
    _clients: int = CLIENTS
    _made: int = 0

    def __call__(self) -> Sample:
        """
        Store them, per second; they are signed before.
        """
        names = [f"new/{number:08}" for number in range(self._made, self._made + _NEW)]
        self._made += _NEW
        digest = sha256(self._body).hexdigest()
        puts = [
            self._endpoint.message("PUT", name, self._body, self._headers, digest) for name in names
        ]
        return rate(self._endpoint.server, puts, _NEW, self._clients)


def small_messages(
    endpoint: Endpoint, body: bytes, headers: Sequence[tuple[str, str]], count: int = _FEW
) -> tuple[list[Message], list[Message]]:
    """
    GET and PUT of so many small objects.
    """
    names = [f"small/{number:04}" for number in range(count)]
    digest = sha256(body).hexdigest()
    gets = [endpoint.message("GET", name) for name in names]
    return gets, [endpoint.message("PUT", name, body, headers, digest) for name in names]


def uploads(
    endpoint: Endpoint,
    body: bytes,
    streams: int,
    headers: Sequence[tuple[str, str]] = SSE_S3,
) -> list[Message]:
    """
    PUT of one body under a name for each stream.
    """
    digest = sha256(body).hexdigest()
    names = [f"written/{number}" for number in range(streams)]
    return [endpoint.message("PUT", name, body, headers, digest) for name in names]


def connections(count: int) -> str:
    """
    So many connections, in words.
    """
    return "1 connection" if count == 1 else f"{count} connections"


def _check(ours: Endpoint, body: bytes) -> None:
    ours.store("large", body)
    head, stored = ours.ask(ours.message("GET", "large"))
    if stored != body or b"aes256" not in head.lower():
        raise RuntimeError("what is read is not what was written, or not encrypted")
