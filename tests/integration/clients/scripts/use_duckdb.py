# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
DuckDB with its extension httpfs.
"""

from pathlib import Path
from typing import Any

from serve import Client, serve


class DuckDB(Client):
    """
    Tables of single bytes, and queries.
    """

    def connect(self, code: str, bucket: str, customer_key: str) -> None:
        """
        Open a database.
        """
        super().connect(code, bucket, customer_key)
        self.database = self.names["database"]

    def query(self, text: str) -> list[Any]:
        """
        Run a query.
        """
        return self.database.execute(text).fetchall()

    def url(self, key: str) -> str:
        """
        The URL of a key.
        """
        return f"s3://{self.bucket}/{key}"

    def put(self, source: str, key: str, kind: str) -> None:
        """
        Write the bytes of a file, in parts if it is large.
        """
        self.database.execute(
            f"COPY (SELECT ?::BLOB) TO '{self.url(key)}' (FORMAT blob)",
            [Path(source).read_bytes()],
        )

    def get(self, key: str, target: str, kind: str) -> None:
        """
        Read the bytes of an object.
        """
        ((content,),) = self.database.execute(
            "SELECT content FROM read_blob(?)", [self.url(key)]
        ).fetchall()
        Path(target).write_bytes(content)

    def keys(self, prefix: str) -> dict[str, int]:
        """
        Find all files.
        """
        found = self.database.execute(
            "SELECT filename, size FROM read_blob(?)", [self.url(f"{prefix}**")]
        ).fetchall()
        return {name.removeprefix(self.url("")): size for name, size in found}


serve(DuckDB())
