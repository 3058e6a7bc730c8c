# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of dates in requests.
"""

from hypothesis import given
from hypothesis import strategies as st

from kypello.auth.dates import (
    parse_timestamp,
    read_http_date,
    read_iso_date,
    server_time,
    write_timestamp,
)
from tests.auth.examples import NOW
from tests.cases import SyncCase

_PIECES = st.sampled_from(
    ["Fri,", "24", "May", "2013", "9" * 20, "9999", "0001", "00:00:00", "23:59:59", "GMT", "-0500",
     "+999999", "EST", ",", "-", ":", " "]
)  # fmt: skip


class TimestampTests(SyncCase):
    """
    Times in signatures.
    """

    def test_forms(self) -> None:
        """
        Only the one form is read.
        """
        self.assertEqual(parse_timestamp("20130524T000000Z"), NOW)
        for text in ("", "2013-05-24T00:00:00Z", "20130524T000000z", "00000000T000000Z"):
            self.assertIsNone(parse_timestamp(text), text)
        self.assertEqual(write_timestamp(NOW), "20130524T000000Z")
        self.assertEqual(server_time(NOW), "2013-05-24T00:00:00Z")


class ISODateTests(SyncCase):
    """
    Dates in documents about locks.
    """

    def test_forms(self) -> None:
        """
        Dates with a time and an offset are read, to the millisecond, upwards.
        """
        now = int(NOW) * 10**9
        for text, expected in (
            ("2013-05-24T00:00:00Z", now),
            ("2013-05-24T02:00:00+02:00", now),
            ("2013-05-23T19:00:00-05:00", now),
            ("2013-05-24T00:00:00.000Z", now),
            ("2013-05-24T00:00:00.5Z", now + 500_000_000),
            ("2013-05-24T00:00:00.123456789Z", now + 124_000_000),
            ("2013-05-24T00:00:00.000000001Z", now + 1_000_000),
            ("2013-05-24T00:00:00.999999999Z", now + 1_000_000_000),
        ):
            self.assertEqual(read_iso_date(text), expected, text)

    def test_no_date(self) -> None:
        """
        Anything else is no date.
        """
        for text in (
            "",
            "2013-05-24",
            "2013-05-24T00:00:00",
            "2013-05-24 00:00:00Z",
            "2013-05-24T00:00Z",
            "2013-05-24T00:00:00z",
            "2013-05-24T00:00:00.Z",
            "2013-05-24T00:00:00.1234567890Z",
            "2013-05-24T00:00:00+0200",
            "2013-02-30T00:00:00Z",
            "2013-05-24T24:00:01Z",
            "0000-01-01T00:00:00Z",
            "2013-05-24T00:00:00Z\n",
            "\uff12013-05-24T00:00:00Z",
        ):
            self.assertIsNone(read_iso_date(text), text)

    @given(st.text("0123456789-T:.Z+", max_size=30))
    def test_anything(self, text: str) -> None:
        """
        Whatever a document holds, it is a whole number of milliseconds or no date.
        """
        moment = read_iso_date(text)
        if moment is not None:
            self.assertEqual(moment % 1_000_000, 0)


class HTTPDateTests(SyncCase):
    """
    Dates in headers.
    """

    def test_forms(self) -> None:
        """
        All three forms of HTTP are read, as GMT unless they say something else.
        """
        for text in (
            "Fri, 24 May 2013 00:00:00 GMT",
            "Friday, 24-May-13 00:00:00 GMT",
            "Fri May 24 00:00:00 2013",
            "Fri, 24 May 2013 00:00:00 -0000",
            "Thu, 23 May 2013 19:00:00 -0500",
        ):
            self.assertEqual(read_http_date(text), NOW, text)

    def test_no_date(self) -> None:
        """
        Anything else is no date, however large its numbers are.
        """
        for text in (
            "",
            "yesterday",
            "2013-05-24T00:00:00Z",
            "Fri, 24 May 99999999999999999999 00:00:00 GMT",
            "Fri, 31 Dec 9999 23:59:59 -0500",
            "Fri, 24 May 2013 00:00:00 +999999",
        ):
            self.assertIsNone(read_http_date(text), text)

    @given(st.one_of(st.text(), st.lists(_PIECES).map(" ".join), st.lists(_PIECES).map("".join)))
    def test_anything(self, text: str) -> None:
        """
        Whatever a header holds, it is a date that can be written or none.
        """
        moment = read_http_date(text)
        if moment is not None:
            self.assertTrue(write_timestamp(moment))
