# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kes init``: all that a key server needs, in one folder.
"""

import os
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias

import yaml
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kypello.crypto.apikey import APIKey
from kypello.document import parse_duration
from kypello.kes.certificates import Signer, make_authority, make_certificate
from kypello.kes.wire import is_name
from kypello.kescli.command import CommandError

#: Content and mode of a file, by its name.
_Files: TypeAlias = Mapping[str, tuple[bytes, int]]

#: What an object server asks for.
_RULES = (
    "/v1/key/create/*",
    "/v1/key/describe/*",
    "/v1/key/list/*",
    "/v1/key/generate/*",
    "/v1/key/encrypt/*",
    "/v1/key/decrypt/*",
    "/v1/key/hmac/*",
    "/v1/status",
    "/v1/ready",
    "/v1/metrics",
    "/v1/api",
)
_PRIVATE, _PUBLIC = 0o600, 0o644


@frozen
class _Plan:
    """
    What a key server is to be.

    :ivar folder: Absolute.
    :ivar hosts: Names and addresses that clients know it by.
    """

    folder: Path
    address: str
    hosts: tuple[str, ...]
    key: str
    lifetime: float
    self_signed: bool
    passphrase_file: Path | None


def init(options: Namespace) -> int:
    """
    Make certificates, API keys and a configuration; nothing is overwritten.

    :raises CommandError: It cannot be done; nothing is there then that was not there before.
    """
    plan = _plan(options)
    admin, client = APIKey.generate(os.urandom), APIKey.generate(os.urandom)
    files = {
        **_certificates(plan),
        "admin.apikey": (admin.text.encode("ascii") + b"\n", _PRIVATE),
        "client.apikey": (client.text.encode("ascii") + b"\n", _PRIVATE),
        "kes.yml": (_config(plan, admin.identity, client.identity), _PUBLIC),
    }
    _write(plan.folder, files)
    print(_next_steps(plan))
    return 0


def _plan(options: Namespace) -> _Plan:
    asking = not options.yes and sys.stdin.isatty()
    address = _ask(asking, "Address to listen on", options.address or "127.0.0.1:7373")
    host, _, port = address.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise CommandError(f"{address} has no port: give HOST:PORT")
    if host and _address(host) is None:
        raise CommandError(f"{host} is no IP address of this machine")
    given = ",".join(options.host) or _usual(host)
    names = _ask(asking, "Names and addresses that clients use", given)
    key = _ask(asking, "Master key to make", options.key or "my-key")
    if not is_name(key):
        raise CommandError(f"{key} is no key name: up to 80 letters, digits, - and _")
    lifetime = parse_duration(options.expiry)
    if not lifetime:
        raise CommandError("--expiry must be a duration such as 8760h")
    passphrase = options.passphrase_file
    if passphrase is not None and not passphrase.is_file():
        raise CommandError(f"{passphrase}: there is no such file")
    hosts = tuple(one for name in names.split(",") if (one := name.strip()))
    return _Plan(
        options.directory.absolute(),
        address,
        hosts,
        key,
        lifetime,
        options.self_signed,
        None if passphrase is None else passphrase.absolute(),
    )


def _usual(host: str) -> str:
    address = _address(host)
    if address is None or address in ("0.0.0.0", "::"):  # noqa: S104  # what somebody wants
        return "localhost,127.0.0.1"
    return f"localhost,{address}"


def _address(host: str) -> str | None:
    try:
        return str(ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def _ask(asking: bool, question: str, usual: str) -> str:
    return (input(f"{question} [{usual}]: ").strip() or usual) if asking else usual


def _certificates(plan: _Plan) -> _Files:
    now, lifetime = time.time(), plan.lifetime
    server = Signer(plan.hosts[0], ec.generate_private_key(ec.SECP256R1()))
    if plan.self_signed:
        leaf = make_certificate(
            server, server, plan.hosts, now=now, lifetime=lifetime, random=os.urandom
        )
        return {
            "server.key": (private_pem(server), _PRIVATE),
            "server.crt": (public_pem(leaf), _PUBLIC),
        }
    authority = Signer("Kypello key server CA", ec.generate_private_key(ec.SECP256R1()))
    root = make_authority(authority, now=now, lifetime=lifetime, random=os.urandom)
    leaf = make_certificate(
        server, authority, plan.hosts, now=now, lifetime=lifetime, random=os.urandom
    )
    return {
        "ca.key": (private_pem(authority), _PRIVATE),
        "ca.crt": (public_pem(root), _PUBLIC),
        "server.key": (private_pem(server), _PRIVATE),
        "server.crt": (public_pem(leaf), _PUBLIC),
    }


def private_pem(signer: Signer) -> bytes:
    """
    A private key as a file has it.
    """
    return signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(certificate: x509.Certificate) -> bytes:
    """
    A certificate as a file has it.
    """
    return certificate.public_bytes(Encoding.PEM)


def _config(plan: _Plan, admin: str, client: str) -> bytes:
    folder = plan.folder
    files: dict[str, str] = {"path": str(folder / "keys")}
    if plan.passphrase_file is not None:
        files["passphrase_file"] = str(plan.passphrase_file)
    config = {
        "version": "v1",
        "address": plan.address,
        "admin": {"identity": admin},
        "tls": {"key": str(folder / "server.key"), "cert": str(folder / "server.crt")},
        "policy": {"client": {"allow": list(_RULES), "identities": [client]}},
        "keys": [{"name": plan.key}],
        "keystore": {"fs": files},
        "kypello": {"audit": {"file": str(folder / "audit.log")}},
    }
    return yaml.safe_dump(config, sort_keys=False).encode()


def _write(folder: Path, files: _Files) -> None:
    """
    Write all files or none.
    """
    taken = [name for name in files if (folder / name).exists()]
    if taken:
        raise CommandError(f"{folder} has {', '.join(taken)} already: nothing was written")
    made: list[Path] = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, (content, mode) in files.items():
            path = folder / name
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
            made.append(path)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
    except OSError as error:
        for path in made:
            path.unlink()
        raise CommandError(f"{error.filename or folder}: {error.strerror}") from error


def _next_steps(plan: _Plan) -> str:
    folder = plan.folder
    trusted = folder / ("server.crt" if plan.self_signed else "ca.crt")
    port = plan.address.rpartition(":")[2]
    host = plan.hosts[0]
    server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    config, admin, client, authority = (
        shlex.quote(str(one))
        for one in (folder / "kes.yml", folder / "admin.apikey", folder / "client.apikey", trusted)
    )
    lines = [
        f"{folder} holds all that a key server needs.",
        "",
        "Start it:",
        "",
        f"    kypello kes server --config {config}",
        "",
        "Ask it, as its administrator:",
        "",
        f"    export MINIO_KES_SERVER={server}",
        f"    export MINIO_KES_API_KEY=$(cat {admin})",
        f"    export MINIO_KMS_KES_CAPATH={authority}",
        "    kypello kes status",
        "",
        "Have an object server use it:",
        "",
        f"    export MINIO_KMS_KES_ENDPOINT=https://{server}",
        f"    export MINIO_KMS_KES_API_KEY=$(cat {client})",
        f"    export MINIO_KMS_KES_CAPATH={authority}",
        f"    export MINIO_KMS_KES_KEY_NAME={plan.key}",
        "",
        f"Whoever reads {folder / 'keys'} has the master keys"
        + ("." if plan.passphrase_file is None else ", if they have the passphrase as well."),
        "Without them, what was encrypted is lost: keep a copy elsewhere.",
    ]
    if not plan.self_signed:
        lines.append(
            f"{folder / 'ca.key'} signs the certificates of further servers; take it off this"
            " machine."
        )
    return "\n".join(lines)
