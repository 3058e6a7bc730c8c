# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.listening``, over the wire.
"""

import json
from typing import Any

from attrs import evolve
from twisted.internet.testing import MemoryReactorClock

from kypello.events.broadcast import EVENT, KEEP_ALIVE, MOST_LISTENERS, MOST_WAITING, Broadcast
from kypello.events.sink import EventSink
from kypello.s3.root import S3Resource
from kypello.store.memory import MemoryIndex
from kypello.testing.harness import Harness, RawClient
from tests.events.test_sink import SinkParts
from tests.s3.front import FrontCase, signed
from tests.s3.rules import Rule

_EVENTS = "events=s3%3AObjectCreated%3A%2A&events=s3%3AObjectRemoved%3A%2A"


class ListeningTests(FrontCase):
    """
    Streams of events.
    """

    def serve(self, **options: Any) -> None:
        """
        Serve with those who tell, and two buckets.
        """
        self.reactor = MemoryReactorClock()
        self.broadcast = Broadcast(self.reactor)
        self.addCleanup(self.broadcast.end)
        parts = SinkParts(MemoryIndex())
        sink = EventSink(
            self.broadcast, parts.queue, parts.sealer, parts.sink._source, parts.clock, {}
        )
        super().serve(**{"broadcast": self.broadcast, "events": sink, **options})
        self.send("PUT", "/other", status=200)

    def open(self, target: str) -> RawClient:
        """
        A client that listens.
        """
        client = self.harness.connect()
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed("GET", target, {}, b""))
        client.send(f"GET {target} HTTP/1.1\r\nHost: kypello.test\r\n{lines}\r\n".encode())
        return client

    def heard(self, client: RawClient) -> list[tuple[str, str, str]]:
        """
        Name, bucket and key of what a client has heard since the last call.
        """
        found = []
        for line in client.take().splitlines():
            start = line.find(b'{"Records":[')
            if start >= 0:
                (record,) = json.loads(line[start:])["Records"]
                s3 = record["s3"]
                found.append((record["eventName"], s3["bucket"]["name"], s3["object"]["key"]))
        return found

    def put_in(self, bucket: str, key: str) -> None:
        """
        Store an object.
        """
        self.send("PUT", f"/{bucket}/{key}", b"content", status=200)

    def test_bucket(self) -> None:
        """
        Who listens to a bucket hears at once of what happens there, as far as it was asked for, and
        the head of the answer comes before anything happens.
        """
        client = self.open(f"/bucket?{_EVENTS}&prefix=a%2F&suffix=.txt")
        self.assertIn(b" 200 ", client.received)
        self.assertIn(b"text/event-stream", client.received)
        for bucket, key in (
            ("bucket", "a/1.txt"),
            ("bucket", "a/1"),
            ("bucket", "1.txt"),
            ("other", "a/1.txt"),
        ):
            self.put_in(bucket, key)
        self.assertEqual(self.heard(client), [("s3:ObjectCreated:Put", "bucket", "a%2F1.txt")])
        self.send("GET", "/bucket/a/1.txt", status=200)
        self.send("DELETE", "/bucket/a/1.txt", status=204)
        self.assertEqual(self.heard(client), [("s3:ObjectRemoved:Delete", "bucket", "a%2F1.txt")])

    def test_all_buckets(self) -> None:
        """
        Who listens to the server hears of all buckets, and of buckets that come and go.
        """
        client = self.open(
            f"/?{_EVENTS}&events=s3%3ABucketCreated%3A%2A&events=s3%3ABucketRemoved%3A%2A"
        )
        self.put_in("bucket", "k")
        self.put_in("other", "k")
        self.send("PUT", "/third", status=200)
        self.send("DELETE", "/third", status=204)
        self.assertEqual(
            self.heard(client),
            [
                ("s3:ObjectCreated:Put", "bucket", "k"),
                ("s3:ObjectCreated:Put", "other", "k"),
                ("s3:BucketCreated:*", "third", ""),
                ("s3:BucketRemoved:*", "third", ""),
            ],
        )

    def test_end(self) -> None:
        """
        When the client has gone, nobody listens, and no event is made.
        """
        client = self.open(f"/bucket?{_EVENTS}")
        self.assertTrue(self.broadcast.wanted(EVENT))
        client.go_away()
        self.assertFalse(self.broadcast.wanted(EVENT))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        client = self.open(f"/bucket?{_EVENTS}")
        self.broadcast.end()
        self.assertIn(b"0\r\n\r\n", client.received)

    def test_revoked(self) -> None:
        """
        Who may listen no more hears of nothing that happens afterwards.
        """
        forbidden: set[str] = set()
        rule = Rule(lambda identity, action, _resource: action not in forbidden)
        front = evolve(self.front, authorizer=rule)
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)
        for target, action in (
            ("/", "s3:ListenNotification"),
            ("/bucket", "s3:ListenBucketNotification"),
        ):
            client = self.open(f"{target}?{_EVENTS}")
            self.put_in("bucket", "before")
            self.assertEqual(self.heard(client), [("s3:ObjectCreated:Put", "bucket", "before")])
            forbidden.add(action)
            self.put_in("bucket", "after")
            self.assertEqual(client.take(), b"0\r\n\r\n", action)
            self.assertFalse(self.broadcast.wanted(EVENT))

    def test_bucket_gone(self) -> None:
        """
        Who listens to a bucket hears nothing of another one that has got its name.
        """
        client = self.open(f"/other?{_EVENTS}")
        client.take()
        self.send("DELETE", "/other", status=204)
        self.reactor.advance(KEEP_ALIVE)
        self.assertEqual(client.take(), b"0\r\n\r\n")

    def test_signs(self) -> None:
        """
        Who hears nothing gets blanks, or what it asked for as often as it did.
        """
        client = self.open(f"/bucket?{_EVENTS}")
        client.take()
        self.reactor.advance(KEEP_ALIVE)
        self.assertEqual(client.take(), b"1\r\n \r\n")
        client = self.open(f"/bucket?{_EVENTS}&ping=10")
        client.take()
        self.reactor.advance(9)
        self.assertEqual(client.take(), b"")
        self.reactor.advance(1)
        self.assertIn(b'\r\n{"Records":null}\n\r\n', client.take())

    def test_slow(self) -> None:
        """
        A client that does not read makes nobody wait, and no more than a bounded number of events;
        it is told how many it has missed.
        """
        client = self.open(f"/bucket?{_EVENTS}")
        client.take()
        client.hold()
        sink = self.front.events
        assert sink is not None
        told = json.dumps(
            {
                "Records": [
                    {
                        "eventName": "s3:ObjectCreated:Put",
                        "s3": {"bucket": {"name": "bucket"}, "object": {"key": "x" * 500}},
                    }
                ]
            }
        ).encode()
        count = 2 * MOST_WAITING
        for _ in range(count):
            self.broadcast.tell(EVENT, told)
        client.go_on()
        got = client.take()
        missed = count - got.count(told)
        self.assertGreater(missed, 0)
        self.assertIn(b'{"Records":null,"Dropped":%d}' % missed, got)

    def test_mistakes(self) -> None:
        """
        What cannot be heard is refused, as is one listener too many.
        """
        for query in (
            "events=nonsense",
            "events=",
            f"{_EVENTS}&events=s3%3A%2A",
            f"{_EVENTS}&ping=0",
            f"{_EVENTS}&ping=-1",
            f"{_EVENTS}&ping=x",
            f"{_EVENTS}&ping=99999",
        ):
            self.refused("GET", f"/bucket?{query}", 400, "InvalidArgument")
        self.refused("GET", f"/absent?{_EVENTS}", 404, "NoSuchBucket")
        for _ in range(MOST_LISTENERS):
            self.open(f"/bucket?{_EVENTS}")
        self.refused("GET", f"/bucket?{_EVENTS}", 503, "SlowDown")

    def test_strangers(self) -> None:
        """
        Who may not listen does not.
        """
        for target in (f"/?{_EVENTS}", f"/bucket?{_EVENTS}"):
            answer = self.plainly("GET", target, [])
            self.assert_refused(answer, 403, "AccessDenied")
        self.assertFalse(self.broadcast.wanted(EVENT))
