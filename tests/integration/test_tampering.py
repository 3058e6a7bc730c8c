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

import msgspec
from attrs import frozen
from awscrt.checksums import crc32c
from botocore.exceptions import ClientError, IncompleteReadError, ResponseStreamingError

from kypello.store.records import META, ObjectRecord, SpaceRecord, object_key, pack, unpack
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
    "dual": {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSEncryptionContext": _CONTEXT},
}
_PREFIX = "X-Minio-Internal-Server-Side-Encryption-"
_OWN = "X-Kypello-Internal-Server-Side-Encryption-"
_INNER, _OUTER, _OUTER_DATA = (
    f"{_OWN}{name}-Sealed-{what}Key"
    for name, what in (("Inner", ""), ("Outer", ""), ("Outer", "Data-"))
)


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

    def record_of(self, key: str, bucket: str) -> tuple[Path, ObjectRecord]:
        """
        The record of an object, with its database.
        """
        for path, value in self.records(key):
            with closing(sqlite3.connect(path)) as connection:
                query = "SELECT value FROM records WHERE key = ?"
                ((space,),) = connection.execute(query, (META,))
            if unpack(SpaceRecord, space).bucket == bucket:
                return path, unpack(ObjectRecord, value)
        raise AssertionError(f"there is no {key} in {bucket}")

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
        A client gets at most what comes before the first bad package, and not a byte of that:
        it is told so, or the connection is cut, and the log says that, why, and of which object.
        Ranges of good packages are served.
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
        # In two layers a package of the inner one ends in the next package of the outer one.
        good = len(content) - _TAIL
        good += max(0, tampering.good - (kind == "dual")) * _PAYLOAD
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
            if good:
                last = self.got("bucket", key, kind, f"bytes={good - 10}-{good - 1}")
                if last != (content[good - 10 : good], ""):
                    wrong.append("the range before the bad package is not served")
            bad = self.got("bucket", key, kind, f"bytes={good}-{good + 1}")
            if bad != (b"", "XMinioObjectTampered"):
                wrong.append(f"a range of the bad package: {bad}")
            wait_until(lambda: self.lines(start, f"for '/bucket/{key}': NotAuthentic"))
            if end == "cut":
                wait_until(lambda: self.lines(start, f"for '/bucket/{key}' failed"))
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


@frozen
class Exchange:
    """
    A change of what is kept of an object.

    :ivar change: Is given it, and what is kept of another object, in the same bucket.
    :ivar kinds: Where there is something to change.
    """

    name: str
    change: Callable[[ObjectRecord, ObjectRecord], ObjectRecord]
    kinds: tuple[str, ...] = tuple(_KINDS)


def entry(*names: str) -> Callable[[ObjectRecord, ObjectRecord], ObjectRecord]:
    """
    Take over entries of the other object.
    """

    def change(mine: ObjectRecord, other: ObjectRecord) -> ObjectRecord:
        """
        Do it.
        """
        theirs = other.metadata.internal
        taken = {name: theirs[name] for name in map(full_name, names)}
        return entries(mine, {**mine.metadata.internal, **taken})

    return change


def full_name(name: str) -> str:
    """
    The name of an entry.
    """
    return name if name.startswith(_OWN) else _PREFIX + name


def layers_swapped(mine: ObjectRecord, _other: ObjectRecord) -> ObjectRecord:
    """
    Pass the keys of each layer off as those of the other.
    """
    data = f"{_PREFIX}S3-Kms-Sealed-Key"
    other = {_INNER: _OUTER, _OUTER: _INNER, data: _OUTER_DATA, _OUTER_DATA: data}
    kept = mine.metadata.internal.items()
    return entries(mine, {other.get(name, name): value for name, value in kept})


def one_layer(kept_key: str) -> Callable[[ObjectRecord, ObjectRecord], ObjectRecord]:
    """
    Pass an object in two layers off as one in one.

    :param kept_key: The sealed key that it shall have.
    """

    def change(mine: ObjectRecord, _other: ObjectRecord) -> ObjectRecord:
        """
        Do it.
        """
        before = mine.metadata.internal
        kept = {name: before[name] for name in before if not name.startswith(_OWN)}
        return entries(mine, {**kept, f"{_PREFIX}Kms-Sealed-Key": before[kept_key]})

    return change


def two_layers(mine: ObjectRecord, _other: ObjectRecord) -> ObjectRecord:
    """
    Pass an object in one layer off as one in two, which has the same key in both.
    """
    before = mine.metadata.internal
    sealed = f"{_PREFIX}Kms-Sealed-Key"
    kept = {name: before[name] for name in before if name != sealed}
    doubled = {_INNER: before[sealed], _OUTER: before[sealed]}
    data = before[f"{_PREFIX}S3-Kms-Sealed-Key"]
    return entries(mine, {**kept, **doubled, _OUTER_DATA: data})


def entries(record: ObjectRecord, changed: Mapping[str, str]) -> ObjectRecord:
    """
    A record with other entries.
    """
    metadata = msgspec.structs.replace(record.metadata, internal=dict(changed))
    return msgspec.structs.replace(record, metadata=metadata)


def without_context(mine: ObjectRecord, _other: ObjectRecord) -> ObjectRecord:
    """
    Forget what the data key is bound to.
    """
    kept = mine.metadata.internal.items()
    return entries(mine, {name: value for name, value in kept if not name.endswith("Context")})


def other_context(mine: ObjectRecord, _other: ObjectRecord) -> ObjectRecord:
    """
    Bind the data key to something else.
    """
    context = b64encode(b'{"team":"red"}').decode()
    return entries(mine, {**mine.metadata.internal, f"{_PREFIX}Context": context})


def other_kind(mine: ObjectRecord, _other: ObjectRecord) -> ObjectRecord:
    """
    Pass SSE-S3 off as SSE-KMS, and the other way round.
    """
    renamed = {"S3-Sealed-Key": "Kms-Sealed-Key", "Kms-Sealed-Key": "S3-Sealed-Key"}
    long = {_PREFIX + old: _PREFIX + new for old, new in renamed.items()}
    kept = mine.metadata.internal.items()
    return entries(mine, {long.get(name, name): value for name, value in kept})


def other_metadata(mine: ObjectRecord, other: ObjectRecord) -> ObjectRecord:
    """
    Take over what is sealed of the other object.
    """
    metadata = msgspec.structs.replace(mine.metadata, sealed=other.metadata.sealed)
    return msgspec.structs.replace(mine, metadata=metadata)


def other_parts(mine: ObjectRecord, other: ObjectRecord) -> ObjectRecord:
    """
    Take over the content of the other object.
    """
    return msgspec.structs.replace(mine, parts=other.parts)


def truncated(mine: ObjectRecord, _other: ObjectRecord) -> ObjectRecord:
    """
    Forget the last package; the blob is cut by the test.
    """
    last = mine.parts[-1]
    cut = last.size % _PACKAGE
    parts = (*mine.parts[:-1], msgspec.structs.replace(last, size=last.size - cut))
    return msgspec.structs.replace(mine, size=mine.size - cut, parts=parts)


EXCHANGES = (
    Exchange("truncated", truncated),
    Exchange("key of the customer", entry("Sealed-Key"), ("customer",)),
    Exchange("key of s3", entry("S3-Sealed-Key"), ("s3",)),
    Exchange("key of kms", entry("Kms-Sealed-Key"), ("kms",)),
    Exchange("key and iv of the customer", entry("Sealed-Key", "Iv"), ("customer",)),
    Exchange("key and iv of s3", entry("S3-Sealed-Key", "Iv"), ("s3",)),
    Exchange("data key", entry("S3-Kms-Sealed-Key"), ("kms", "dual")),
    Exchange("inner key", entry(_INNER), ("dual",)),
    Exchange("outer key", entry(_OUTER), ("dual",)),
    Exchange("outer data key", entry(_OUTER_DATA), ("dual",)),
    Exchange("outer layer", entry(_OUTER, _OUTER_DATA), ("dual",)),
    Exchange("inner layer", entry(_INNER, "S3-Kms-Sealed-Key"), ("dual",)),
    Exchange("layers swapped", layers_swapped, ("dual",)),
    Exchange("inner layer alone", one_layer(_INNER), ("dual",)),
    Exchange("outer layer alone", one_layer(_OUTER), ("dual",)),
    Exchange("two layers", two_layers, ("kms",)),
    Exchange("iv", entry("Iv")),
    Exchange("no context", without_context, ("kms", "dual")),
    Exchange("other context", other_context, ("kms", "dual")),
    Exchange("kind", other_kind, ("s3", "kms")),
    Exchange("sealed metadata", other_metadata),
    Exchange("content", other_parts),
    Exchange("moved", lambda _, other: other),
    Exchange("in clear", lambda mine, _: entries(mine, {})),
)


class MetadataTests(TamperCase):
    """
    Records that were changed on the disk.
    """

    def test_records(self) -> None:
        """
        What belongs to another object, kind or context, also under the same key in another
        bucket, gives nothing at all; the log says why and of which object.  That an object is not
        encrypted can be claimed, but gives no plaintext.
        """
        cells = self.fill()
        self.assertEqual(self.server.stop(), 0)
        for exchange, kind, parts in cells:
            key = name_of(exchange.name, kind, parts)
            path, mine = self.record_of(key, "bucket")
            _, other = self.record_of(f"{kind}{parts}", "bucket")
            self.assertEqual(len(mine.parts), 1 + parts)
            if exchange.change is truncated:
                blob = self.blob(key)
                put_content(blob, b"".join(packages(blob_content(blob))[:-1]))
            self.write(path, key, exchange.change(mine, other))
        for kind in _KINDS:
            path, _ = self.record_of(kind, "other")
            _, mine = self.record_of(f"{kind}False", "bucket")
            self.write(path, kind, mine)
        self.serve()
        wrong = []
        for exchange, kind, parts in cells:
            key = name_of(exchange.name, kind, parts)
            wrong += [f"{key}: {why}" for why in self.refused("bucket", key, kind)]
        for kind in _KINDS:
            wrong += [f"other, {kind}: {why}" for why in self.refused("other", kind, kind)]
            for parts in (False, True):
                key = f"{kind}{parts}"
                if self.got("bucket", key, kind) != (self.contents[key], ""):
                    wrong.append(f"{key} was not changed, and is not read")
        self.assertEqual("\n".join(wrong), "")

    def fill(self) -> list[tuple[Exchange, str, bool]]:
        """
        Store an object for each exchange, kind and shape, and one of each kind and shape that is
        left as it is, and one of each kind in another bucket.
        """
        self.contents: dict[str, bytes] = {}
        for kind in _KINDS:
            self.store("other", kind, kind, False)
            for parts in (False, True):
                self.contents[f"{kind}{parts}"] = self.store(
                    "bucket", f"{kind}{parts}", kind, parts
                )
        cells = [
            (exchange, kind, parts)
            for exchange in EXCHANGES
            for kind in exchange.kinds
            for parts in (False, True)
        ]
        for exchange, kind, parts in cells:
            key = name_of(exchange.name, kind, parts)
            self.contents[key] = self.store("bucket", key, kind, parts)
        return cells

    def write(self, path: Path, key: str, record: ObjectRecord) -> None:
        """
        Replace the record of an object.
        """
        with closing(sqlite3.connect(path)) as connection, connection:
            done = connection.execute(
                "UPDATE records SET value = ? WHERE key = ?", (pack(record), object_key(key))
            )
            self.assertEqual(done.rowcount, 1)

    def refused(self, bucket: str, key: str, kind: str) -> list[str]:
        """
        See that nothing of an object is given.

        :return: What is wrong.
        """
        start = len(self.server.log)
        got, end = self.got(bucket, key, kind)
        if key.startswith("in clear") and kind != "customer":
            # What lies there is encrypted all the same.
            return ["it is what was stored"] if got == self.contents[key] else []
        if got or end not in ("XMinioObjectTampered", "AccessDenied", "InvalidRequest"):
            return [f"{len(got)} bytes came, and it ended: {end!r}"]
        if end == "XMinioObjectTampered":
            wait_until(lambda: self.lines(start, f"for '/{bucket}/{key}': NotAuthentic"))
        return []


def name_of(exchange: str, kind: str, parts: bool) -> str:
    """
    The key of the object that is changed so.
    """
    return f"{exchange}, {kind}{', parts' * parts}"
