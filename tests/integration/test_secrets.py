# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
No secret is anywhere after a day of real servers: accounts, sessions, all kinds of encryption,
wrong requests, and a crash.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import boto3
from attrs import evolve
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.crypto.apikey import APIKey
from kypello.crypto.dare import StreamKey
from kypello.crypto.keys import part_key
from kypello.crypto.masterkey import MasterKey
from kypello.crypto.metadata import read_entries
from kypello.keystore.fsconfig import FSSettings, Passphrase
from kypello.keystore.memory import MemoryKeyStore
from kypello.keystore.table import Parts, make_keystore
from kypello.objects.datakeys import DataKeys, bucket_context, object_context
from kypello.objects.objectkeys import ObjectKeys
from kypello.store.records import ObjectRecord, unpack
from kypello.storekeys import LocalKMS
from kypello.testing.fakes import InlineLanes
from tests.integration.server import (
    ACCESS_KEY,
    SECRET_KEY,
    ServerProcess,
    base_environment,
)
from tests.integration.test_account_cli import run
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import KeyServerCase, wait_until
from tests.integration.test_store_check import record_of
from tests.integration.tools import require

_PART = 5 * 1024 * 1024
_USER_SECRET = "a-secret-of-alice-4711"
_PASSPHRASE = "correct horse battery staple"
_CUSTOMER_KEY = "0123456789-key-of-a-client-abcde"
_WRONG_KEY = "9876543210-key-of-a-wrong-client"
_MARK = "a-text-that-is-encrypted-0815"
_SSE = "x-amz-server-side-encryption-customer"

_CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": _CUSTOMER_KEY}
_WRONG = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": _WRONG_KEY}
_CONTEXT = b64encode(b'{"team":"blue"}').decode()
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "s3": {"ServerSideEncryption": "AES256"},
    "kms": {"ServerSideEncryption": "aws:kms", "SSEKMSEncryptionContext": _CONTEXT},
    "bucketkey": {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": True},
    "dual": {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSEncryptionContext": _CONTEXT},
    "customer": _CUSTOMER,
}


def forms(secret: bytes) -> Iterator[bytes]:
    """
    How a secret may be written: as it is, in hex, in base64 alone or within more, and in a URL.
    """
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield quote(secret, safe="").encode()
    for before in range(3):
        encoded = b64encode(bytes(before) + secret)
        # The first and the last signs depend on what stands beside it.
        inner = encoded[-(-before * 4 // 3) : -4 if encoded.endswith(b"=") else None]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))


def layer_secrets(key: StreamKey) -> Iterator[bytes]:
    """
    The key of each layer, that of the inner one first.
    """
    yield key.secret
    if key.outer is not None:
        yield from layer_secrets(key.outer)


class Secrets:
    """
    All that must not be found, with names for people.
    """

    def __init__(self) -> None:
        self.named: dict[str, bytes] = {}

    def add(self, name: str, secret: str | bytes) -> None:
        """
        Take one more.
        """
        value = secret.encode() if isinstance(secret, str) else secret
        assert len(value) >= 16, name
        self.named[name] = value

    def found(self, places: Mapping[str, bytes]) -> list[str]:
        """
        Which are found where.

        :param places: Their contents by their names.
        """
        return [
            f"{name} in {place}"
            for name, secret in self.named.items()
            for wanted in (set(forms(secret)),)
            for place, content in places.items()
            if any(form in content for form in wanted)
        ]


def tree(directory: Path) -> dict[str, bytes]:
    """
    All files below a directory.
    """
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


class SecretsTests(KeyServerCase):
    """
    A server with a key server of its own, to which it shows an API key.
    """

    def setUp(self) -> None:
        """
        Start both, and listen.
        """
        super().setUp()
        self.secrets = Secrets()
        self.answers: dict[str, bytes] = {}
        api_key = APIKey.generate(os.urandom)
        self.secrets.add("API key", api_key.seed)
        self.secrets.add("API key's text", api_key.text)
        self.secrets.add("root's secret", SECRET_KEY)
        self.admin = evolve(self.admin, identity=api_key.identity)
        self.kes_server = self.original()
        self.object = ServerProcess(
            self.folder / "data",
            {
                "MINIO_KMS_KES_ENDPOINT": f"https://127.0.0.1:{self.kes_server.port}",
                "MINIO_KMS_KES_KEY_NAME": "my-key",
                "MINIO_KMS_KES_API_KEY": api_key.text,
                "MINIO_KMS_KES_CAPATH": str(self.server.cert),
                "MINIO_PROMETHEUS_AUTH_TYPE": "public",
                "KYPELLO_API_SSE_C_OVER_LOOPBACK_HTTP": "on",
            },
        )
        self.object.start()
        self.addCleanup(self.object.stop)
        self.s3 = self.noted(boto3_client(self.object))
        self.s3.create_bucket(Bucket="bucket")

    def noted(self, client: Any) -> Any:
        """
        A client of which all errors that it gets are kept.
        """
        client.meta.events.register("response-received", self.note)
        self.addCleanup(client.close)
        return client

    def note(self, response_dict: Mapping[str, Any], **_more: Any) -> None:
        """
        Keep an error, with its headers.
        """
        if response_dict["status_code"] >= 400:
            headers = json.dumps(dict(response_dict["headers"])).encode()
            self.answers[f"error {len(self.answers)}"] = response_dict["body"] + headers

    def client(self, access_key: str, secret: str, token: str | None = None) -> Any:
        """
        A client of somebody.
        """
        return self.noted(
            boto3.client(
                "s3",
                endpoint_url=self.object.endpoint,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret,
                aws_session_token=token,
                region_name="us-east-1",
                config=Config(signature_version="s3v4", retries={"max_attempts": 1}),
            )
        )

    def test_nowhere(self) -> None:
        """
        Logs, answers, metrics, traces and the data directory hold no secret, be it written as it
        is, in hex or in base64.
        """
        heard = self.listen()
        self.accounts()
        self.objects()
        self.wrong_requests()
        for name in ("cluster", "node"):
            with urlopen(f"{self.object.endpoint}/minio/v2/metrics/{name}", timeout=20) as answer:
                self.answers[f"metrics {name}"] = answer.read()
        self.assertIn(b"_kms_", self.answers["metrics cluster"])
        wait_until(lambda: b"GetObject" in heard.read_bytes())
        self.crash()
        self.key_material()
        places = tree(self.folder / "data")
        self.assertGreater(len(places), 10)
        log = self.object.log.encode()
        self.assertIn(b"PutObject", log)
        self.assertGreater(len(self.answers), 10)
        places |= {"log": log, "trace": heard.read_bytes(), **self.answers}
        places["log of the key server"] = self.kes_server.log.read_bytes()
        self.assertEqual(self.secrets.found(places), [])
        self.seen_if_it_were_there(places)

    def seen_if_it_were_there(self, places: Mapping[str, bytes]) -> None:
        """
        See that the search finds what is there, in each form.
        """
        secret = self.secrets.named["SSE-C key"]
        for form in forms(secret):
            found = self.secrets.found({"log": places["log"] + form + b"\n"})
            self.assertEqual(found, ["SSE-C key in log"])

    def listen(self) -> Path:
        """
        Begin to trace all requests with all that a trace tells of them.

        :return: The file with what is heard.
        """
        program, config = require("mc"), ["--config-dir", str(self.folder / "mc")]
        environment = {**base_environment(), "HOME": str(self.folder)}
        alias = ["alias", "set", "k", self.object.endpoint, ACCESS_KEY, SECRET_KEY]
        subprocess.run(
            [program, *config, *alias], env=environment, check=True, timeout=60,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        path = self.folder / "heard"
        with path.open("wb") as output:
            process = subprocess.Popen(
                [program, *config, "--json", "admin", "trace", "--verbose", "--all", "k"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.kill)

        def begun() -> bool:
            """
            Whether something is heard.
            """
            self.s3.list_buckets()
            return path.stat().st_size > 0

        wait_until(begun)
        return path

    def accounts(self) -> None:
        """
        A user, a key of hers, and sessions of both that are used.
        """
        self.secrets.add("user's secret", _USER_SECRET)
        for words, given in (
            (("user", "add", "alice", "--secret-file", "-"), f"{_USER_SECRET}\n"),
            (("policy", "attach", "readwrite", "--user", "alice"), ""),
        ):
            code, _, err = run(self.folder, self.object.endpoint, *words, given=given)
            self.assertEqual((code, err), (0, ""))
        own = ("key", "create", "--as", "alice", "--as-secret-file", "-", "--json")
        code, out, err = run(
            self.folder, self.object.endpoint, *own, given=_USER_SECRET, root=False
        )
        self.assertEqual((code, err), (0, ""))
        made = json.loads(out)
        self.secrets.add("service account's secret", made["secret_key"])
        self.client(made["access_key"], made["secret_key"]).list_objects_v2(Bucket="bucket")
        sts = self.noted(
            boto3.client(
                "sts",
                endpoint_url=self.object.endpoint,
                aws_access_key_id="alice",
                aws_secret_access_key=_USER_SECRET,
                region_name="us-east-1",
            )
        )
        role = "arn:minio:iam:::role/dummy-internal"
        told = sts.assume_role(RoleArn=role, RoleSessionName="any")["Credentials"]
        self.secrets.add("session's secret", told["SecretAccessKey"])
        self.secrets.add("session's token", told["SessionToken"])
        session = (told["AccessKeyId"], told["SecretAccessKey"])
        self.client(*session, told["SessionToken"]).list_objects_v2(Bucket="bucket")
        for key, secret, token in (
            (*session, f"{told['SessionToken'][:-4]}AAAA"),
            (*session, None),
            ("alice", f"{_USER_SECRET}-which-is-wrong", None),
            (made["access_key"], f"{_USER_SECRET}-which-is-wrong", None),
        ):
            with self.assertRaises(ClientError):
                self.client(key, secret, token).list_objects_v2(Bucket="bucket")

    def objects(self) -> None:
        """
        Objects of all kinds, whole, in parts and copied, with metadata and tags; read by URLs, too.
        """
        self.secrets.add("SSE-C key", _CUSTOMER_KEY)
        self.secrets.add("content", _MARK)
        body = _MARK.encode() * 10_000
        for kind, asked in _KINDS.items():
            key = _CUSTOMER if kind == "customer" else {}
            more = {"Metadata": {"text": _MARK}, **({} if key else {"Tagging": f"t={_MARK}"})}
            where = {"Bucket": "bucket", "Key": kind}
            self.s3.put_object(**where, Body=body, **asked, **more)
            self.s3.put_object(Bucket="bucket", Key=f"small-{kind}", Body=_MARK.encode(), **asked)
            self.assertEqual(self.s3.get_object(**where, **key)["Body"].read(), body)
            source = {f"CopySource{name}": value for name, value in key.items()}
            self.s3.copy_object(
                Bucket="bucket",
                Key=f"copy-{kind}",
                CopySource=f"bucket/{kind}",
                **source,
                **asked,
            )
            named = {"Bucket": "bucket", "Key": f"parts-{kind}"}
            upload = self.s3.create_multipart_upload(**named, **asked)["UploadId"]
            part = {"UploadId": upload, "PartNumber": 1, "Body": body}
            etag = self.s3.upload_part(**named, **part, **key)["ETag"]
            made = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
            self.s3.complete_multipart_upload(**named, UploadId=upload, MultipartUpload=made, **key)

    def wrong_requests(self) -> None:
        """
        Keys and signatures that are wrong.
        """
        self.secrets.add("wrong SSE-C key", _WRONG_KEY)
        where = {"Bucket": "bucket", "Key": "customer"}
        for call in (self.s3.get_object, self.s3.head_object):
            for key in (_WRONG, {}):
                with self.assertRaises(ClientError):
                    call(**where, **key)
        with self.assertRaises(ClientError):
            self.s3.get_object(Bucket="bucket", Key="s3", **_WRONG)
        digest = b64encode(md5(b"x", usedforsecurity=False).digest()).decode()
        encoded = b64encode(_WRONG_KEY.encode()).decode()
        for value, told in ((encoded, digest), (_WRONG_KEY, digest), (encoded[:-3], "")):
            headers = {
                f"{_SSE}-algorithm": "AES256",
                f"{_SSE}-key": value,
                f"{_SSE}-key-MD5": told,
            }
            # A key in the query counts for nothing, and shall not be told either.
            url = self.s3.generate_presigned_url("get_object", where)
            self.requested(url, headers)
            self.requested(f"{url}&{_SSE}-key={quote(value)}", {})
        url = self.s3.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "s3"})
        signature = url.rpartition("=")[2]
        self.secrets.add("signature of a URL", signature)
        with urlopen(url, timeout=20) as answer:
            self.assertEqual(answer.status, 200)
        self.requested(url.replace("bucket/s3", "bucket/kms"), {}, tells=signature)

    def requested(self, url: str, headers: Mapping[str, str], tells: str = "") -> None:
        """
        Send a request that is wrong, and keep the answer.

        :param tells: What an answer may tell of the request: which signature it was.
        """
        with self.assertRaises(HTTPError) as caught:
            urlopen(Request(url, headers=dict(headers)), timeout=20)
        with caught.exception as error:
            body = error.read() + str(error.headers).encode()
        if tells:
            body = body.replace(tells.encode(), b"")
        self.answers[f"error {len(self.answers)}"] = body

    def crash(self) -> None:
        """
        Kill the server while something is stored, start it again, and stop it.
        """

        def upload() -> None:
            """
            Store more than can be stored before the end.
            """
            client = boto3_client(self.object)
            with contextlib.suppress(ClientError, BotoCoreError):
                for number in range(1000):
                    client.put_object(
                        Bucket="bucket",
                        Key=f"crash-{number}",
                        Body=_MARK.encode() * 100_000,
                        **_KINDS["s3"],
                    )
            client.close()

        thread = threading.Thread(target=upload)
        thread.start()
        wait_until(lambda: self.exists("crash-0"))
        os.kill(self.object.pid, signal.SIGKILL)
        self.object.kill()
        thread.join(60)
        self.assertFalse(thread.is_alive())
        self.object.start()
        got = self.s3.get_object(Bucket="bucket", Key="kms")["Body"].read()
        self.assertEqual(got, _MARK.encode() * 10_000)
        self.assertEqual(self.object.stop(), 0)

    def exists(self, key: str) -> bool:
        """
        Whether there is such an object.
        """
        return bool(self.s3.list_objects_v2(Bucket="bucket", Prefix=key).get("KeyCount"))

    def key_material(self) -> None:
        """
        Take up all keys: of the master, and of data, objects and parts that were stored.
        """
        kept = {path.name: path.read_bytes() for path in self.keys.iterdir()}
        for name, stored in kept.items():
            self.secrets.add(f"master key {name}", MasterKey.from_bytes(stored).key)
        data_keys = DataKeys(LocalKMS(MemoryKeyStore(kept)), Clock())
        object_keys = ObjectKeys(data_keys, os.urandom)
        for kind in _KINDS:
            for shape in ("", "small-", "copy-", "parts-"):
                key = f"{shape}{kind}"
                record = unpack(ObjectRecord, record_of(self.folder / "data", key)[1])
                found = read_entries(record.metadata.internal)
                if found.key_name is None or found.data_key is None:
                    continue
                opened = self.now(object_keys.opening("bucket", key, record.metadata.internal)())
                sealed = {"": found.data_key}
                if found.outer is not None:
                    sealed = {"inner": found.data_key, "outer": found.outer.data_key}
                for (layer, data_key), secret in zip(
                    sealed.items(), layer_secrets(opened), strict=True
                ):
                    bound = {"kypello:layer": layer} if layer else {}
                    context = object_context("bucket", key, {**(found.context or {}), **bound})
                    if found.bucket_key:
                        context = bucket_context("bucket")
                    opening = data_keys.open(found.key_name, data_key, context)
                    self.secrets.add(f"{layer} data key of {key}", self.now(opening))
                    self.secrets.add(f"{layer} object key of {key}", secret)
                    self.secrets.add(f"{layer} part key of {key}", part_key(secret, 1))

    def now(self, work: Any) -> Any:
        """
        What a coroutine gives that waits for nothing.
        """
        return self.successResultOf(Deferred.fromCoroutine(work))


class PassphraseTests(KeyServerCase):
    """
    A server with a key server inside, whose keys a passphrase seals.
    """

    def test_nowhere(self) -> None:
        """
        Neither passphrase nor master key are found, nor the root secret that it has made itself
        but in its file.
        """
        secrets, file = Secrets(), self.folder / "passphrase"
        secrets.add("passphrase", _PASSPHRASE)
        file.write_text(_PASSPHRASE)
        directory = self.folder / "data"
        server = ServerProcess(directory, {"KYPELLO_KMS_PASSPHRASE_FILE": str(file)})
        server.start()
        self.addCleanup(lambda: server.running and server.stop())
        s3 = boto3_client(server)
        self.addCleanup(s3.close)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="k", Body=b"content", **_KINDS["s3"])
        server.kill()
        log = server.log
        file.write_text("a passphrase that is wrong")
        secrets.add("wrong passphrase", "a passphrase that is wrong")
        server.start()
        self.assertEqual(server.stop(), 0)
        right = self.folder / "right"
        right.write_text(_PASSPHRASE)
        folder = FSSettings(directory / "kes" / "keys", Passphrase(file=right))
        keystore = make_keystore(folder, Parts(None, InlineLanes(), os.urandom))
        names = self.successResultOf(Deferred.fromCoroutine(keystore.names()))
        self.assertTrue(names)
        for name in names:
            stored = self.successResultOf(Deferred.fromCoroutine(keystore.get(name)))
            secrets.add(f"master key {name}", MasterKey.from_bytes(stored).key)
        secrets.add("root's secret", SECRET_KEY)
        places = {**tree(directory), "log": (log + server.log).encode()}
        self.assertEqual(secrets.found(places), [])
