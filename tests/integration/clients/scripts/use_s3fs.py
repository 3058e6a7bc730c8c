# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
s3fs.
"""

from typing import Any

import s3fs
from serve import Client, serve


class S3FS(Client):
    """
    A file system for each kind of protection.
    """

    def connect(self, code: str, bucket: str, customer_key: str) -> None:
        """
        Make the file systems.
        """
        super().connect(code, bucket, customer_key)
        plain = self.names["fs"]
        customer = {
            f"{prefix}SSECustomer{name}": value
            for prefix in ("", "CopySource")
            for name, value in (("Algorithm", "AES256"), ("Key", self.customer_key))
        }
        self.fs = {
            "plain": plain,
            "sse-s3": self.protected(plain, {"ServerSideEncryption": "AES256"}),
            "sse-c": self.protected(plain, customer),
        }

    def protected(self, plain: Any, arguments: Any) -> Any:
        """
        The same file system with arguments for every request.
        """
        return s3fs.S3FileSystem(**plain.storage_options, s3_additional_kwargs=arguments)

    def path(self, key: str) -> str:
        """
        The path of a key.
        """
        return f"{self.bucket}/{key}"

    def make_bucket(self) -> None:
        """
        Make the bucket.
        """
        self.fs["plain"].mkdir(self.bucket)

    def remove_bucket(self) -> None:
        """
        Remove the bucket.
        """
        self.fs["plain"].rmdir(self.bucket)

    def put(self, source: str, key: str, kind: str) -> None:
        """
        Store a file, in parts if it is large.
        """
        self.fs[kind].put_file(source, self.path(key), chunksize=8 * 1024 * 1024)

    def get(self, key: str, target: str, kind: str) -> None:
        """
        Read into a file.
        """
        self.fs[kind].get_file(self.path(key), target)

    def get_range(self, key: str, first: int, last: int, kind: str) -> str:
        """
        Read a range by seeking in an open file.
        """
        with self.fs[kind].open(self.path(key), "rb") as file:
            file.seek(first)
            return file.read(last - first + 1).hex()

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List, not from what it remembers.
        """
        fs = self.fs["plain"]
        fs.invalidate_cache()
        found = fs.find(self.path(prefix), detail=True)
        return {path.split("/", 1)[1]: entry["size"] for path, entry in found.items()}

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy.
        """
        self.fs[kind].cp_file(self.path(source), self.path(target))
        return True

    def sync(self, folder: str, prefix: str, kind: str) -> bool:
        """
        Store all of a folder.
        """
        self.fs[kind].put(f"{folder}/", self.path(prefix), recursive=True)
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove all with one request.
        """
        self.fs["plain"].rm([self.path(key) for key in keys])


serve(S3FS())
