# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
boto3 before the checksums that it sends by default now.
"""

from serve import Client, serve


class Boto3(Client):
    """
    Managed transfers, and what a client has.
    """

    def connect(self, code: str, bucket: str, customer_key: str) -> None:
        """
        Prepare the arguments for each kind of protection.
        """
        super().connect(code, bucket, customer_key)
        self.s3 = self.names["s3"]
        customer = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": self.customer_key}
        self.writing = {
            "plain": {},
            "sse-s3": {"ServerSideEncryption": "AES256"},
            "sse-c": customer,
        }
        self.reading = {"plain": {}, "sse-s3": {}, "sse-c": customer}

    def make_bucket(self) -> None:
        """
        Make the bucket.
        """
        self.s3.create_bucket(Bucket=self.bucket)

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.s3.delete_bucket(Bucket=self.bucket)

    def put(self, source: str, key: str, kind: str) -> None:
        """
        Upload a file, in parts if it is large.
        """
        self.s3.upload_file(source, self.bucket, key, ExtraArgs=self.writing[kind])

    def get(self, key: str, target: str, kind: str) -> None:
        """
        Download to a file, in ranges if it is large.
        """
        self.s3.download_file(self.bucket, key, target, ExtraArgs=self.reading[kind])

    def get_range(self, key: str, first: int, last: int, kind: str) -> str:
        """
        Read a range.
        """
        got = self.s3.get_object(
            Bucket=self.bucket, Key=key, Range=f"bytes={first}-{last}", **self.reading[kind]
        )
        return got["Body"].read().hex()

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List with the older of the two listings.
        """
        pages = self.s3.get_paginator("list_objects").paginate(Bucket=self.bucket, Prefix=prefix)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy, in parts if it is large.
        """
        arguments = dict(self.writing[kind])
        if kind == "sse-c":
            arguments["CopySourceSSECustomerAlgorithm"] = "AES256"
            arguments["CopySourceSSECustomerKey"] = self.customer_key
        self.s3.copy(
            {"Bucket": self.bucket, "Key": source}, self.bucket, target, ExtraArgs=arguments
        )
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove all with one request.
        """
        answer = self.s3.delete_objects(
            Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in keys]}
        )
        assert not answer.get("Errors"), answer


serve(Boto3())
