# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.transactions``, beyond what the index itself shows.
"""

import sqlite3
from contextlib import closing

from kypello.errors import Damaged
from kypello.store.transactions import Get, Scan, read_all
from tests.cases import SyncCase


class DamageTests(SyncCase):
    """
    Rows that no version of Kypello has written.
    """

    def refused(self, *rows: tuple[object, object]) -> None:
        """
        Look for rows in ways that must not succeed.
        """
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.text_factory = bytes
            connection.execute("CREATE TABLE records (key, value)")
            connection.executemany("INSERT INTO records VALUES (?, ?)", rows)
            for request in (Scan(b"", None, 10), Get([b"a"])):
                with self.assertRaisesRegex(Damaged, "rows of the index"):
                    read_all(connection, [request])

    def test_no_value(self) -> None:
        """
        A row without a value is no row of another one's value.
        """
        self.refused((b"a", None), (b"b", b"value"))
        self.refused((b"a", None))

    def test_text(self) -> None:
        """
        Characters are not taken for bytes.
        """
        self.refused((b"a", "größer"), (b"b", b"value"))
