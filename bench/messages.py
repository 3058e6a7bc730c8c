# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Requests as bytes, signed once and sent again and again: a signature is good for some minutes.
"""

import time
from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import unquote

from attrs import field, frozen

from kypello.auth.request import RequestHead
from kypello.auth.sigv4 import (
    ALGORITHM,
    Scope,
    canonical_request,
    sign,
    signing_key,
    string_to_sign,
)

#: In place of the hash of a body: nobody vouches for its content.
UNSIGNED = "UNSIGNED-PAYLOAD"


@frozen
class Credentials:
    """
    Who signs.
    """

    access_key: str
    secret_key: str = field(repr=False)


@frozen
class Message:
    """
    A request.

    :ivar head: Request line and headers.
    """

    head: bytes
    body: bytes | memoryview = b""


def signed(
    credentials: Credentials,
    method: str,
    target: str,
    host: str,
    *,
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
    digest: str | None = None,
) -> Message:
    """
    Sign a request with the hash of its body, as SDKs do over plain HTTP.

    :param headers: Further ones, lower-case names; all are signed.
    :param digest: The hash when it is known already, or :data:`UNSIGNED`.
    """
    path, _, query = target.partition("?")
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = Scope(timestamp[:8], "us-east-1")
    if digest is None:
        digest = sha256(body).hexdigest()
    all_headers = sorted(
        (
            ("host", host),
            ("x-amz-content-sha256", digest),
            ("x-amz-date", timestamp),
            *headers,
        )
    )
    names = tuple(name for name, _ in all_headers)
    parameters = tuple(
        (unquote(name), unquote(value))
        for name, _, value in (part.partition("=") for part in query.split("&") if part)
    )
    head = RequestHead(method, path, parameters, tuple(all_headers))
    canonical = canonical_request(head, names, digest, host)
    key = signing_key(credentials.secret_key, scope)
    signature = sign(key, string_to_sign(timestamp, str(scope), canonical))
    authorization = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope},"
        f" SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers)]
    lines += [f"authorization: {authorization}", f"content-length: {len(body)}", "", ""]
    return Message("\r\n".join(lines).encode(), memoryview(body))


def plain(method: str, target: str, host: str, body: bytes = b"") -> Message:
    """
    An unsigned request.
    """
    head = f"{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
    return Message(head.encode(), body)
