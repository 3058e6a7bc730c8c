# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Quotas of buckets that two workers fill at once.
"""

import os
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from botocore.exceptions import ClientError

from kypello.crypto.dare import encrypted_size
from tests.integration.quotas import set_quota
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import refusal
from tests.integration.test_metrics import read, samples
from tests.integration.test_workers import WorkersCase

_SIZE = 100_000
_FITTING = 7
_QUOTA = _FITTING * encrypted_size(_SIZE) + 10


class QuotaTests(WorkersCase):
    """
    A bucket that takes seven objects.
    """

    environment: Mapping[str, str] = {
        **WorkersCase.environment,
        "MINIO_PROMETHEUS_AUTH_TYPE": "public",
    }

    def setUp(self) -> None:
        """
        Start the server, and set the quota.
        """
        super().setUp()
        set_quota(self.server, "bucket", _QUOTA)

    def put(self, client: Any, key: str) -> int:
        """
        Try to store an object; give the status.
        """
        try:
            client.put_object(Bucket="bucket", Key=key, Body=os.urandom(_SIZE))
        except ClientError as error:
            self.assertEqual(error.response["Error"]["Code"], "XMinioAdminBucketQuotaExceeded")
            return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        return 200

    def fill(self, word: str) -> int:
        """
        Have many clients store more objects than there is room for; give how many were stored.
        """
        with ThreadPoolExecutor(8) as threads:
            jobs = [
                threads.submit(self.put, (self.first, self.second)[number % 2], f"{word}{number}")
                for number in range(24)
            ]
            statuses = [job.result() for job in jobs]
        self.assertEqual(set(statuses), {200, 400})
        return statuses.count(200)

    def keys(self) -> list[str]:
        """
        What is stored.
        """
        listing = self.first.list_objects_v2(Bucket="bucket")
        return [each["Key"] for each in listing.get("Contents", [])]

    def test_at_once(self) -> None:
        """
        Many who write at once, to both workers, store as much as fits together; what they fail to
        store takes no room, and what is removed leaves it.
        """
        for word in ("one", "two"):
            stored = self.fill(word)
            self.assertEqual(stored, _FITTING)
            self.assertEqual(len(self.keys()), _FITTING)
            for key in self.keys():
                self.second.delete_object(Bucket="bucket", Key=key)

    def test_killed(self) -> None:
        """
        A bucket that was full is so after a worker was killed, and after the server was.
        """
        self.assertEqual(self.fill("one"), _FITTING)
        os.kill(self.server.workers()[0], signal.SIGKILL)
        client = boto3_client(self.server)
        self.assertEqual(self.put(client, "more"), 400)
        self.server.kill()
        self.server.start()
        client = boto3_client(self.server)
        self.assertEqual(self.put(client, "more"), 400)
        client.delete_object(Bucket="bucket", Key=self.keys()[0])
        self.assertEqual(self.put(client, "more"), 200)

    def test_each_way(self) -> None:
        """
        Copies, parts, and what parts are made to, are refused like what is stored at once.
        """
        for number in range(_FITTING):
            self.assertEqual(self.put(self.first, f"k{number}"), 200)
        code = "XMinioAdminBucketQuotaExceeded"
        where = {"Bucket": "bucket", "Key": "new"}
        source = {"Bucket": "bucket", "Key": "k0"}
        self.assertEqual(refusal(self.second.copy_object, **where, CopySource=source), (400, code))
        upload = self.first.create_multipart_upload(**where)["UploadId"]
        part = {**where, "UploadId": upload, "PartNumber": 1}
        self.assertEqual(refusal(self.second.upload_part, **part, Body=bytes(_SIZE)), (400, code))
        self.assertEqual(
            refusal(self.second.upload_part_copy, **part, CopySource=source), (400, code)
        )
        self.first.delete_object(Bucket="bucket", Key="k0")
        made = self.second.upload_part(**part, Body=bytes(_SIZE))
        self.assertEqual(self.put(self.first, "k0"), 200)
        parts = {"Parts": [{"PartNumber": 1, "ETag": made["ETag"]}]}
        completion = {**where, "UploadId": upload, "MultipartUpload": parts}
        self.assertEqual(refusal(self.second.complete_multipart_upload, **completion), (400, code))
        self.first.delete_object(Bucket="bucket", Key="k0")
        self.second.complete_multipart_upload(**completion)
        self.assertEqual(self.put(self.first, "k0"), 400)

    def test_form(self) -> None:
        """
        A form whose file does not fit is refused.
        """
        for number in range(_FITTING):
            self.assertEqual(self.put(self.first, f"k{number}"), 200)
        form = self.first.generate_presigned_post("bucket", "new")
        body = b"".join(
            b'--cut\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
            % (name.encode(), value)
            for name, value in (
                *((name, text.encode()) for name, text in form["fields"].items()),
                ("file", bytes(_SIZE)),
            )
        )
        kind = {"Content-Type": "multipart/form-data; boundary=cut"}
        request = Request(form["url"], body + b"--cut--\r\n", kind, method="POST")
        with self.assertRaises(HTTPError) as caught, urlopen(request, timeout=20):
            pass
        self.assertEqual(caught.exception.code, 400)
        self.assertIn(b"XMinioAdminBucketQuotaExceeded", caught.exception.read())

    def test_metrics(self) -> None:
        """
        Requests of both workers are counted by bucket, and the quota is told.
        """
        for client in (self.first, self.second):
            self.assertEqual(self.put(client, "k"), 200)
        found = samples(read(self.server.endpoint, "/minio/v2/metrics/bucket"))
        self.assertEqual(found["minio_bucket_requests_total"]["bucket", "putobject"], 2)
        self.assertGreaterEqual(
            found["minio_bucket_traffic_received_bytes_total"]["bucket",], 2 * _SIZE
        )
        self.assertEqual(found["minio_bucket_quota_total_bytes"]["bucket",], _QUOTA)
