# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The head of a request as signatures and policies see it.
"""

from urllib.parse import parse_qsl

from kypello.auth.request import RequestHead
from kypello.http.accesslog import host_of
from kypello.http.request import StreamingRequest


def read_head(request: StreamingRequest, host_bucket: str = "") -> RequestHead:
    """
    Take a request for what it says.

    :param host_bucket: The bucket that its host names; empty when the path names it.
    """
    head, secure = request.head, request.isSecure()
    path, _mark, query = head.target.partition(b"?")
    return RequestHead(
        head.method.decode("ascii"),
        path.decode("latin-1"),
        _read_query(query) if query else (),
        head.headers,
        secure,
        host_of(request.client),
        host_bucket,
        request.tls_version if secure else "",
    )


def _read_query(query: bytes) -> tuple[tuple[str, str], ...]:
    # Bytes that are no UTF-8 survive until the signature has been checked.
    text = query.decode("utf-8", "surrogateescape")
    return tuple(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))
