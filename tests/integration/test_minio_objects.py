# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a real MinIO has encrypted opens with our keys and packages, as it lies on its disk.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import md5
from typing import Any

import boto3
from botocore.config import Config
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.crypto import dare
from kypello.crypto.keys import derived_key, part_key
from kypello.crypto.metadata import MULTIPART, shown_sealing
from kypello.errors import NotAuthentic, Refused
from kypello.interfaces import IKMS
from kypello.keystore.memory import MemoryKeyStore
from kypello.kms.builtin import StaticKMS
from kypello.kmsconfig import StaticKeySettings
from kypello.model import ByteRange, CustomerKey
from kypello.objects.datakeys import DataKeys
from kypello.objects.objectkeys import READING, ObjectKeys, open_with_customer_key
from kypello.objects.reading import locate
from kypello.storekeys import LocalKMS
from tests.integration.minio import OLD_ROOT, OLD_SECRET, MinIOProcess
from tests.integration.server import STATIC_KEY
from tests.integration.test_faults import KeyServerCase
from tests.integration.test_kes_server import OURS, Person, Running
from tests.integration.xlmeta import MinIOObject, read_object
from tests.kes.certificates import certificate, key_pem, new_key, pem

_PART = 5 * 1024 * 1024
_KEY = b"k" * 32
_CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": _KEY.decode()}
_S3 = {"ServerSideEncryption": "AES256"}
_KMS = {
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": "my-key",
    "SSEKMSEncryptionContext": b64encode('{"a<":"é & ü"}'.encode()).decode(),
}
_KINDS: Mapping[str, Mapping[str, str]] = {"s3": _S3, "kms": _KMS, "customer": _CUSTOMER}

#: One lies in the metadata, one is a package, the last has a rest.
_SIZES = (5, 65536, 300_000)


_POLICY = """
policy:
  minio:
    allow:
    - /v1/key/create/*
    - /v1/key/generate/*
    - /v1/key/decrypt/*
    - /v1/key/bulk/decrypt
    - /v1/key/list/*
    - /v1/status
    - /v1/metrics
    - /v1/log/audit
    - /v1/log/error
    identities: [{identity}]
"""


class MinIOCase(KeyServerCase):
    """
    A test with what a MinIO has stored.
    """

    def store(self, settings: Mapping[str, str]) -> None:
        """
        Store objects of all kinds, whole and in parts, by a MinIO over TLS, and end it.
        """
        certs, key = self.folder / "certs", new_key()
        certs.mkdir()
        (certs / "private.key").write_bytes(key_pem(key))
        (certs / "public.crt").write_bytes(pem(certificate(key)))
        old = MinIOProcess(self.folder / "old", settings, certs)
        self.contents: dict[tuple[str, str], Sequence[bytes]] = {}
        old.start()
        try:
            s3 = boto3.client(
                "s3",
                endpoint_url=old.endpoint,
                verify=str(certs / "public.crt"),
                aws_access_key_id=OLD_ROOT,
                aws_secret_access_key=OLD_SECRET,
                region_name="us-east-1",
                config=Config(signature_version="s3v4"),
            )
            try:
                s3.create_bucket(Bucket="bucket")
                for kind, asked in _KINDS.items():
                    for size in _SIZES:
                        self.put(s3, f"{kind}/of/{size}", kind, os.urandom(size), asked)
                    self.upload(s3, f"{kind}/parts", kind, asked)
                self.read_all(s3)
            finally:
                s3.close()
        finally:
            old.stop()

    def read_all(self, s3: Any) -> None:
        """
        See that MinIO itself gives back what it has stored.
        """
        for (key, kind), pieces in self.contents.items():
            theirs = _CUSTOMER if kind == "customer" else {}
            found = s3.get_object(Bucket="bucket", Key=key, **theirs)["Body"].read()
            self.assertTrue(found == b"".join(pieces), key)

    def put(self, s3: Any, key: str, kind: str, content: bytes, asked: Mapping[str, str]) -> None:
        """
        Store an object in one piece.
        """
        s3.put_object(Bucket="bucket", Key=key, Body=content, **asked)
        self.contents[key, kind] = [content]

    def upload(self, s3: Any, key: str, kind: str, asked: Mapping[str, str]) -> None:
        """
        Store an object in parts whose numbers are not in a row.
        """
        where = {"Bucket": "bucket", "Key": key}
        theirs = asked if kind == "customer" else {}
        upload = s3.create_multipart_upload(**where, **asked)["UploadId"]
        pieces, listed = [os.urandom(_PART + 17), os.urandom(_PART), os.urandom(70_001)], []
        for number, piece in zip((2, 3, 1000), pieces, strict=True):
            named = {"UploadId": upload, "PartNumber": number}
            told = s3.upload_part(**where, **named, Body=piece, **theirs)
            kept = {name: told[name] for name in ("ETag", "ChecksumCRC32") if name in told}
            listed.append({"PartNumber": number, **kept})
        made = {"UploadId": upload, "MultipartUpload": {"Parts": listed}}
        s3.complete_multipart_upload(**where, **made, **theirs)
        self.contents[key, kind] = pieces

    def opened_all(self, kms: IKMS) -> None:
        """
        See that all opens to what was stored, in whole and in ranges.
        """
        keys = ObjectKeys(DataKeys(kms, Clock()), os.urandom)
        for (key, kind), pieces in self.contents.items():
            stored = read_object(self.folder / "old" / "bucket" / key)
            object_key = self.object_key(keys, key, kind, stored)
            self.assertEqual(MULTIPART in stored.entries, key.endswith("parts"))
            part_keys = [
                part_key(object_key, number) if MULTIPART in stored.entries else object_key
                for number in stored.numbers
            ]
            for piece, part, theirs in zip(pieces, stored.parts, part_keys, strict=True):
                self.assertEqual(dare.encrypted_size(len(piece)), len(part))
                self.assertEqual(dare.plain_size(len(part)), len(piece))
                self.assertTrue(dare.decrypt(theirs, part) == piece, key)
            self.ranges(pieces, stored.parts, part_keys)
            self.etag(kind, pieces, stored, object_key)

    def object_key(self, keys: ObjectKeys, key: str, kind: str, stored: MinIOObject) -> bytes:
        """
        Open the key of an object; not for another one, nor with another key of the client.
        """
        if kind == "customer":
            right, wrong = CustomerKey(_KEY, ""), CustomerKey(bytes(32), "")
            for name, theirs in (("other", right), (key, wrong)):
                with self.assertRaises(Refused):
                    open_with_customer_key("bucket", name, stored.entries, theirs, READING)
            found = open_with_customer_key("bucket", key, stored.entries, right, READING)
            assert found is not None
            return found
        sealing = shown_sealing(stored.entries)
        assert sealing is not None
        self.assertEqual(sealing.algorithm, _KINDS[kind]["ServerSideEncryption"])
        self.assertEqual(dict(sealing.context), {"a<": "é & ü"} if kind == "kms" else {})
        for bucket, name in (("bucket", "other"), ("other", key)):
            opening = Deferred.fromCoroutine(keys.opening(bucket, name, stored.entries)())
            self.failureResultOf(opening, NotAuthentic)
        opening = Deferred.fromCoroutine(keys.opening("bucket", key, stored.entries)())
        return self.successResultOf(opening).secret

    def ranges(
        self, pieces: Sequence[bytes], parts: Sequence[bytes], keys: Sequence[bytes]
    ) -> None:
        """
        Decrypt the packages around each border alone.
        """
        content, encrypted = b"".join(pieces), b"".join(parts)
        sizes = [len(piece) for piece in pieces]
        borders = {0, 65536, len(content)} | {sum(sizes[:count]) for count in (1, 2)}
        starts = sorted({max(0, border - 5) for border in borders if border <= len(content)})
        for start in starts:
            wanted = ByteRange(start, min(start + 10, len(content)))
            plain = b""
            for found in locate(sizes, wanted):
                packages = found.packages
                decoder = dare.Decoder(keys[found.index], packages.sequence, to_end=packages.to_end)
                some = decoder.feed(encrypted[found.start : found.stop]), decoder.finish()
                plain += b"".join(some)[packages.skip :][: found.size]
            self.assertEqual(plain, content[wanted.start : wanted.stop])

    def etag(
        self, kind: str, pieces: Sequence[bytes], stored: MinIOObject, object_key: bytes
    ) -> None:
        """
        Open the ETag, which with SSE-S3 is that of the content.
        """
        if len(pieces) > 1:
            self.assertRegex(stored.etag, "^[0-9a-f]{32}-3$")
            return
        sealed = bytes.fromhex(stored.etag)
        opened = dare.decrypt(derived_key(object_key, "SSE-etag"), sealed)
        digest = md5(pieces[0], usedforsecurity=False).digest()
        self.assertEqual(len(opened), len(digest))
        if kind == "s3":
            self.assertEqual(opened, digest)


class StaticKeyTests(MinIOCase):
    """
    MinIO with a static master key.
    """

    def test_opened(self) -> None:
        """
        Whole objects and parts, with keys of the KMS and of clients, open byte for byte.
        """
        encoded = STATIC_KEY.partition(":")[2]
        self.store({"MINIO_KMS_SECRET_KEY": f"my-key:{encoded}"})
        kms = StaticKMS(StaticKeySettings("my-key", b64decode(encoded)), os.urandom)
        self.opened_all(kms)


class KESTests(MinIOCase):
    """
    MinIO with a key server.
    """

    def settings(self, kes: Running, person: Person) -> Mapping[str, str]:
        """
        What MinIO has to know of a key server.

        :param person: Who MinIO is to it.
        """
        return {
            "MINIO_KMS_KES_ENDPOINT": f"https://127.0.0.1:{kes.port}",
            "MINIO_KMS_KES_KEY_NAME": "default-key",
            "MINIO_KMS_KES_KEY_FILE": str(person.key),
            "MINIO_KMS_KES_CERT_FILE": str(person.cert),
            "MINIO_KMS_KES_CAPATH": str(self.server.cert),
        }

    def test_opened(self) -> None:
        """
        The same with the master keys as the key server keeps them, the default one for SSE-S3
        and a named one.
        """
        kes = self.original()
        self.kes(kes, "key", "create", "default-key", "my-key")
        self.store(self.settings(kes, self.admin))
        kept = {path.name: path.read_bytes() for path in self.keys.iterdir()}
        self.opened_all(LocalKMS(MemoryKeyStore(kept)))

    def test_ours(self) -> None:
        """
        MinIO works with our key server, may do there what its documentation asks for, and makes
        the default key.
        """
        kes = self.launch(OURS, _POLICY.format(identity=self.user.identity), "")
        kes.wait()
        self.kes(kes, "key", "create", "my-key")
        self.store(self.settings(kes, self.user))
        kept = {path.name: path.read_bytes() for path in self.keys.iterdir()}
        self.assertEqual(set(kept), {"default-key", "my-key"})
        self.opened_all(LocalKMS(MemoryKeyStore(kept)))
