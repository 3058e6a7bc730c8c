# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Every kind of encryption in every way that an object comes into being, with boto3 over TLS.
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

from attrs import frozen
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from kypello.crypto.checksums import SIZES, encode, new_checksum
from tests.cases import SyncCase
from tests.integration.server import ACCESS_KEY, SECRET_KEY, ServerProcess
from tests.integration.sse import (
    CUSTOMER,
    KINDS,
    NAMED_KEY,
    NONE,
    S3,
    SSE_C,
    WAYS,
    Kind,
    Way,
    document,
    expected,
)
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import refusal
from tests.integration.test_multipart import SecureCase

_DOCUMENT = Path(__file__).parents[2] / "docs" / "encryption.md"
_PART = 5 * 1024 * 1024
#: One lies in the index, the other has packages and a rest.
_SIZES = (300, 3 * 65536 + 17)
_MARK = re.compile(rb"<mark:([a-z0-9._-]+)>")
_OTHER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}


def marked(name: str, size: int) -> bytes:
    """
    Content that can be told from all other on the disk.
    """
    mark = f"<mark:{name}>".encode()
    return (mark * (size // len(mark) + 1))[:size]


def marks(directory: Path) -> set[str]:
    """
    The names of all contents that lie in clear below a directory.
    """
    found: set[str] = set()
    for path in directory.rglob("*"):
        if path.is_file():
            found |= whole_marks(path.read_bytes())
    return found


def whole_marks(content: bytes) -> set[str]:
    """
    The names of the marks in some bytes.
    """
    return {name.decode() for name in set(_MARK.findall(content))}


def source_key(kind: Kind) -> Mapping[str, Any]:
    """
    What a copy brings to read its source.
    """
    return {f"CopySource{name}": value for name, value in kind.key.items()}


@frozen
class Stored:
    """
    An object as it was stored.

    :ivar pieces: The contents of its parts, or its only content.
    :ivar told: What the server answered.
    """

    key: str
    pieces: Sequence[bytes]
    told: Mapping[str, Any]
    bucket: str = "bucket"
    parts: bool = False
    more: Mapping[str, Any] = {}  # never changed

    @property
    def content(self) -> bytes:
        """
        All of it.
        """
        return b"".join(self.pieces)

    @property
    def etag(self) -> str:
        """
        What its ETag is where it is made of MD5s.
        """
        digests = [md5(piece, usedforsecurity=False).digest() for piece in self.pieces]
        if not self.parts:
            return digests[0].hex()
        return f"{md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


class DocumentTests(SyncCase):
    """
    The document that is made of the table.
    """

    def test_up_to_date(self) -> None:
        """
        It is the one in the tree: ``python -m tests.integration.sse >docs/encryption.md``.
        """
        self.assertEqual(_DOCUMENT.read_text("utf-8"), document())


class MatrixTests(SecureCase):
    """
    All cells of the table, on one server with a key server inside.
    """

    def setUp(self) -> None:
        """
        Start a server that keeps two master keys itself.
        """
        super().setUp()
        self.assertEqual(self.server.stop(), 0)
        self.certificate = str(self.work / "certs" / "public.crt")
        self.directory = self.work / "matrix"
        self.serve({})
        self.make_key()
        for bucket in ("bucket", "versions", "default"):
            self.s3.create_bucket(Bucket=bucket)
        enabled = {"Status": "Enabled"}
        self.s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration=enabled)
        self.clear: set[str] = set()
        self.made: set[str] = set()

    def serve(self, environment: Mapping[str, str]) -> None:
        """
        Start a server, and connect two clients: one with its defaults, and one that sends bodies
        in one piece.
        """
        self.server = ServerProcess(
            self.directory, environment, self.server.arguments, self.server.scheme
        )
        self.server.start()
        self.addCleanup(self.server.stop)
        self.s3 = boto3_client(self.server, verify=self.certificate)
        self.addCleanup(self.s3.close)
        self.plainly = boto3_client(
            self.server, verify=self.certificate, request_checksum_calculation="when_required"
        )
        self.addCleanup(self.plainly.close)
        self.sent: list[bool] = []
        for client in (self.s3, self.plainly):
            client.meta.events.register("before-send.s3.PutObject", self.note)

    def note(self, request: Any, **_more: Any) -> None:
        """
        Note whether a body was sent in chunks.
        """
        encoding = request.headers.get("Content-Encoding", "")
        text = encoding.decode() if isinstance(encoding, bytes) else encoding
        self.sent.append(text == "aws-chunked")

    def make_key(self) -> None:
        """
        Make the named master key.
        """
        url = f"{self.server.endpoint}/minio/kms/v1/key/create?key-id={NAMED_KEY}"
        request = AWSRequest("POST", url, data=b"")
        S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "us-east-1").add_auth(request)
        self.post(url, dict(request.headers), b"")

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        """
        Send a POST, and give the headers of the answer.
        """
        import ssl  # only here

        trust = ssl.create_default_context(cafile=self.certificate)
        request = Request(url, body, dict(headers), method="POST")
        with urlopen(request, timeout=30, context=trust) as answer:
            return {name.lower(): value for name, value in answer.headers.items()}

    def test_matrix(self) -> None:
        """
        Each kind in each way is stored as the table says, is told so, reads back in whole and in
        parts, and lies on the disk in clear only where the table says that.
        """
        wrong: list[str] = []
        for way in WAYS:
            if way.name == "auto":
                self.assertEqual(self.server.stop(), 0)
                self.serve({"MINIO_KMS_AUTO_ENCRYPTION": "on"})
            for kind in KINDS:
                try:
                    self.cell(way, kind)
                except (self.failureException, ClientError, OSError) as error:
                    wrong.append(f"{way.name}, {kind.name}: {error}")
        self.assertEqual("\n".join(wrong), "")
        self.assertEqual(self.server.stop(), 0)
        # What only a log holds counts, too; what is cut at the end of a page or part does not.
        self.assertEqual(marks(self.directory) & self.made, self.clear)

    def cell(self, way: Way, kind: Kind) -> None:
        """
        Try one cell.
        """
        becomes = expected(way, kind)
        if becomes is None:
            return
        for stored in getattr(self, f"by_{way.name}")(f"{way.name}.{kind.name}", kind):
            self.looked_at(stored, becomes)
            names = {name for piece in stored.pieces for name in whole_marks(piece)}
            self.made |= names
            if becomes is NONE:
                self.clear |= names

    def looked_at(self, stored: Stored, kind: Kind) -> None:
        """
        See that an object is as it should be.
        """
        where = {"Bucket": stored.bucket, "Key": stored.key, **stored.more}
        self.told(stored.told, kind)
        head = self.s3.head_object(**where, **kind.key)
        self.told(head, kind)
        self.assertEqual(head["ContentLength"], len(stored.content))
        etag = head["ETag"].strip('"')
        if kind.digest:
            self.assertEqual(etag, stored.etag)
        else:
            self.assertRegex(etag, f"^[0-9a-f]{{32}}{'-[0-9]+' * stored.parts}$")
            self.assertNotEqual(etag, stored.etag)
        got = self.s3.get_object(**where, **kind.key)
        self.told(got, kind)
        self.assertEqual(got["ETag"], head["ETag"])
        self.assertTrue(got["Body"].read() == stored.content, "the content is another one")
        self.ranges(where, kind, stored.content)
        self.attributes(where, kind, stored, etag)
        self.keys(where, kind)

    def told(self, answer: Mapping[str, Any], kind: Kind) -> None:
        """
        See that an answer tells the encryption.
        """
        names = ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled", "SSECustomerAlgorithm")
        self.assertEqual({name: answer[name] for name in names if name in answer}, kind.told)
        self.assertEqual("SSECustomerKeyMD5" in answer, kind is SSE_C)

    def ranges(self, where: Mapping[str, Any], kind: Kind, content: bytes) -> None:
        """
        Read around the borders of packages and parts, from the end, and beyond it.
        """
        size = len(content)
        borders = {65536, 131072, _PART, size - 1}
        for at in sorted(border for border in borders if border < size):
            for first, last in ((at - 1, at), (at, at), (at, at + 70_000)):
                wanted = content[first : last + 1]
                got = self.s3.get_object(**where, **kind.key, Range=f"bytes={first}-{last}")
                self.assertTrue(got["Body"].read() == wanted, f"{first}-{last}")
                self.assertEqual(got["ContentRange"], f"bytes {first}-{min(last, size - 1)}/{size}")
        got = self.s3.get_object(**where, **kind.key, Range="bytes=-17")
        self.assertEqual(got["Body"].read(), content[-17:])
        refused = refusal(self.s3.get_object, **where, **kind.key, Range=f"bytes={size}-")
        self.assertEqual(refused, (416, "InvalidRange"))

    def attributes(self, where: Mapping[str, Any], kind: Kind, stored: Stored, etag: str) -> None:
        """
        Size, ETag and number of parts.
        """
        wanted = ["ETag", "ObjectSize", "ObjectParts"]
        key = encoded_key(kind)
        told = self.s3.get_object_attributes(**where, **key, ObjectAttributes=wanted)
        self.assertEqual((told["ObjectSize"], told["ETag"]), (len(stored.content), etag))
        parts = told.get("ObjectParts", {}).get("TotalPartsCount", 0)
        self.assertEqual(parts, len(stored.pieces) * stored.parts)

    def keys(self, where: Mapping[str, Any], kind: Kind) -> None:
        """
        A key of a client is needed exactly where there is one, and must be the right one.
        """
        if kind is SSE_C:
            cases: tuple[tuple[Mapping[str, Any], tuple[int, str]], ...] = (
                ({}, (400, "InvalidRequest")),
                (_OTHER, (403, "AccessDenied")),
            )
        else:
            cases = ((CUSTOMER, (400, "InvalidRequest")),)
        for given, expected_refusal in cases:
            self.assertEqual(refusal(self.s3.get_object, **where, **given), expected_refusal)
            status, _ = refusal(self.s3.head_object, **where, **given)
            self.assertEqual(status, expected_refusal[0])

    # The ways

    def put(
        self,
        key: str,
        content: bytes,
        asked: Mapping[str, Any],
        client: Any,
        bucket: str = "bucket",
    ) -> Stored:
        """
        Store an object as a client does.
        """
        told = client.put_object(Bucket=bucket, Key=key, Body=content, **asked)
        more = {"VersionId": told["VersionId"]} if "VersionId" in told else {}
        return Stored(key, [content], told, bucket, more=more)

    def sized(self, name: str) -> Iterator[tuple[str, bytes]]:
        """
        A small and a large content, with a key for each.
        """
        for size in _SIZES:
            key = f"{name}.{size}"
            yield key, marked(key, size)

    def by_put(self, name: str, kind: Kind) -> Iterator[Stored]:
        """
        In one piece.
        """
        for key, content in self.sized(name):
            yield self.put(key, content, kind.asked, self.plainly)
            self.assertIs(self.sent[-1], False)

    def by_chunked(self, name: str, kind: Kind) -> Iterator[Stored]:
        """
        In chunks, with a checksum behind them.
        """
        for key, content in self.sized(name):
            yield self.put(key, content, kind.asked, self.s3)
            self.assertIs(self.sent[-1], True)

    def by_form(self, name: str, kind: Kind) -> Iterator[Stored]:
        """
        By a form, as browsers do.
        """
        fields = dict(form_fields(kind))
        for key, content in self.sized(name):
            conditions = [{field: value} for field, value in fields.items()]
            made = self.s3.generate_presigned_post("bucket", key, dict(fields), conditions)
            border = uuid4().hex
            lines = [
                f'--{border}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
                for field, value in made["fields"].items()
            ]
            file = f'--{border}\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
            body = "".join([*lines, file]).encode() + content + f"\r\n--{border}--\r\n".encode()
            sent = {"Content-Type": f"multipart/form-data; boundary={border}"}
            answer = self.post(made["url"], sent, body)
            yield Stored(key, [content], read_answer(answer))

    def by_multipart(self, name: str, kind: Kind) -> Iterator[Stored]:
        """
        In two parts, with numbers that are not in a row.
        """
        pieces = [marked(f"{name}.first", _PART), marked(f"{name}.last", 70_000)]
        where = {"Bucket": "bucket", "Key": name}
        begun = self.s3.create_multipart_upload(**where, **kind.asked)
        self.told(begun, kind)
        parts = []
        for number, piece in zip((3, 8), pieces, strict=True):
            named = {"UploadId": begun["UploadId"], "PartNumber": number}
            told = self.s3.upload_part(**where, **named, Body=piece, **kind.key)
            self.told(told, kind)
            parts.append({"PartNumber": number, "ETag": told["ETag"]})
        yield self.completed(where, begun["UploadId"], parts, pieces, kind)

    def by_part_copy(self, name: str, kind: Kind) -> Iterator[Stored]:
        """
        Of parts that are copied from an object of the same kind, the last of them in a range.
        """
        source = f"{name}.source"
        content = marked(source, _PART + 1000)
        self.s3.put_object(Bucket="bucket", Key=source, Body=content, **kind.asked)
        where = {"Bucket": "bucket", "Key": name}
        begun = self.s3.create_multipart_upload(**where, **kind.asked)
        copied = {"CopySource": f"bucket/{source}", **source_key(kind), **kind.key}
        parts = []
        for number, last in ((1, _PART), (2, 70_000)):
            named = {"UploadId": begun["UploadId"], "PartNumber": number}
            told = self.s3.upload_part_copy(
                **where, **named, **copied, CopySourceRange=f"bytes=100-{99 + last}"
            )
            self.told(told, kind)
            parts.append({"PartNumber": number, "ETag": told["CopyPartResult"]["ETag"]})
        pieces = [content[100 : 100 + _PART], content[100:70_100]]
        yield self.completed(where, begun["UploadId"], parts, pieces, kind)

    def completed(
        self,
        where: Mapping[str, str],
        upload: str,
        parts: Sequence[Mapping[str, Any]],
        pieces: Sequence[bytes],
        kind: Kind,
    ) -> Stored:
        """
        Complete an upload.
        """
        listed = self.s3.list_parts(**where, UploadId=upload)["Parts"]
        self.assertEqual([part["Size"] for part in listed], [len(piece) for piece in pieces])
        made = {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
        told = dict(self.s3.complete_multipart_upload(**where, **made, **kind.key))
        # AWS tells nothing of a client's key here.
        if kind is SSE_C:
            told |= self.s3.head_object(**where, **kind.key)
        return Stored(where["Key"], pieces, told, parts=True)

    def by_copy(self, name: str, kind: Kind) -> Iterator[Stored]:
        """
        By a copy of an object of each kind.
        """
        for source in KINDS:
            key = f"{name}.{source.name}"
            content = marked(key, _SIZES[1])
            self.put(f"{key}.source", content, source.asked, self.s3)
            if source is NONE:
                self.clear.add(key)
            told = self.s3.copy_object(
                Bucket="bucket",
                Key=key,
                CopySource=f"bucket/{key}.source",
                **source_key(source),
                **kind.asked,
            )
            yield Stored(key, [content], told)

    def by_version(self, name: str, kind: Kind) -> Iterator[Stored]:
        """
        As versions of one key, below a delete marker.
        """
        contents = [marked(f"{name}.{number}", _SIZES[number % 2]) for number in range(3)]
        stored = [self.put(name, each, kind.asked, self.s3, "versions") for each in contents]
        self.s3.delete_object(Bucket="versions", Key=name)
        yield from stored

    def by_checksum(self, name: str, kind: Kind) -> Iterator[Stored]:
        """
        With each kind of checksum, which is told again on demand.
        """
        for algorithm in SIZES:
            key = f"{name}.{algorithm}"
            content = marked(key, _SIZES[1])
            asked = {**kind.asked, "ChecksumAlgorithm": algorithm.upper()}
            stored = self.put(key, content, asked, self.s3)
            checksum = new_checksum(algorithm)
            checksum.update(content)
            name_told, value = f"Checksum{algorithm.upper()}", encode(checksum.digest())
            where = {"Bucket": "bucket", "Key": key}
            head = self.s3.head_object(**where, **kind.key, ChecksumMode="ENABLED")
            more = self.s3.get_object_attributes(
                **where, **encoded_key(kind), ObjectAttributes=["Checksum"]
            )
            for answer in (stored.told, head, more["Checksum"]):
                self.assertEqual(answer.get(name_told), value)
            yield stored

    def by_bucket_default(self, name: str, kind: Kind) -> Iterator[Stored]:
        """
        Without a word, in a bucket that asks for the kind by default.
        """
        self.s3.delete_bucket_encryption(Bucket="default")
        if kind.rule:
            rules = {"Rules": [kind.rule]}
            self.s3.put_bucket_encryption(Bucket="default", ServerSideEncryptionConfiguration=rules)
        for key, content in self.sized(name):
            yield self.put(key, content, {}, self.s3, "default")

    def by_over_default(self, name: str, kind: Kind) -> Iterator[Stored]:
        """
        In a bucket whose default is SSE-S3.
        """
        rules = {"Rules": [S3.rule]}
        self.s3.put_bucket_encryption(Bucket="default", ServerSideEncryptionConfiguration=rules)
        for key, content in self.sized(name):
            yield self.put(key, content, kind.asked, self.s3, "default")

    def by_auto(self, name: str, kind: Kind) -> Iterator[Stored]:
        """
        On a server that encrypts what asks for nothing.
        """
        yield from self.by_chunked(name, kind)


def encoded_key(kind: Kind) -> Mapping[str, str]:
    """
    What a read brings where boto3 does not encode keys of clients itself.
    """
    if kind is not SSE_C:
        return {}
    key = CUSTOMER["SSECustomerKey"].encode()
    digest = b64encode(md5(key, usedforsecurity=False).digest()).decode()
    encoded = {"SSECustomerKey": b64encode(key).decode(), "SSECustomerKeyMD5": digest}
    return {**CUSTOMER, **encoded}


def form_fields(kind: Kind) -> Iterator[tuple[str, str]]:
    """
    The fields of a form that ask for a kind.
    """
    sse = "x-amz-server-side-encryption"
    names = {
        "ServerSideEncryption": sse,
        "SSEKMSKeyId": f"{sse}-aws-kms-key-id",
        "SSEKMSEncryptionContext": f"{sse}-context",
        "BucketKeyEnabled": f"{sse}-bucket-key-enabled",
        "SSECustomerAlgorithm": f"{sse}-customer-algorithm",
    }
    for name, value in kind.asked.items():
        if name == "SSECustomerKey":
            key = encoded_key(kind)
            yield f"{sse}-customer-key", key["SSECustomerKey"]
            yield f"{sse}-customer-key-MD5", key["SSECustomerKeyMD5"]
        else:
            yield names[name], str(value).lower() if isinstance(value, bool) else value


def read_answer(headers: Mapping[str, str]) -> dict[str, Any]:
    """
    What the headers of an answer to a form tell, in the words of boto3.
    """
    sse = "x-amz-server-side-encryption"
    names = {
        sse: "ServerSideEncryption",
        f"{sse}-aws-kms-key-id": "SSEKMSKeyId",
        f"{sse}-customer-algorithm": "SSECustomerAlgorithm",
        f"{sse}-customer-key-md5": "SSECustomerKeyMD5",
    }
    told: dict[str, Any] = {said: headers[name] for name, said in names.items() if name in headers}
    if headers.get(f"{sse}-bucket-key-enabled") == "true":
        told["BucketKeyEnabled"] = True
    return told
