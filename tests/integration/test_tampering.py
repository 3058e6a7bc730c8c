# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who can write to the disk of a real server, and makes all checksums anew, passes nothing off.
"""

import os
import sqlite3
import struct
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from attrs import frozen
from awscrt.checksums import crc32c
from botocore.exceptions import ClientError, IncompleteReadError, ResponseStreamingError

from kypello.store.records import (
    ObjectRecord,
    object_key,
    unpack,
)
from tests.cases import SyncCase
from tests.integration.server import STATIC_KEY, ServerProcess
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import wait_until

_FOOTER = struct.Struct(">8sQII")
_PACKAGE, _PAYLOAD, _CHUNK = 65568, 65536, 65568
_PART = 5 * 1024 * 1024
_TAIL = 4 * _PAYLOAD + 1000
_READ = 4096

_CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
_CONTEXT = b64encode(b'{"team":"blue"}').decode()
_KINDS: Mapping[str, Mapping[str, str]] = {
    "s3": {"ServerSideEncryption": "AES256"},
    "kms": {"ServerSideEncryption": "aws:kms", "SSEKMSEncryptionContext": _CONTEXT},
    "customer": _CUSTOMER,
}
_PREFIX = "X-Minio-Internal-Server-Side-Encryption-"


def reading(kind: str) -> Mapping[str, str]:
    """
    What a read has to bring.
    """
    return _CUSTOMER if kind == "customer" else {}


def blob_content(path: Path) -> bytes:
    """
    The content of a blob.
    """
    raw = path.read_bytes()
    _magic, size, _described, _sum = _FOOTER.unpack(raw[-_FOOTER.size - 4 : -4])
    return raw[:size]


def put_content(path: Path, content: bytes) -> None:
    """
    Give a blob other content, with the checksums that belong to it.
    """
    raw = path.read_bytes()
    magic, _size, length, described_sum = _FOOTER.unpack(raw[-_FOOTER.size - 4 : -4])
    described = raw[-_FOOTER.size - 4 - length : -_FOOTER.size - 4]
    pieces = [content[at : at + _CHUNK] for at in range(0, len(content), _CHUNK)]
    sums = b"".join(crc32c(piece).to_bytes(4, "big") for piece in pieces)
    footer = _FOOTER.pack(magic, len(content), length, described_sum)
    check = crc32c(footer).to_bytes(4, "big")
    # A new file: readers of the old one have it open.
    other = path.with_suffix(".new")
    other.write_bytes(content + sums + described + footer + check)
    other.rename(path)


@frozen
class Tampering:
    """
    A change of the packages of a stream.

    :ivar change: Is given them, and those of another stream of the same size.
    :ivar good: How many packages before the first bad one.
    """

    name: str
    change: Callable[[list[bytes], list[bytes]], list[bytes]]
    good: int


def flipped(at: int) -> Callable[[list[bytes], list[bytes]], list[bytes]]:
    """
    Flip a bit of the third package.
    """

    def change(mine: list[bytes], _other: list[bytes]) -> list[bytes]:
        """
        Do it.
        """
        package = bytearray(mine[2])
        package[at] ^= 1
        return [*mine[:2], bytes(package), *mine[3:]]

    return change


TAMPERINGS = (
    *(Tampering(f"header byte {at}", flipped(at), 2) for at in range(16)),
    Tampering("content", flipped(16), 2),
    Tampering("end of content", flipped(_PACKAGE - 17), 2),
    Tampering("tag", flipped(_PACKAGE - 1), 2),
    Tampering("order", lambda mine, _: [mine[0], mine[2], mine[1], *mine[3:]], 1),
    Tampering("repeated", lambda mine, _: [mine[0], mine[0], *mine[2:]], 1),
    Tampering("another stream's package", lambda mine, other: [*mine[:3], other[3], mine[4]], 3),
    Tampering("another stream's end", lambda mine, other: [*mine[:4], other[4]], 4),
    Tampering("another stream", lambda _, other: other, 0),
    Tampering("zeros", lambda mine, _: [bytes(len(package)) for package in mine], 0),
)


class TamperCase(SyncCase):
    """
    A test with a server, and with what it has stored.
    """

    def setUp(self) -> None:
        """
        Start a server.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.directory = self.work / "data"
        self.serve()
        self.s3.create_bucket(Bucket="bucket")
        self.s3.create_bucket(Bucket="other")

    def serve(self) -> None:
        """
        Start a server on the directory.
        """
        settings = {
            "MINIO_KMS_SECRET_KEY": STATIC_KEY,
            "KYPELLO_API_SSE_C_OVER_LOOPBACK_HTTP": "on",
            "KYPELLO_WORKERS": "1",
        }
        self.server = ServerProcess(self.directory, settings)
        self.server.start()
        self.addCleanup(self.server.stop)
        self.s3 = boto3_client(self.server, response_checksum_validation="when_required")
        self.addCleanup(self.s3.close)

    def store(self, bucket: str, key: str, kind: str, parts: bool) -> bytes:
        """
        Store random content, of five packages behind the first part, if there are parts.
        """
        tail = os.urandom(_TAIL)
        where, asked = {"Bucket": bucket, "Key": key}, _KINDS[kind]
        if not parts:
            self.s3.put_object(**where, Body=tail, **asked)
            return tail
        first, listed = os.urandom(_PART), []
        upload = self.s3.create_multipart_upload(**where, **asked)["UploadId"]
        for number, piece in ((1, first), (2, tail)):
            named = {"UploadId": upload, "PartNumber": number}
            told = self.s3.upload_part(**where, **named, Body=piece, **reading(kind))
            listed.append({"PartNumber": number, "ETag": told["ETag"]})
        made = {"UploadId": upload, "MultipartUpload": {"Parts": listed}}
        self.s3.complete_multipart_upload(**where, **made, **reading(kind))
        return first + tail

    def got(self, bucket: str, key: str, kind: str, wanted: str = "") -> tuple[bytes, str]:
        """
        What comes of an object, and how it ended: with a code, cut, or well.
        """
        more = {"Range": wanted} if wanted else {}
        try:
            answer = self.s3.get_object(Bucket=bucket, Key=key, **reading(kind), **more)
        except ClientError as error:
            return b"", error.response["Error"]["Code"]
        content = bytearray()
        try:
            while block := answer["Body"].read(_READ):
                content += block
        except (IncompleteReadError, ResponseStreamingError):
            return bytes(content), "cut"
        return bytes(content), ""

    def records(self, key: str) -> list[tuple[Path, bytes]]:
        """
        The records of a key, with their databases.
        """
        found = []
        for path in sorted((self.directory / "index").glob("??/*.sqlite")):
            with closing(sqlite3.connect(path)) as connection:
                query = "SELECT value FROM records WHERE key = ?"
                found += [(path, row[0]) for row in connection.execute(query, (object_key(key),))]
        return found

    def blob(self, key: str) -> Path:
        """
        The file with the last packages of an object of one bucket.
        """
        ((_, value),) = self.records(key)
        name = unpack(ObjectRecord, value).parts[-1].blob
        return self.directory / "blobs" / name[:2] / name

    def lines(self, start: int, *words: str) -> list[str]:
        """
        What the log says with these words, from a place on.
        """
        return [
            line
            for line in self.server.log[start:].splitlines()
            if all(word in line for word in words)
        ]


class ContentTests(TamperCase):
    """
    Packages that were changed on the disk.
    """

    def test_packages(self) -> None:
        """
        A client gets what comes before the first bad package, and not a byte of that; the
        connection is cut, and the log says so and why.  Ranges of good packages are served.
        """
        wrong: list[str] = []
        for kind in _KINDS:
            for parts in (False, True):
                key = f"{kind}{'-parts' * parts}"
                content = self.store("bucket", key, kind, parts)
                self.store("bucket", f"{key}-other", kind, parts)
                for tampering in TAMPERINGS:
                    for why in self.tampered(tampering, key, kind, content):
                        wrong.append(f"{key}, {tampering.name}: {why}")
        self.assertEqual("\n".join(wrong), "")

    def tampered(self, tampering: Tampering, key: str, kind: str, content: bytes) -> list[str]:
        """
        Tamper, read, and undo it.

        :return: What is wrong.
        """
        path, wrong = self.blob(key), []
        good = len(content) - _TAIL + tampering.good * _PAYLOAD
        before, start = blob_content(path), len(self.server.log)
        other = blob_content(self.blob(f"{key}-other"))
        changed = b"".join(tampering.change(packages(before), packages(other)))
        self.assertEqual(len(changed), len(before))
        put_content(path, changed)
        try:
            got, end = self.got("bucket", key, kind)
            if not content[:good].startswith(got):
                wrong.append(f"{len(got)} bytes came, and not those that were stored")
            if end != ("cut" if got else "XMinioObjectTampered"):
                wrong.append(f"it ended: {end!r}")
            if good and len(got) != good:
                wrong.append(f"{len(got)} bytes came instead of {good}")
            if good:
                last = self.got("bucket", key, kind, f"bytes={good - 10}-{good - 1}")
                if last != (content[good - 10 : good], ""):
                    wrong.append("the range before the bad package is not served")
            bad = self.got("bucket", key, kind, f"bytes={good}-{good + 1}")
            if bad != (b"", "XMinioObjectTampered"):
                wrong.append(f"a range of the bad package: {bad}")
            wait_until(lambda: self.lines(start, "NotAuthentic"))
            if got:
                wait_until(lambda: self.lines(start, "GetObject", "aborted"))
        finally:
            put_content(path, before)
        if self.got("bucket", key, kind) != (content, ""):
            wrong.append("it was not undone")
        return wrong


def packages(content: bytes) -> list[bytes]:
    """
    The packages of a stream.
    """
    return [content[at : at + _PACKAGE] for at in range(0, len(content), _PACKAGE)]
