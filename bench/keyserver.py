# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Key servers: how fast one answers, and how often an object server asks.
"""

import json
import os
import re
import shutil
import ssl
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.client import Client, fetch
from bench.messages import Message, plain
from bench.objects import SMALL, small_messages
from bench.pairs import Figure, Sample, Target, compare
from bench.servers import CREDENTIALS, Server, free_port, kypello, running
from bench.stage import CLIENTS, SSE_S3, Endpoint, Stage, used
from kypello.crypto.apikey import APIKey
from kypello.kes.certificates import Signer, make_certificate

_KEY = "bench-key"
_LIFETIME = 86400.0
_OURS = (
    sys.executable,
    "-c",
    "import sys; from kypello.kes_cli import main; sys.exit(main(sys.argv[1:]))",
)

#: What an audit log says of each call that uses a key.
_USES = re.compile(rb'"path":"/v1/key/(generate|decrypt|encrypt)/')

_CONFIG = """
address: 127.0.0.1:{port}
admin: {{identity: {identity}}}
tls: {{key: {folder}/server.key, cert: {folder}/server.crt}}
log: {{error: on, audit: {audit}}}
keystore: {{fs: {{path: {folder}/keys}}}}
"""

#: Data keys in one second.
_RATE = Target(3000, 6000)

#: Calls for 1000 requests.
_CALLS = Target(2, 1, least=True)


@frozen
class KeyServer:
    """
    A key server with one master key.

    :ivar trust: What its clients need.
    :ivar settings: The same for an object server.
    :ivar log: What it has printed.
    """

    server: Server
    trust: ssl.SSLContext
    settings: Mapping[str, str]
    log: Path

    def message(self, call: str, body: bytes = b"") -> Message:
        """
        A call that is about the key.
        """
        return plain("POST", f"/v1/key/{call}/{_KEY}", self.server.host, body)


@contextmanager
def key_server(
    folder: Path, command: Sequence[str] = _OURS, audit: bool = False
) -> Iterator[KeyServer]:
    """
    Run a key server with an ``fs`` key store, in an empty folder.

    :param command: Ours, or the original.
    :param audit: Whether it tells about each request.
    """
    folder.mkdir()
    api_key = APIKey.generate(os.urandom)
    client = Signer("client", api_key.private_key)
    server = Signer("server", ec.generate_private_key(ec.SECP256R1()))
    for signer in (client, server):
        _write_certificate(folder, signer)
    port = free_port()
    config = folder / "config.yml"
    config.write_text(
        _CONFIG.format(
            port=port,
            identity=api_key.identity,
            folder=folder,
            audit="on" if audit else "off",
        )
    )
    trust = ssl.create_default_context(cafile=str(folder / "server.crt"))
    trust.load_cert_chain(folder / "client.crt", folder / "client.key")
    settings = {
        "MINIO_KMS_KES_ENDPOINT": f"https://127.0.0.1:{port}",
        "MINIO_KMS_KES_KEY_NAME": _KEY,
        "MINIO_KMS_KES_API_KEY": api_key.text,
        "MINIO_KMS_KES_CAPATH": str(folder / "server.crt"),
    }
    log = folder / "log"
    everything = [*command, "server", "--config", str(config)]
    with running("key server", everything, port, log, dict(os.environ)) as started:
        made = KeyServer(started, trust, settings, log)
        head, answer = fetch(started.address, made.message("create"), trust)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"no key: {head!r} {answer!r}")
        yield made


def _write_certificate(folder: Path, signer: Signer) -> None:
    key = signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    made = make_certificate(
        signer, signer, ["127.0.0.1"], now=time.time(), lifetime=_LIFETIME, random=os.urandom
    )
    (folder / f"{signer.name}.key").write_bytes(key)
    (folder / f"{signer.name}.key").chmod(0o600)
    (folder / f"{signer.name}.crt").write_bytes(made.public_bytes(Encoding.PEM))


def original() -> str | None:
    """
    Where the original key server is: built by ``make tools``, or installed.
    """
    tools = os.environ.get("KYPELLO_TOOLS") or str(Path.home() / ".cache" / "kypello-tools")
    return shutil.which("kes", path=os.pathsep.join((tools, os.environ.get("PATH", os.defpath))))


def generating(stage: Stage) -> None:
    """
    Data keys made, and opened, per second over 32 kept-alive connections with mutual TLS.
    """
    with key_server(stage.root / "kes") as ours:
        path = original()
        if path is None:
            for what, use in _KINDS.items():
                use(ours)
                samples = sorted((use(ours) for _ in range(stage.pairs)), key=lambda one: one.value)
                middle = samples[len(samples) // 2]
                more = {"CPU us each": middle.cpu}
                stage.add(Figure(f"{what} our key server", middle.value, "per s", _RATE, more))
            return
        with key_server(stage.root / "original", [path]) as theirs:
            for what, use in _KINDS.items():
                compared = compare(
                    f"{what} our key server, 32 connections",
                    partial(use, ours),
                    partial(use, theirs),
                    reference="the original",
                    unit="per s",
                    cpu_unit="CPU us each",
                    pairs=stage.pairs,
                )
                stage.add(compared)
                more = {"CPU us each": compared.our_cpu}
                stage.add(Figure(f"{what} our key server", compared.ours, "per s", _RATE, more))


def _generate(keys: KeyServer) -> Sample:
    return _use(keys, keys.message("generate", b"{}"))


def _open(keys: KeyServer) -> Sample:
    _head, answer = fetch(keys.server.address, keys.message("generate", b"{}"), keys.trust)
    sealed = json.dumps({"ciphertext": json.loads(answer)["ciphertext"]}).encode()
    return _use(keys, keys.message("decrypt", sealed))


def _use(keys: KeyServer, message: Message) -> Sample:
    count = 6000
    with Client(keys.server.address, CLIENTS, keys.trust) as client:
        before = keys.server.cpu()
        elapsed = client.run(islice(cycle([message]), count))
        return Sample(count / elapsed, used(keys.server, before, count / 1e6))


_KINDS = {"data keys of": _generate, "data keys opened by": _open}


def calls(stage: Stage) -> None:
    """
    How many calls of a key server 1000 requests for encrypted objects of one bucket take: the mean
    of the first 10 000, all that is needed once included.
    """
    requests = 10_000
    with (
        key_server(stage.root / "audited", audit=True) as keys,
        kypello(stage.root / "counted", stage.workers, keys.settings) as server,
    ):
        ours = Endpoint(server, CREDENTIALS)
        ours.ask(ours.message("PUT"))
        before = _uses(keys.log)
        gets, puts = small_messages(ours, stage.random.randbytes(SMALL), SSE_S3)
        heads = [ours.message("HEAD", f"small/{number:04}") for number in range(len(gets))]
        pages = [ours.message("GET", "?list-type=2")]
        ours.send(puts)
        ours.send(islice(cycle([*gets, *heads, *puts, *pages]), requests - len(puts)))
        used_now = _uses(keys.log) - before
    name = "KMS calls of 1000 SSE-S3 requests on one bucket"
    each = used_now / requests * 1000
    stage.add(Figure(name, each, "calls", _CALLS, {"of the first 10 000": used_now}))


def _uses(log: Path) -> int:
    return len(_USES.findall(log.read_bytes()))
