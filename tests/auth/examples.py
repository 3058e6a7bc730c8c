# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The requests that the Amazon S3 API reference signs as examples, and a chunk encoder.

Sources: "Signature Calculations for the Authorization Header" (single chunk, multiple chunks,
multiple chunks with trailing headers) and "Authenticating Requests: Using Query Parameters".
"""

from hashlib import sha256

from kypello.auth.mode import ChunkSeed
from kypello.auth.request import RequestHead
from kypello.auth.sigv4 import sign
from kypello.model import Identity

IDENTITY = Identity("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
TIMESTAMP = "20130524T000000Z"
#: 24 May 2013, 00:00:00 GMT.
NOW = 1369353600.0
SCOPE = "20130524/us-east-1/s3/aws4_request"
EMPTY = sha256().hexdigest()
HOST = "examplebucket.s3.amazonaws.com"


def authorization(signed_headers: str, signature: str, credential: str | None = None) -> str:
    """
    The value of an ``Authorization`` header.
    """
    credential = credential or f"{IDENTITY.access_key}/{SCOPE}"
    return (
        f"AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={signed_headers},"
        f"Signature={signature}"
    )


def signed(
    method: str,
    path: str,
    headers: dict[str, str],
    signature: str,
    *,
    query: tuple[tuple[str, str], ...] = (),
    host: str = HOST,
) -> RequestHead:
    """
    A request of the examples: all *headers* are signed, with host and time.
    """
    everything = {"host": host, "x-amz-date": TIMESTAMP, **headers}
    value = authorization(";".join(sorted(everything)), signature)
    return RequestHead(
        method, path, query, (*everything.items(), ("authorization", value)), secure=True
    )


GET_OBJECT = signed(
    "GET",
    "/test.txt",
    {"range": "bytes=0-9", "x-amz-content-sha256": EMPTY},
    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
)
PUT_OBJECT = signed(
    "PUT",
    "/test%24file.text",
    {
        "date": "Fri, 24 May 2013 00:00:00 GMT",
        "x-amz-content-sha256": sha256(b"Welcome to Amazon S3.").hexdigest(),
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
    },
    "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
)
GET_LIFECYCLE = signed(
    "GET",
    "/",
    {"x-amz-content-sha256": EMPTY},
    "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    query=(("lifecycle", ""),),
)
LIST_OBJECTS = signed(
    "GET",
    "/",
    {"x-amz-content-sha256": EMPTY},
    "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    query=(("max-keys", "2"), ("prefix", "J")),
)
HEADER_EXAMPLES = (GET_OBJECT, PUT_OBJECT, GET_LIFECYCLE, LIST_OBJECTS)

PRESIGNED = RequestHead(
    "GET",
    "/test.txt",
    (
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", f"{IDENTITY.access_key}/{SCOPE}"),
        ("X-Amz-Date", TIMESTAMP),
        ("X-Amz-Expires", "86400"),
        ("X-Amz-SignedHeaders", "host"),
        ("X-Amz-Signature", "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"),
    ),
    (("host", HOST),),
    secure=True,
)

#: What the chunked examples upload, in chunks of 64 KiB.
CONTENT = b"a" * 66560
SIZES = (65536, 1024, 0)
CHUNKED = signed(
    "PUT",
    "/examplebucket/chunkObject.txt",
    {
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
        "content-length": "66824",
    },
    "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    host="s3.amazonaws.com",
)
CHUNK_SIGNATURES = (
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
TRAILED = signed(
    "PUT",
    "/examplebucket/chunkObject.txt",
    {
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
        "x-amz-trailer": "x-amz-checksum-crc32c",
    },
    "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    host="s3.amazonaws.com",
)
TRAILED_SIGNATURES = (
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
)
TRAILER = b"x-amz-checksum-crc32c:sOO8/Q=="
TRAILER_SIGNATURE = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"


def example_body(signatures: tuple[str, ...], tail: bytes) -> bytes:
    """
    The body of a chunked example, as printed in the reference.
    """
    body, rest = b"", CONTENT
    for size, signature in zip(SIZES, signatures, strict=True):
        body += b"%x;chunk-signature=%s\r\n" % (size, signature.encode())
        if size:
            body += rest[:size] + b"\r\n"
        rest = rest[size:]
    return body + tail


CHUNKED_BODY = example_body(CHUNK_SIGNATURES, b"\r\n")
TRAILED_BODY = example_body(
    TRAILED_SIGNATURES,
    TRAILER + b"\r\nx-amz-trailer-signature:" + TRAILER_SIGNATURE.encode() + b"\r\n\r\n",
)


def encode_chunks(
    chunks: list[bytes],
    seed: ChunkSeed | None = None,
    trailers: tuple[tuple[str, str], ...] = (),
    signed_trailer: bool = False,
    style: str = "aws",
) -> bytes:
    """
    Frame content as clients do.

    :param chunks: Not empty ones; the last chunk is added.
    :param style: ``aws``, or ``minio`` for the line ends of MinIO's clients.
    """
    previous = "" if seed is None else seed.signature
    body = b""
    for chunk in [*chunks, b""]:
        body += b"%x" % len(chunk)
        if seed is not None:
            previous = _next(seed, "PAYLOAD", previous, f"{EMPTY}\n{sha256(chunk).hexdigest()}")
            body += b";chunk-signature=" + previous.encode()
        body += b"\r\n" + (chunk + b"\r\n" if chunk else b"")
    newline = "\n" if style == "minio" else "\r\n"
    body += "".join(f"{name}:{value}{newline}" for name, value in trailers).encode()
    if style == "minio" and trailers:
        body += b"\r\n"
    if signed_trailer and seed is not None:
        text = "".join(f"{name}:{value}\n" for name, value in trailers)
        signature = _next(seed, "TRAILER", previous, sha256(text.encode()).hexdigest())
        body += f"x-amz-trailer-signature:{signature}\r\n".encode()
    return body + b"\r\n"


def _next(seed: ChunkSeed, kind: str, previous: str, hashes: str) -> str:
    return sign(
        seed.key,
        f"AWS4-HMAC-SHA256-{kind}\n{seed.timestamp}\n{seed.scope}\n{previous}\n{hashes}",
    )
