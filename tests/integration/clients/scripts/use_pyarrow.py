# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The S3 file system of Arrow.
"""

from pathlib import Path

from pyarrow import fs
from serve import Client, serve


class Arrow(Client):
    """
    A file system, whatever the kind of protection.
    """

    def connect(self, code: str, bucket: str, customer_key: str) -> None:
        """
        Make the file system.
        """
        super().connect(code, bucket, customer_key)
        self.fs = self.names["s3"]

    def path(self, key: str) -> str:
        """
        The path of a key.
        """
        return f"{self.bucket}/{key}"

    def make_bucket(self) -> None:
        """
        Make the bucket.
        """
        self.fs.create_dir(self.bucket)

    def remove_bucket(self) -> None:
        """
        Remove the bucket with the objects that stand for folders in it.
        """
        self.fs.delete_dir(self.bucket)

    def put(self, source: str, key: str, kind: str) -> None:
        """
        Write a stream, in parts if it is large.
        """
        with self.fs.open_output_stream(self.path(key)) as stream:
            stream.write(Path(source).read_bytes())

    def get(self, key: str, target: str, kind: str) -> None:
        """
        Read a stream.
        """
        with self.fs.open_input_stream(self.path(key)) as stream:
            Path(target).write_bytes(stream.read())

    def get_range(self, key: str, first: int, last: int, kind: str) -> str:
        """
        Read from within a file.
        """
        with self.fs.open_input_file(self.path(key)) as file:
            return file.read_at(last - first + 1, first).hex()

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List the files.
        """
        selector = fs.FileSelector(
            self.path(prefix).rstrip("/"), recursive=True, allow_not_found=True
        )
        found = self.fs.get_file_info(selector)
        return {info.path.split("/", 1)[1]: info.size for info in found if info.is_file}

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy.
        """
        self.fs.copy_file(self.path(source), self.path(target))
        return True

    def sync(self, folder: str, prefix: str, kind: str) -> bool:
        """
        Store all of a folder.
        """
        fs.copy_files(
            folder,
            self.path(prefix).rstrip("/"),
            source_filesystem=fs.LocalFileSystem(),
            destination_filesystem=self.fs,
        )
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove one after the other.
        """
        for key in keys:
            self.fs.delete_file(self.path(key))


serve(Arrow())
