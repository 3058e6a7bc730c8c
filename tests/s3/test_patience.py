# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.patience``: copies and completions that take long, over the wire.
"""

from typing import Any

from attrs import define, evolve
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers
from zope.interface.verify import verifyObject

from kypello.errors import StorageFailed
from kypello.interfaces import IBodySource, IObjectStore
from kypello.model import ObjectInfo, PartInfo, UploadInfo
from kypello.s3.patience import PATIENCE, _LateAnswer, _Running
from kypello.s3.root import S3Resource
from kypello.testing.harness import Answer, Harness, RawClient
from tests.cases import SyncCase
from tests.s3.front import read_xml, signed
from tests.s3.test_multipart import UploadCase, part_list
from tests.s3.test_release import WatchedStore

_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'


@define(eq=False)
class SlowStore(WatchedStore):
    """
    A store that completes uploads, and stores parts, when the test wants it.

    :ivar waiting: Who waits.
    """

    waiting: "Deferred[None] | None" = None
    gone: bool = False

    def _wait(self) -> "Deferred[None]":
        def cancelled(_waiting: "Deferred[None]") -> None:
            self.gone = True

        self.waiting = Deferred(cancelled)
        return self.waiting

    async def upload(self, bucket: str, key: str, upload_id: str) -> UploadInfo:
        """
        Look up an upload.
        """
        return await self._below.upload(bucket, key, upload_id)

    async def put_part(self, *arguments: Any) -> PartInfo:
        """
        Wait, then store a part.
        """
        await self._wait()
        return await self._below.put_part(*arguments)

    async def put(self, *arguments: Any) -> ObjectInfo:
        """
        Wait, then store an object.
        """
        await self._wait()
        return await self._below.put(*arguments)

    async def complete_upload(self, *arguments: Any) -> ObjectInfo:
        """
        Wait, then complete an upload.
        """
        await self._wait()
        return await self._below.complete_upload(*arguments)


class PatienceTests(UploadCase):
    """
    Answers that begin before they are known.
    """

    def setUp(self) -> None:
        """
        Have an upload and a source, behind a slow store.
        """
        super().setUp()
        self.put("source", b"hello")
        self.upload_id, self.listed = self.upload(b"one", b"two")
        below: IObjectStore = self.store
        self.slow = SlowStore(below)
        front = evolve(self.front, store=self.slow)
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)
        self.requests = (
            ("POST", f"/bucket/k?uploadId={self.upload_id}", self.listed, {}),
            ("PUT", "/bucket/target", b"", {"x-amz-copy-source": "/bucket/source"}),
            (
                "PUT",
                f"/bucket/k?partNumber=1&uploadId={self.upload_id}",
                b"",
                {"x-amz-copy-source": "/bucket/source"},
            ),
        )

    def begun(self, method: str, target: str, body: bytes, headers: Any) -> RawClient:
        """
        A client whose request is under way.
        """
        client = self.harness.connect()
        lines = signed(method, target, {"Host": "kypello.test", **headers}, body)
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        start = f"{method} {target} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n"
        client.send(start.encode() + body)
        return client

    def answer(self, client: RawClient) -> Answer:
        """
        The whole answer that a client got.
        """
        head, _, body = client.take().partition(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")
        headers = Headers()
        for line in lines:
            name, _, value = line.partition(": ")
            headers.addRawHeader(name, value)
        if headers.hasHeader("Transfer-Encoding"):
            chunks = []
            while not body.startswith(b"0\r\n\r\n"):
                size, _, rest = body.partition(b"\r\n")
                chunks.append(rest[: int(size, 16)])
                body = rest[int(size, 16) + 2 :]
            body = b"".join(chunks)
        return Answer(int(start.split(" ")[1]), headers, body)

    def proceed(self, failure: Exception | None = None) -> None:
        """
        Let the store go on.
        """
        waiting = self.slow.waiting
        assert waiting is not None
        if failure is None:
            waiting.callback(None)
        else:
            waiting.errback(failure)

    def test_soon(self) -> None:
        """
        What ends soon has a status and headers of its own, and leaves no timer.
        """
        for request in self.requests[::-1]:
            client = self.begun(*request)
            self.clock.advance(PATIENCE - 0.1)
            self.assertEqual(client.received, b"")
            self.proceed()
            found = self.answer(client)
            self.assertEqual((found.status, found.header("Transfer-Encoding")), (200, None))
            self.assertTrue(found.body.startswith(_DECLARATION + b"<C"))
            self.assertEqual(self.clock.getDelayedCalls(), [])
            if request is not self.requests[0]:
                self.begin_again()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def begin_again(self) -> None:
        """
        Have the parts as they were.
        """
        self.harness, harness = self.fast(), self.harness
        self.part(self.upload_id, 1, b"one")
        self.harness = harness

    def fast(self) -> Harness:
        """
        Clients of the store itself.
        """
        return Harness(S3Resource(self.front, self.health.probe), access_log=False)

    def test_soon_refused(self) -> None:
        """
        What fails soon is a proper error.
        """
        for request in self.requests:
            client = self.begun(*request)
            self.clock.advance(PATIENCE - 0.1)
            self.proceed(StorageFailed("x"))
            self.assert_refused(self.answer(client), 503, "ServiceUnavailable")
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late(self) -> None:
        """
        What takes longer is a document that begins with its declaration and grows by a blank at
        a time.
        """
        for request in self.requests[::-1]:
            client = self.begun(*request)
            for _ in range(4):
                self.clock.advance(PATIENCE)
            self.proceed()
            found = self.answer(client)
            self.assertEqual(found.status, 200)
            self.assertEqual(found.header("Content-Type"), "application/xml")
            self.assertTrue(found.body.startswith(_DECLARATION + b"   <C"), found.body)
            self.assertIn(read_xml(found).tag[-6:], ("Result",))
            self.assertEqual(self.clock.getDelayedCalls(), [])
            if request is not self.requests[0]:
                self.begin_again()

    def test_seen(self) -> None:
        """
        The client sees each blank when it is sent.
        """
        client = self.begun(*self.requests[0])
        self.assertEqual(client.take(), b"")
        self.clock.advance(PATIENCE)
        begun = client.take()
        self.assertTrue(begun.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertIn(_DECLARATION, begun)
        for _ in range(3):
            self.clock.advance(PATIENCE - 0.1)
            self.assertEqual(client.take(), b"")
            self.clock.advance(0.1)
            self.assertEqual(client.take(), b"1\r\n \r\n")
        client.go_away()

    def test_late_errors(self) -> None:
        """
        What fails late is an error in the answer; an unexpected one is logged and tells nothing.
        """
        for failure, code in (
            (StorageFailed("x"), b"ServiceUnavailable"),
            (ZeroDivisionError(), b"InternalError"),
        ):
            for request in self.requests:
                client = self.begun(*request)
                self.clock.advance(PATIENCE)
                self.clock.advance(PATIENCE)
                self.proceed(failure)
                found = self.answer(client)
                self.assertEqual(found.status, 200)
                start = _DECLARATION + b" <Error><Code>" + code
                self.assertTrue(found.body.startswith(start), found.body)
                tree = read_xml(found)
                self.assertEqual(tree.findtext("RequestId"), found.header("x-amz-request-id"))
            self.flushLoggedErrors(ZeroDivisionError)

    def test_refused_late(self) -> None:
        """
        An upload whose end is refused late can still be completed.
        """
        method, target, _, headers = self.requests[0]
        client = self.begun(method, target, part_list((1, "x")), headers)
        self.clock.advance(PATIENCE)
        self.proceed()
        self.assertIn(b"InvalidPart", self.answer(client).body)
        self.harness = self.fast()
        self.complete(self.upload_id, self.listed)

    def test_vanished_client(self) -> None:
        """
        When the client goes away the operation is cancelled, early or late, and no timer runs.
        """
        for patience in (0, PATIENCE, 3 * PATIENCE):
            for request in self.requests:
                client = self.begun(*request)
                self.clock.pump([patience / 3] * 3)
                self.slow.gone = False
                client.go_away()
                self.assertTrue(self.slow.gone)
                self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(all(opened.closed for opened in self.slow.opened))


class SourceTests(SyncCase):
    """
    The body of such an answer.
    """

    def test_interface(self) -> None:
        """
        It provides the seam.
        """
        running = _Running(None, Deferred())
        verifyObject(IBodySource, _LateAnswer(None, running))
