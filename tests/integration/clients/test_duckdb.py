# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
DuckDB.

Its extension httpfs comes as a package of Python, and is loaded from there.
"""

from pathlib import Path
from typing import ClassVar

from tests.cases import SyncCase
from tests.integration.clients.command import LibraryStory
from tests.integration.clients.story import BUCKET

SETTINGS = """
```python
from pathlib import Path

import duckdb
import duckdb_extension_httpfs

database = duckdb.connect()
(httpfs,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("*.duckdb_extension")
database.execute(f"LOAD '{httpfs}'")
database.execute(\"\"\"
    CREATE SECRET (
        TYPE s3,
        ENDPOINT '127.0.0.1:9000',
        KEY_ID 'ACCESS_KEY',
        SECRET 'SECRET_KEY',
        REGION 'us-east-1',
        URL_STYLE 'path',
        USE_SSL false
    )
\"\"\")
```

`pip install duckdb duckdb-extension-httpfs`, with equal versions, brings the extension. Without
that package, `INSTALL httpfs; LOAD httpfs` gets it from the network.

It cannot ask for SSE-S3: let the bucket do, with `mc encrypt set sse-s3`. It does not store empty
files.
"""


class DuckDBTests(LibraryStory, SyncCase):
    """
    DuckDB, which makes no buckets, stores no empty files, and removes nothing.
    """

    name: ClassVar[str] = "duckdb"
    settings: ClassVar[str] = SETTINGS
    by_default: ClassVar[bool] = True

    def make_bucket(self) -> None:
        """
        Make the bucket with boto3.
        """
        self.boto3.create_bucket(Bucket=BUCKET)

    def remove_bucket(self) -> None:
        """
        Remove the bucket with boto3.
        """
        self.boto3.delete_bucket(Bucket=BUCKET)

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Store a file, an empty one with boto3.
        """
        if source.stat().st_size:
            super().put(source, key, kind)
        else:
            self.boto3.put_object(Bucket=BUCKET, Key=key)

    def delete(self, keys: list[str]) -> None:
        """
        Remove all with boto3.
        """
        self.boto3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]})

    def test_parquet(self) -> None:
        """
        A table in several Parquet files is written, found and read in pieces.
        """
        self.make_bucket()
        self.ask(
            "query",
            text="COPY (SELECT range AS i, i % 3 AS p, md5(i::VARCHAR) AS t FROM range(1000000))"
            f" TO 's3://{BUCKET}/table' (FORMAT parquet, PARTITION_BY p)",
        )
        found = self.ask(
            "query",
            text="SELECT count(*), sum(i)::BIGINT, max(t)"
            f" FROM read_parquet('s3://{BUCKET}/table/*/*.parquet') WHERE p = 1",
        )
        wanted = self.ask(
            "query",
            text="SELECT count(*), sum(i)::BIGINT, max(md5(i::VARCHAR))"
            " FROM range(1, 1000000, 3) AS numbers(i)",
        )
        self.assertEqual(found, wanted)
