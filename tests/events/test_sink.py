# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.events.sink``, the queue, and what is sealed there.
"""

import json
import os
from collections.abc import Coroutine, Mapping
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from kypello.errors import Damaged, StorageFailed
from kypello.eventconfig import WebhookSettings
from kypello.events.broadcast import EVENT, Broadcast
from kypello.events.counts import COUNTED, TargetCounts, counted
from kypello.events.queue import Queue
from kypello.events.record import Source, read_listed
from kypello.events.rules import SETTING, Rule, write_rules
from kypello.events.sealing import LIFETIME, RETRY, Sealer, unpack
from kypello.events.sink import EventSink
from kypello.interfaces import IEventSink
from kypello.model import SSE_C, Event, ObjectInfo, ObjectMetadata, Sealing
from kypello.monitor.tally import Layout, Tally
from kypello.objects.datakeys import DataKeys
from kypello.store.memory import MemoryIndex
from kypello.testing.fakes import RecordingSink
from tests.cases import SyncCase
from tests.contracts.events import EventSinkContract, event
from tests.objects.keyservice import MemoryKMS

SOURCE = Source("", "node:9000", "kypello")
_EVENTS = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")


def rules(*targets: str) -> dict[str, bytes]:
    """
    The settings of a bucket whose events are sent to some targets.
    """
    made = [Rule(name, f"arn:minio:sqs::{name}:webhook", name, _EVENTS) for name in targets]
    return {SETTING: write_rules(made)}


def about(sealing: Sealing | None = None, key: str = "key") -> Event:
    """
    An event about an object that is there.
    """
    metadata = ObjectMetadata(
        "the-etag", {"content-type": "text/secret"}, {"some-name": "the-value"}, sealing=sealing
    )
    info = ObjectInfo("bucket", key, "null", 7, 1_700_000_000_000_000_000, metadata)
    return evolve(event(key=key), info=info)


class BrokenIndex(MemoryIndex):
    """
    An index whose device may be gone.

    :ivar broken: Whether it is.
    """

    broken = False

    async def commit(self, *arguments: Any) -> None:
        """
        Commit, unless it is.
        """
        if self.broken:
            raise StorageFailed("gone")
        await super().commit(*arguments)


class SinkParts:
    """
    A sink with targets ``A``, and ``B`` for which two events may wait, and all that it is made of.
    """

    def __init__(self, index: MemoryIndex, worker: int = 0) -> None:
        """
        Put it together.
        """
        self.reactor = MemoryReactorClock()
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.index = index
        self.kms = MemoryKMS.with_default_key()
        self.broadcast = Broadcast(self.reactor)
        names = tuple(counted(what, name) for name in "AB" for what in COUNTED)
        self.tally = Tally(Layout((), names))
        self.queue = Queue(index, self.clock, worker)
        self.sealer = Sealer(DataKeys(self.kms, self.clock), self.clock, os.urandom)
        webhooks = [WebhookSettings("A", "http://a/"), WebhookSettings("B", "http://b/", limit=2)]
        self.sink = EventSink.make(
            self.broadcast, self.queue, self.sealer, SOURCE, self.clock, webhooks, self.tally
        )

    def count(self, target: str, what: str) -> int:
        """
        What was counted.
        """
        return TargetCounts(self.tally, target).total(what)


class RecordingSinkTests(EventSinkContract, SyncCase):
    """
    The sink of tests.
    """

    wanting: Mapping[str, bytes] = {"told": b""}  # nobody changes it

    def make_sink(self) -> IEventSink:
        """
        One that heeds a setting.
        """
        self.sink: IEventSink = RecordingSink("told")
        return self.sink

    def told(self) -> list[str]:
        """
        What it has kept.
        """
        assert isinstance(self.sink, RecordingSink)
        return [one.name for one in self.sink.told]


class SinkTests(EventSinkContract, SyncCase):
    """
    The sink of the server.
    """

    wanting = rules("A")

    def setUp(self) -> None:
        """
        Nothing waits.
        """
        self.parts = SinkParts(BrokenIndex())

    def make_sink(self) -> IEventSink:
        """
        It is made.
        """
        sink: IEventSink = self.parts.sink
        return sink

    def done(self, work: Coroutine[Any, Any, Any]) -> Any:
        """
        What a coroutine that waits for nothing outside of the test gives.
        """
        return self.successResultOf(Deferred.fromCoroutine(work))

    def tell(self, told: Event, *targets: str) -> None:
        """
        Tell an event of a bucket with rules for some targets.
        """
        self.done(self.parts.sink.tell(told, rules(*targets)))

    def waiting(self, target: str = "A") -> list[dict[str, Any]]:
        """
        The messages that wait for a target, opened.
        """
        parts = self.parts
        page = self.done(parts.queue.page(target, b"", 1000))
        opened = [self.done(parts.sealer.open(place, unpack(value))) for place, value in page]
        return [json.loads(one) for one in opened]

    def told(self) -> list[str]:
        """
        The names of what waits.
        """
        return [one["EventName"] for one in self.waiting()]

    def test_message(self) -> None:
        """
        A message has what is known of event, object and request.
        """
        told = evolve(
            about(key="a b/\u00e9"),
            principal="who",
            source="192.0.2.7",
            agent="client/1",
            request_id="REQUEST",
            version_id="null",
        )
        self.tell(told, "A")
        (message,) = self.waiting()
        (record,) = message.pop("Records")
        self.assertEqual(message, {"EventName": "s3:ObjectCreated:Put", "Key": "bucket/a b/\u00e9"})
        self.assertEqual(record["eventTime"], "2023-11-14T22:13:20.123Z")
        self.assertEqual(record["eventName"], "s3:ObjectCreated:Put")
        self.assertEqual(record["userIdentity"], {"principalId": "who"})
        self.assertEqual(record["requestParameters"]["sourceIPAddress"], "192.0.2.7")
        self.assertEqual(record["responseElements"]["x-amz-request-id"], "REQUEST")
        self.assertEqual(record["source"]["userAgent"], "client/1")
        self.assertEqual(record["s3"]["bucket"]["arn"], "arn:aws:s3:::bucket")
        self.assertEqual(
            record["s3"]["object"],
            {
                "key": "a+b%2F%C3%A9",
                "size": 7,
                "eTag": "the-etag",
                "contentType": "text/secret",
                "userMetadata": {
                    "content-type": "text/secret",
                    "X-Amz-Meta-Some-Name": "the-value",
                },
                "sequencer": f"{1_700_000_000_000_000_000:016X}",
            },
        )

    def test_removed(self) -> None:
        """
        What is no more has the version that was removed, and the time of that in its place.
        """
        self.tell(event("s3:ObjectRemoved:Delete", version_id="v1"), "A")
        told = self.waiting()[0]["Records"][0]["s3"]["object"]
        sequencer = f"{1_700_000_000_123_456_789:016X}"
        self.assertEqual(told, {"key": "key", "versionId": "v1", "sequencer": sequencer})

    def test_several_targets(self) -> None:
        """
        An event waits for each target by itself, and nothing waits for one that is not configured.
        """
        self.tell(about(), "A", "B", "GONE")
        self.assertEqual([len(self.waiting(name)) for name in ("A", "B", "GONE")], [1, 1, 0])
        self.assertEqual(self.parts.count("A", "queued"), 1)

    def test_sealed(self) -> None:
        """
        What is told of an encrypted object does not lie in clear on the disk, and moves to no other
        place there.
        """
        parts = self.parts
        self.tell(about(Sealing("AES256")), "A")
        ((place, value),) = self.done(parts.queue.page("A", b"", 10))
        for secret in (b"the-etag", b"text/secret", b"the-value"):
            self.assertNotIn(secret, value)
        told = self.waiting()[0]["Records"][0]["s3"]["object"]
        self.assertEqual(told["eTag"], "the-etag")
        self.assertEqual(told["userMetadata"]["X-Amz-Meta-Some-Name"], "the-value")
        moved = Deferred.fromCoroutine(parts.sealer.open(place + b"x", unpack(value)))
        self.failureResultOf(moved, Damaged)
        with self.assertRaises(Damaged):
            unpack(value[:-1] + bytes([value[-1] ^ 1]))

    def test_plain(self) -> None:
        """
        What is told of an object that is not encrypted needs no KMS.
        """
        self.parts.kms.down = True
        self.tell(about(), "A")
        self.assertEqual(self.parts.kms.calls, [])
        self.assertIn("eTag", self.waiting()[0]["Records"][0]["s3"]["object"])

    def test_client_keys(self) -> None:
        """
        Of an object with a key of its client nothing is told that needs the key.
        """
        self.tell(about(Sealing(SSE_C)), "A")
        told = self.waiting()[0]["Records"][0]["s3"]["object"]
        self.assertEqual(told.keys(), {"key", "size", "eTag", "sequencer"})

    def test_outage(self) -> None:
        """
        While there is no data key, an event about an encrypted object is told without what must not
        lie in clear; the KMS is asked again after a while, and a key that is there goes on.
        """
        parts = self.parts
        parts.kms.down = True
        for _ in range(3):
            self.tell(about(Sealing("AES256")), "A")
        self.assertEqual(len(parts.kms.calls), 1)
        for message in self.waiting():
            told = message["Records"][0]["s3"]["object"]
            self.assertEqual(told.keys(), {"key", "size", "sequencer"})
        parts.kms.down = False
        parts.clock.advance(RETRY)
        self.tell(about(Sealing("AES256")), "A")
        parts.kms.down = True
        parts.clock.advance(LIFETIME)
        self.tell(about(Sealing("AES256")), "A")
        parts.kms.down = False
        for message in self.waiting()[3:]:
            self.assertIn("userMetadata", message["Records"][0]["s3"]["object"])

    def test_one_key(self) -> None:
        """
        Events that come while a data key is being made wait for it, and ask for no other.
        """
        parts = self.parts
        parts.kms.pause = Deferred()
        working = [
            Deferred.fromCoroutine(parts.sink.tell(about(Sealing("AES256")), rules("A")))
            for _ in range(3)
        ]
        pause, parts.kms.pause = parts.kms.pause, None
        pause.callback(None)
        for each in working:
            self.successResultOf(each)
        self.assertEqual(parts.kms.calls, ["generate"])
        for message in self.waiting():
            self.assertIn("eTag", message["Records"][0]["s3"]["object"])

    def test_limit(self) -> None:
        """
        When too many events wait for a target, further ones are counted as lost, and those for
        others are not; when there is room again, it is used.
        """
        parts = self.parts
        for _ in range(4):
            self.tell(about(), "A", "B")
        self.assertEqual((len(self.waiting("A")), len(self.waiting("B"))), (4, 2))
        self.assertEqual((parts.count("A", "dropped"), parts.count("B", "dropped")), (0, 2))
        TargetCounts(parts.tally, "B").add("removed")
        self.tell(about(), "B")
        self.assertEqual(parts.count("B", "queued"), 3)

    def test_storage(self) -> None:
        """
        An event that cannot be kept is counted as lost, and is no failure of what it tells.
        """
        parts = self.parts
        assert isinstance(parts.index, BrokenIndex)
        parts.index.broken = True
        self.tell(about(), "A")
        self.assertEqual((parts.count("A", "queued"), parts.count("A", "dropped")), (0, 1))
        self.assertEqual(len(self.flushLoggedErrors(StorageFailed)), 1)
        parts.index.broken = False
        self.tell(about(), "A")
        self.assertEqual(len(self.waiting()), 1)

    def test_cancelled(self) -> None:
        """
        A client that goes away takes no event with it.
        """
        parts = self.parts
        parts.kms.pause = Deferred()
        telling = Deferred.fromCoroutine(parts.sink.tell(about(Sealing("AES256")), rules("A")))
        telling.cancel()
        self.assertNoResult(telling)
        pause, parts.kms.pause = parts.kms.pause, None
        pause.callback(None)
        self.successResultOf(telling)
        self.assertEqual(len(self.waiting()), 1)

    def test_listeners(self) -> None:
        """
        Who listens hears of all buckets, and of what waits for nobody.
        """
        parts = self.parts
        heard: list[bytes] = []
        parts.broadcast.listen(EVENT, lambda one: bool(heard.append(one)), lambda _count: b"")
        self.assertTrue(parts.sink.wanted({}))
        self.done(parts.sink.tell(about(key="a b"), {}))
        self.assertEqual([read_listed(one) for one in heard], [(about().name, "bucket", "a b")])
        self.assertEqual(json.loads(heard[0]).keys(), {"Records"})
        self.assertEqual(self.waiting(), [])


class QueueTests(SyncCase):
    """
    What waits.
    """

    def test_order(self) -> None:
        """
        Events of a process are in the order in which they were told, although the clock stands
        still or goes back, and those of a target are apart from those of others.
        """
        parts = SinkParts(MemoryIndex())
        places = [parts.queue.place("A") for _ in range(3)]
        parts.clock.rightNow -= 100
        places.append(parts.queue.place("A"))
        self.assertEqual(places, sorted(set(places)))
        other = parts.queue.place("AB")
        self.assertFalse(other.startswith(b"A\0"))

    def test_together(self) -> None:
        """
        What comes while a commit is under way is committed with one other.
        """
        waiting: list[Deferred[None]] = []
        commits: list[int] = []

        class SlowIndex(MemoryIndex):
            """
            An index that waits for the test.
            """

            async def commit(self, *arguments: Any) -> None:
                """
                Commit, when the test says so.
                """
                commits.append(len(arguments[1]))
                waiting.append(Deferred())
                await waiting[-1]
                await super().commit(*arguments)

        parts = SinkParts(SlowIndex())
        telling = [Deferred.fromCoroutine(parts.sink.tell(about(), rules("A"))) for _ in range(5)]
        waiting[0].callback(None)
        self.successResultOf(telling[0])
        self.assertNoResult(telling[1])
        waiting[1].callback(None)
        for each in telling:
            self.successResultOf(each)
        self.assertEqual(commits, [1, 4])
