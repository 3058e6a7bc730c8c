# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.http.body``.
"""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from kypello.errors import BodyTruncated
from kypello.http.body import BLOCK, HIGH_WATER, RequestBody
from kypello.interfaces import IBodySource
from tests.cases import SyncCase
from tests.http.resources import read_all


class Upstream:
    """
    A connection that counts what it is asked for.
    """

    def __init__(self) -> None:
        """
        Nothing was asked for.
        """
        self.wanted = 0
        self.drained = 0

    def body_wanted(self) -> None:
        """
        Called by the body.
        """
        self.wanted += 1

    def body_drained(self) -> None:
        """
        Called by the body.
        """
        self.drained += 1


class RequestBodyTests(SyncCase):
    """
    A body between a connection and an operation.
    """

    def body(self, size: int | None) -> RequestBody:
        """
        A body of which nothing has come.
        """
        self.upstream = Upstream()
        return RequestBody(size, self.upstream)

    def test_interface(self) -> None:
        """
        It is what operations read.
        """
        self.assertTrue(verifyObject(IBodySource, self.body(1)))

    @settings(deadline=None, max_examples=30)
    @given(
        st.integers(0, 3 * BLOCK),
        st.lists(st.tuples(st.booleans(), st.integers(1, BLOCK)), max_size=12),
        st.booleans(),
    )
    def test_either_way(self, size: int, steps: list[tuple[bool, int]], known: bool) -> None:
        """
        It does not matter whether bytes are delivered or received in place, nor how many at once.
        """
        content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
        body = self.body(size if known else None)
        at = 0
        for in_place, most in (*steps, *[(True, BLOCK)] * 60):
            space = body.space() if in_place else None
            count = min(most, size - at, len(space) if space is not None else 60_000)
            if not count:
                continue
            if space is None:
                body.deliver(content[at : at + count])
            else:
                space[:count] = content[at : at + count]
                body.filled(count)
            at += count
        body.finish()
        self.assertIsNone(body.space())
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(read_all(body))) == content)

    def test_little_memory_for_little(self) -> None:
        """
        A peer that announces much and sends little holds no more than what it sent.
        """
        body = self.body(5 * 10**12)
        body.deliver(b"a" * 1000)
        self.assertIsNone(body.space())

    def test_room(self) -> None:
        """
        The connection hears when a full body has room again.
        """
        body = self.body(None)
        while not body.full:
            body.deliver(bytes(BLOCK))
        self.assertEqual(self.upstream.drained, 0)
        self.assertEqual(len(self.successResultOf(Deferred.fromCoroutine(body.read()))), BLOCK)
        self.assertEqual((self.upstream.drained, body.full), (1, False))

    def test_failure_drops_the_rest(self) -> None:
        """
        After a failure nothing is held, nothing more is taken, and every read fails.
        """
        body = self.body(HIGH_WATER)
        body.deliver(bytes(BLOCK + 1))
        body.fail(BodyTruncated())
        body.deliver(b"a")
        for _ in range(2):
            self.failureResultOf(Deferred.fromCoroutine(body.read()), BodyTruncated)
        self.assertIsNone(body.space())

    def test_failure_after_the_end(self) -> None:
        """
        What has come completely stays readable.
        """
        body = self.body(3)
        body.deliver(b"abc")
        body.finish()
        body.fail(BodyTruncated())
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(read_all(body))), b"abc")

    def test_close(self) -> None:
        """
        A closed body is at its end, for a read that waits too, and tells the connection once.
        """
        body = self.body(3)
        read = Deferred.fromCoroutine(body.read())
        self.assertNoResult(read)
        body.close()
        body.close()
        self.assertEqual(self.successResultOf(read), b"")
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(body.read())), b"")
        self.assertEqual(self.upstream.drained, 1)

    def test_cancel(self) -> None:
        """
        A read that was cancelled loses nothing.
        """
        body = self.body(3)
        read = Deferred.fromCoroutine(body.read())
        read.cancel()
        self.failureResultOf(read, CancelledError)
        self.assertFalse(body.waiting)
        body.deliver(b"abc")
        body.finish()
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(read_all(body))), b"abc")
