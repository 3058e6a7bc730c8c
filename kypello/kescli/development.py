# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kes server --dev``: a key server to try things with.

Certificate, administrator and configuration are made now; keys are in memory, and gone when it
ends.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from kypello.crypto.apikey import APIKey
from kypello.kes.certificates import Signer, make_certificate
from kypello.kes.config import KeyServerConfig, parse_config
from kypello.kescli.setup import private_pem, public_pem
from kypello.keystore.memory import MemorySettings

#: How long the certificate is good for, in seconds.
_LIFETIME = 90 * 24 * 3600.0

_LOOPBACK = "127.0.0.1"
_PORT = 7373


@contextmanager
def development(address: tuple[str, int] | None) -> Iterator[tuple[KeyServerConfig, str]]:
    """
    Make a configuration whose files are there meanwhile, and what there is to say about it.

    :param address: Where to listen; ``None`` for loopback.
    """
    host, port = address or (_LOOPBACK, _PORT)
    admin = APIKey.generate(os.urandom)
    names = ["localhost", _LOOPBACK, *([host] if host not in ("", _LOOPBACK) else [])]
    with TemporaryDirectory(prefix="kypello-kes-") as folder:
        key, cert = Path(folder, "server.key"), Path(folder, "server.crt")
        signer = Signer("localhost", ec.generate_private_key(ec.SECP256R1()))
        made = make_certificate(
            signer, signer, names, now=time.time(), lifetime=_LIFETIME, random=os.urandom
        )
        # The folder is nobody else's.
        key.touch(mode=0o600)
        key.write_bytes(private_pem(signer))
        cert.write_bytes(public_pem(made))
        document = {
            "address": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "admin": {"identity": admin.identity},
            "tls": {"key": str(key), "cert": str(cert)},
            "cache": {"expiry": {"any": "5m", "unused": "30s"}},
            "keystore": {},
        }
        config = parse_config(yaml.safe_dump(document), "--dev", {}, lambda _: MemorySettings())
        yield config, _words(config, admin)


def _words(config: KeyServerConfig, admin: APIKey) -> str:
    server = f"{config.host if config.host not in ('', '0.0.0.0', '::') else _LOOPBACK}"  # noqa: S104
    server = f"[{server}]:{config.port}" if ":" in server else f"{server}:{config.port}"
    return f"""\
A key server to try things with. Its keys are in memory, and gone when it ends.

Endpoint  https://{server}
API Key   {admin.text}
Admin     {admin.identity}

In another shell:

    export KES_SERVER={server}
    export KES_API_KEY={admin.text}
    kypello kes key create my-key -k
"""
