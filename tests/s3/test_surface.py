# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The document about the S3 API, and what it says is not offered.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

from tests.s3.front import FrontCase
from tests.s3.surface import REMARKS, Row, document, model, notes, request_of, rows

_DOCUMENT = Path(__file__).parents[2] / "docs" / "s3-api.md"
_ROW = re.compile(r"\| (\w+) \| (?:yes|fixed|no) \|.*")


class SurfaceTests(FrontCase):
    """
    ``docs/s3-api.md`` tells what the routing table says.

    Another botocore may know more operations, or fewer: those that it shares with the document
    count.
    """

    def setUp(self) -> None:
        """
        Read the document.
        """
        super().setUp()
        self.lines = _DOCUMENT.read_text(encoding="utf-8").splitlines()
        told = {found[1] for line in self.lines if (found := _ROW.fullmatch(line))}
        self.names = told & set(model().operation_names)
        self.assertGreater(len(self.names), 100)

    def known(self) -> Sequence[Row]:
        """
        The operations that count.
        """
        return [row for row in rows() if row.name in self.names]

    def counting(self, lines: Sequence[str]) -> Sequence[str]:
        """
        Lines without those of operations that do not count.
        """
        rows = [(_ROW.fullmatch(line), line) for line in lines]
        return [line for found, line in rows if found is None or found[1] in self.names]

    def test_up_to_date(self) -> None:
        """
        The document is what the table says now.
        """
        self.assertEqual(self.counting(self.lines), self.counting(document().splitlines()))

    def test_reasons(self) -> None:
        """
        Each operation that is not offered, or always the same, has one reason, others none.
        """
        noted = notes()
        for row in self.known():
            reasons = bool(row.reason) + (row.name in noted)
            self.assertEqual(reasons, row.offered != "yes", row.name)
            if row.name in REMARKS:
                self.assertEqual(row.offered, "yes")

    def test_not_offered(self) -> None:
        """
        What is not offered is not implemented, and leaves everything as it was.
        """
        self.put("k")
        for row in self.known():
            if row.operation is None:
                _level, head = request_of(model().operation_model(row.name))
                target = f"{head.path}?{urlencode(head.query)}".rstrip("?")
                self.refused(
                    head.method,
                    target,
                    501,
                    "NotImplemented",
                    body=b"x",
                    headers=dict(head.headers),
                )
        self.assertEqual(self.send("GET", "/bucket/k", status=200).body, b"content")
        self.assertEqual(self.send("GET", "/bucket?cors").status, 404)
