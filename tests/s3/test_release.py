# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what operations hold, and that they give it back, whatever the client does.
"""

from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from kypello.interfaces import IBodySource, IObjectStore, IOpenObject
from kypello.model import BucketInfo, ByteRange, CustomerKey, Deletion, ObjectInfo
from kypello.s3.root import S3Resource
from kypello.testing.harness import Answer, Harness, RawClient
from tests.s3.front import FrontCase, presigned, signed
from tests.s3.test_deletion import listing


@implementer(IOpenObject)
@define(eq=False)
class WatchedObject:
    """
    An object that is open, and knows whether it still is.
    """

    _below: IOpenObject
    _pause: "Deferred[None] | None"
    closed: bool = False

    @property
    def info(self) -> ObjectInfo:
        """
        The version.
        """
        return self._below.info

    async def read(self, wanted: ByteRange | None) -> IBodySource:
        """
        Begin to read, when the test wants it.
        """
        if self._pause is not None:
            await self._pause
        return await self._below.read(wanted)

    def close(self) -> None:
        """
        Remember it.
        """
        self.closed = True
        self._below.close()


@implementer(IObjectStore)
@define(eq=False)
class WatchedStore:
    """
    A store whose open objects and deletions are seen.

    :ivar pause: What reads wait for.
    :ivar opened: All objects that were opened.
    :ivar deleting: Deletions that are under way, until the test ends them.
    :ivar cancelled: Those among them that were cancelled.
    """

    _below: IObjectStore
    pause: "Deferred[None] | None" = None
    opened: list[WatchedObject] = field(factory=list)
    deleting: "list[Deferred[None]]" = field(factory=list)
    cancelled: "list[Deferred[None]]" = field(factory=list)

    async def bucket(self, name: str) -> BucketInfo:
        """
        Look up a bucket.
        """
        return await self._below.bucket(name)

    async def open(
        self, bucket: str, key: str, customer_key: CustomerKey | None = None, version_id: str = ""
    ) -> IOpenObject:
        """
        Open an object.
        """
        below = await self._below.open(bucket, key, customer_key, version_id)
        opened = WatchedObject(below, self.pause)
        self.opened.append(opened)
        return opened

    async def head(
        self, bucket: str, key: str, customer_key: CustomerKey | None = None, version_id: str = ""
    ) -> ObjectInfo:
        """
        Tell an object.
        """
        return await self._below.head(bucket, key, customer_key, version_id)

    async def put(self, *arguments: Any) -> ObjectInfo:
        """
        Store an object.
        """
        return await self._below.put(*arguments)

    async def delete(self, *_arguments: Any) -> Deletion:
        """
        Wait for the test.
        """
        waiting: Deferred[None] = Deferred(self.cancelled.append)
        self.deleting.append(waiting)
        await waiting
        return Deletion()


class ReleaseTests(FrontCase):
    """
    What operations give back.
    """

    def setUp(self) -> None:
        """
        Watch the store, with one object in it.
        """
        super().setUp()
        self.put("k", b"x" * 100_000)
        self.watched = WatchedStore(self.store)
        front = evolve(self.front, store=self.watched)
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)

    def start(self, method: str, target: str) -> RawClient:
        """
        A client that has sent a request and will go away.
        """
        client = self.harness.connect()
        line = f"{method} {presigned(method, target)} HTTP/1.1\r\nHost: kypello.test\r\n\r\n"
        client.send(line.encode())
        return client

    def test_open_objects(self) -> None:
        """
        An object is closed however its reading ends.
        """
        for headers, status in (
            ({}, 200),
            ({"Range": "bytes=1-2"}, 206),
            ({"If-None-Match": "*"}, 304),
            ({"If-Match": "x"}, 412),
            ({"Range": "bytes=100000-"}, 416),
        ):
            self.send("GET", "/bucket/k", headers=headers, status=status)
        self.assertEqual([opened.closed for opened in self.watched.opened], [True] * 5)

    def test_vanished_reader(self) -> None:
        """
        An object is closed when its reader goes away before the first byte.
        """
        self.watched.pause = Deferred()
        client = self.start("GET", "/bucket/k")
        self.assertFalse(self.watched.opened[0].closed)
        client.go_away()
        self.assertTrue(self.watched.opened[0].closed)

    def test_bounded_deletions(self) -> None:
        """
        Of a long list a few objects are removed at once, and all in the end.
        """
        body = listing(*(f"key-{number}" for number in range(100)))
        lines = signed("POST", "/bucket?delete", {}, body)
        running = self.harness.request("POST", "/bucket?delete", lines, body)
        self.assertEqual(len(self.watched.deleting), 16)
        for number in range(100):
            self.assertNoResult(running)
            self.watched.deleting[number].callback(None)
            self.assertLessEqual(len(self.watched.deleting), number + 17)
        answer = self.successResultOf(running)
        assert isinstance(answer, Answer)
        self.assertEqual(answer.body.count(b"<Deleted>"), 100)

    def test_vanished_remover(self) -> None:
        """
        When the client goes away, what is not removed yet stays.
        """
        client = self.harness.connect()
        body = listing(*(f"key-{number}" for number in range(100)))
        lines = signed("POST", "/bucket?delete", {"Host": "kypello.test"}, body)
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        start = f"POST /bucket?delete HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n"
        client.send(start.encode() + body)
        self.assertEqual(len(self.watched.deleting), 16)
        client.go_away()
        self.assertEqual(self.watched.cancelled, self.watched.deleting)
        self.assertEqual(len(self.watched.deleting), 16)

    def test_failing_remover(self) -> None:
        """
        A deletion that fails as nobody expected fails the request, and is logged as itself.
        """
        body = listing("a", "b")
        lines = signed("POST", "/bucket?delete", {}, body)
        running = self.harness.request("POST", "/bucket?delete", lines, body)
        self.watched.deleting[0].errback(ZeroDivisionError())
        self.assert_refused(self.successResultOf(running), 500, "InternalError")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.watched.cancelled, self.watched.deleting[1:])
