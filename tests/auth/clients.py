# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Requests that botocore signs, as the server sees them.
"""

from urllib.parse import parse_qsl, quote, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from kypello.auth.dates import parse_timestamp
from kypello.auth.request import RequestHead
from tests.auth.examples import IDENTITY

CREDENTIALS = Credentials(IDENTITY.access_key, IDENTITY.secret_key)


def seen(request: AWSRequest) -> RequestHead:
    """
    The head of a request that botocore made.
    """
    url = urlsplit(request.url)
    headers = {name.lower(): str(value) for name, value in request.headers.items()}
    headers.setdefault("host", url.netloc)
    return RequestHead(
        request.method,
        url.path,
        tuple(parse_qsl(url.query, keep_blank_values=True, errors="surrogateescape")),
        tuple(headers.items()),
    )


def request(
    method: str,
    key: str,
    query: str = "",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> AWSRequest:
    """
    A request that is not signed yet.

    :param key: Not escaped yet.
    """
    url = f"http://127.0.0.1:9000/bucket/{quote(key, safe='/-._~')}"
    return AWSRequest(method, url + ("?" + query if query else ""), headers or {}, body)


def sign_header(unsigned: AWSRequest, region: str = "us-east-1") -> tuple[RequestHead, float]:
    """
    Sign in the ``Authorization`` header; give the head and the time of the signature.
    """
    S3SigV4Auth(CREDENTIALS, "s3", region).add_auth(unsigned)
    head = seen(unsigned)
    return head, _time(head.header("x-amz-date"))


def presign(unsigned: AWSRequest, expires: int = 600) -> tuple[RequestHead, float]:
    """
    Sign in the query; give the head and the time of the signature.
    """
    S3SigV4QueryAuth(CREDENTIALS, "s3", "us-east-1", expires=expires).add_auth(unsigned)
    head = seen(unsigned)
    return head, _time(head.parameter("X-Amz-Date"))


def _time(text: str | None) -> float:
    moment = parse_timestamp(text or "")
    assert moment is not None
    return moment
