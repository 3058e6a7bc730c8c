# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a person reads when the server has started.
"""

from collections.abc import Iterator
from shlex import quote

from kypello.kmsconfig import KESSettings, StaticKeySettings
from kypello.prepared import Prepared
from kypello.service import Running
from kypello.supervisor import worker_count

_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  # to be recognized, not listened on


def banner(running: Running, *, show_secrets: bool) -> str:
    """
    Tell where the server is, who may use it, what encrypts, and how to begin.

    :param show_secrets: Whether credentials that were made just now are shown.
    """
    return "\n".join(["", *_lines(running, show_secrets), ""])


def _lines(running: Running, show_secrets: bool) -> Iterator[str]:
    prepared = running.prepared
    config, port = prepared.config, running.port
    scheme = "http" if prepared.tls_files is None else "https"
    host = "127.0.0.1" if config.host in _EVERYWHERE else config.host
    endpoint = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    user = prepared.root.access_key
    yield f"Endpoint     {endpoint}" + (
        "  (on all addresses of this machine)" if config.host in _EVERYWHERE else ""
    )
    yield f"Data         {config.directory.resolve()}"
    yield f"Workers      {worker_count(config)}"
    yield from _credentials(prepared, show_secrets)
    yield from _keys(running)
    yield f"Encryption   {_encryption(config.auto_encryption)}"
    yield ""
    password = "PASSWORD"  # noqa: S105  # stands for it
    if prepared.made_root and show_secrets:
        password = prepared.root.secret_key
    yield "To begin, paste one of these:"
    insecure = "" if scheme == "http" else " --insecure"
    yield f"  mc{insecure} alias set kypello {endpoint} {quote(user)} {password}"
    yield (
        f"  AWS_ACCESS_KEY_ID={quote(user)} AWS_SECRET_ACCESS_KEY={password} aws --endpoint-url"
        f" {endpoint} s3 mb s3://bucket"
    )
    yield (
        f'  boto3.client("s3", endpoint_url="{endpoint}", aws_access_key_id="{user}",'
        f' aws_secret_access_key="{password}")'
    )


def _credentials(prepared: Prepared, show_secrets: bool) -> Iterator[str]:
    file = prepared.directory.credentials_file.resolve()
    if prepared.config.root is not None:
        yield f"Credentials  {prepared.root.access_key}, from the environment"
    elif prepared.made_root and show_secrets:
        yield f"Credentials  {prepared.root.access_key}  {prepared.root.secret_key}"
        yield f"             made now, shown only this once, and kept in {file}"
    else:
        yield f"Credentials  {prepared.root.access_key}, from {file}"


def _keys(running: Running) -> Iterator[str]:
    prepared = running.prepared
    kms = prepared.kms
    if prepared.embedded is not None:
        yield "Key server   embedded, over mutual TLS on loopback"
        name = prepared.embedded.settings.key_name
    elif isinstance(kms, KESSettings):
        yield f"Key server   KES, {', '.join(kms.endpoints)}"
        name = kms.key_name
    else:
        assert isinstance(kms, StaticKeySettings)
        yield "Key server   none: one static key, from the environment"
        name = kms.name
    if running.fingerprint:
        yield f"Master key   {name}, fingerprint {running.fingerprint}"
    else:
        yield f"Master key   {name}, which cannot be used yet; the server goes on trying:"
        yield f"             {running.trouble}"
    if prepared.embedded is not None:
        sentences = _sentences(prepared.embedded.notice)
        yield from (f"             {sentence}" for sentence in sentences)


def _encryption(automatic: bool) -> str:
    if automatic:
        return "SSE-S3 for every object that asks for nothing else"
    return (
        "SSE-S3 for objects that ask for it, and in buckets set to it (mc encrypt set sse-s3);"
        " for all others set MINIO_KMS_AUTO_ENCRYPTION=on"
    )


def _sentences(text: str) -> list[str]:
    return [f"{one.rstrip('.')}." for one in text.split(". ")]
