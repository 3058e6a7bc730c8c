# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kms.troubles``.
"""

import os

from kypello.kms.troubles import ROWS, Troubles, shared_troubles
from tests.cases import SyncCase


class TroublesTests(SyncCase):
    """
    What three processes tell each other of one server.
    """

    def setUp(self) -> None:
        """
        Nothing was told yet.
        """
        self.descriptor = shared_troubles()
        self.addCleanup(os.close, self.descriptor)
        self.one, self.two, self.three = (Troubles(5, self.descriptor) for _ in range(3))

    def test_told(self) -> None:
        """
        What one tells, the others hear once, and itself never; what was told last counts.
        """
        self.assertIsNone(self.two.news())
        self.one.tell("it does not answer")
        self.assertIsNone(self.one.news())
        self.assertEqual(self.two.news(), "it does not answer")
        self.assertIsNone(self.two.news())
        self.two.tell("")
        self.assertEqual([each.news() for each in (self.one, self.two)], ["", None])
        self.assertEqual(self.three.news(), "")

    def test_rows(self) -> None:
        """
        Nothing that is told of one server is heard of another one, nor of one for which there is
        no room.
        """
        others = [Troubles(number, self.descriptor) for number in (4, 6, ROWS, ROWS + 1)]
        self.one.tell("it does not answer")
        others[2].tell("it is not there")
        self.assertEqual([other.news() for other in others], [None] * 4)
        self.assertEqual(self.two.news(), "it does not answer")

    def test_long(self) -> None:
        """
        Long words are cut, at whole characters.
        """
        for words in ("x" * 1000, "xä" * 1000, "äx" * 500, "€" * 500):
            self.one.tell(words)
            news = self.two.news()
            assert news
            self.assertTrue(words.startswith(news))
            self.assertGreater(len(news.encode()), 240)

    def test_broken(self) -> None:
        """
        A row of which any byte is not as it was written is not heard of; what is told next is.
        """
        size = os.fstat(self.descriptor).st_size // ROWS
        for at in range(size):
            self.one.tell("it does not answer")
            place = 5 * size + at
            byte = os.pread(self.descriptor, 1, place)[0]
            os.pwrite(self.descriptor, bytes([byte ^ 1]), place)
            self.assertIsNone(self.two.news())
            self.one.tell("it is slow")
            self.assertEqual(self.two.news(), "it is slow")

    def test_alone(self) -> None:
        """
        Who is alone hears nothing.
        """
        one = Troubles()
        one.tell("it does not answer")
        self.assertIsNone(one.news())
