# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.undisturbed``, ``kypello.store.sources`` and
``kypello.buffersource``.
"""

from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from kypello.buffersource import BLOCK, BufferSource
from kypello.interfaces import IBodySource
from kypello.store.sources import ResumedSource, begin
from kypello.store.undisturbed import undisturbed
from kypello.testing.fakes import BytesSource
from tests.cases import SyncCase


class UndisturbedTests(SyncCase):
    """
    Work that goes to its end.
    """

    def begin(self) -> "tuple[Deferred[int], Deferred[tuple[int, bool]]]":
        """
        Work that waits, and who waits for it.
        """
        step: Deferred[int] = Deferred()

        async def work() -> int:
            """
            Wait, and add one.
            """
            return await step + 1

        return step, Deferred.fromCoroutine(undisturbed(work()))

    def test_result(self) -> None:
        """
        The result is that of the work.
        """
        step, waiting = self.begin()
        step.callback(1)
        self.assertEqual(self.successResultOf(waiting), (2, False))

    def test_cancelled(self) -> None:
        """
        However often it is cancelled, the work ends and its result is told.
        """
        step, waiting = self.begin()
        for _ in range(3):
            waiting.cancel()
            self.assertNoResult(waiting)
        step.callback(1)
        self.assertEqual(self.successResultOf(waiting), (2, True))

    def test_failure(self) -> None:
        """
        What the work raises is raised, cancelled or not.
        """
        for cancel in (False, True):
            step, waiting = self.begin()
            if cancel:
                waiting.cancel()
            step.errback(ValueError())
            self.failureResultOf(waiting, ValueError)

    def test_cancelled_within(self) -> None:
        """
        Work that ends as cancelled by itself is not waited for again.
        """
        step, waiting = self.begin()
        step.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_at_once(self) -> None:
        """
        Work that does not wait gives its result at once.
        """

        async def work() -> str:
            """
            Do not wait.
            """
            return "done"

        waiting = Deferred.fromCoroutine(undisturbed(work()))
        self.assertEqual(self.successResultOf(waiting), ("done", False))


class SourcesTests(SyncCase):
    """
    Bodies in memory.
    """

    def drain(self, source: IBodySource) -> list[bytes]:
        """
        All blocks.
        """
        found = []
        while block := self.successResultOf(Deferred.fromCoroutine(source.read())):
            found.append(bytes(block))
        return found

    def test_buffer(self) -> None:
        """
        A buffer is given in blocks of bounded size.
        """
        data = bytes(BLOCK) + b"rest"
        source = BufferSource(data)
        self.assertTrue(verifyObject(IBodySource, source))
        self.assertEqual((source.size, self.drain(source)), (len(data), [bytes(BLOCK), b"rest"]))
        source = BufferSource(data)
        source.close()
        self.assertEqual(self.drain(source), [])

    def test_resumed(self) -> None:
        """
        What was read before comes first; closing gives up both.
        """
        body = BytesSource([b"c", b"d"])
        source = ResumedSource([b"a", b"b"], body)
        self.assertTrue(verifyObject(IBodySource, source))
        self.assertEqual(self.drain(source), [b"a", b"b", b"c", b"d"])
        source = ResumedSource([b"a"], body)
        source.close()
        self.assertTrue(body.closed)
        self.assertEqual(self.drain(source), [])

    def test_begin(self) -> None:
        """
        A small body is read whole; of others no more than it takes to know, and nothing of one
        that announces its size.
        """
        for blocks, size, expected, small in (
            ([b"ab", b"c"], None, [b"ab", b"c"], b"abc"),
            ([b"ab", b"c"], 3, [b"ab", b"c"], b"abc"),
            ([], None, [], b""),
            ([b"ab", b"cd", b"e"], None, [b"ab", b"cd"], None),
            ([b"ab", b"cd", b"e"], 5, [], None),
        ):
            body = BytesSource(blocks)
            body.size = size
            begun = self.successResultOf(Deferred.fromCoroutine(begin(body, 3)))
            self.assertEqual(begun, (expected, small))
