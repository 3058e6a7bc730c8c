# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.events.delivery``.
"""

import json
import os
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred

from kypello.events.counts import TargetCounts
from kypello.events.delivery import DRAIN, INTERVAL, Deliveries, Delivery
from kypello.events.queue import SPACE
from kypello.events.sealing import Sealer
from kypello.events.webhook import AT_ONCE, Undelivered
from kypello.model import Sealing, Write
from kypello.objects.datakeys import DataKeys
from kypello.store.memory import MemoryIndex
from tests.cases import SyncCase
from tests.events.test_sink import SinkParts, about, rules

#: Longer than any pause.
_LONG = 61.0


class ScriptedTarget:
    """
    A target that does what the test says.

    :ivar taken: The keys of the events that it has taken, in order.
    :ivar tried: The same of all that were sent.
    :ivar judge: Gives what is raised for a key; ``None`` to take it.
    :ivar slow: Whether it answers only when the test says so.
    :ivar answers: Each gives one answer.
    """

    name = "A"

    def __init__(self) -> None:
        """
        Take everything.
        """
        self.taken: list[str] = []
        self.tried: list[str] = []
        self.judge: Callable[[str], Exception | None] = lambda _key: None
        self.slow = False
        self.answers: list[Deferred[None]] = []
        self.closed = False

    async def prepare(self) -> None:
        """
        It is always ready.
        """

    async def send(self, message: bytes) -> None:
        """
        Take an event, or not.
        """
        key = json.loads(message)["Key"].partition("/")[2]
        self.tried.append(key)
        if self.slow:
            self.answers.append(Deferred())
            await self.answers[-1]
        error = self.judge(key)
        if error is not None:
            raise error
        self.taken.append(key)

    async def close(self) -> None:
        """
        Nothing is open.
        """
        self.closed = True


def away(_key: str) -> Exception:
    """
    Take nothing.
    """
    return Undelivered("it is away")


class DeliveryTests(SyncCase):
    """
    Events on their way to a target.
    """

    def setUp(self) -> None:
        """
        Begin to send.
        """
        self.index = MemoryIndex()
        self.target = ScriptedTarget()
        self.parts = SinkParts(self.index)
        self.start()

    def start(self) -> None:
        """
        Begin to send.
        """
        self.service = Deliveries(self.parts.clock, [self.deliver(self.parts.sealer)])
        self.service.startService()

    def deliver(self, sealer: Sealer) -> Delivery:
        """
        What sends to the target of the test.
        """
        parts = self.parts
        counts = TargetCounts(parts.tally, "A")
        return Delivery(self.target, parts.queue, sealer, counts, parts.clock)

    def done(self, work: Coroutine[Any, Any, Any]) -> Any:
        """
        What a coroutine that waits for nothing outside of the test gives.
        """
        return self.successResultOf(Deferred.fromCoroutine(work))

    def tell(self, *keys: str, sealing: Sealing | None = None) -> None:
        """
        Tell events about some keys, one after the other.
        """
        for key in keys:
            self.done(self.parts.sink.tell(about(sealing, key), rules("A")))

    def waiting(self) -> int:
        """
        How many events wait.
        """
        return len(self.done(self.parts.queue.page("A", b"", 10_000)))

    def pass_time(self, seconds: float = INTERVAL) -> None:
        """
        Let time pass.
        """
        self.parts.clock.advance(seconds)

    def count(self, what: str) -> int:
        """
        What was counted.
        """
        return self.parts.count("A", what)

    def test_sent(self) -> None:
        """
        What is told is sent soon, whether it was sealed or not, and waits no more.
        """
        self.tell("a", "b")
        self.tell("c", sealing=Sealing("AES256"))
        self.assertEqual(self.target.taken, [])
        self.pass_time()
        self.assertEqual(sorted(self.target.taken), ["a", "b", "c"])
        self.assertEqual(self.waiting(), 0)
        self.assertEqual((self.count("sent"), self.count("removed")), (3, 3))

    def test_order(self) -> None:
        """
        Events about one key are sent one after the other, those about others meanwhile, and not too
        many at once.
        """
        self.target.slow = True
        self.tell("a", "a", "a", *(f"k{number}" for number in range(AT_ONCE)))
        self.pass_time()
        self.assertEqual(len(self.target.tried), AT_ONCE)
        self.assertEqual(self.target.tried.count("a"), 1)
        while self.target.answers:
            self.target.answers.pop().callback(None)
        self.assertEqual(self.target.taken.count("a"), 3)
        self.assertEqual(self.waiting(), 0)

    def test_many(self) -> None:
        """
        What does not fit into a page is sent, too, each key in its order.
        """
        keys = [f"k{number % 7}" for number in range(1000)]
        self.tell(*keys)
        self.pass_time()
        self.assertEqual(sorted(self.target.taken), sorted(keys))
        self.assertEqual((self.waiting(), self.count("sent")), (0, 1000))

    def test_outage(self) -> None:
        """
        A target that is away is tried again after ever longer pauses, and then gets all that has
        waited, in order; nobody hammers at it.
        """
        self.target.judge = away
        self.tell(*"abc" * 20)
        self.pass_time()
        self.assertLessEqual(len(self.target.tried), AT_ONCE)
        self.assertGreater(self.count("failed"), 0)
        before = len(self.target.tried)
        for _ in range(100):
            self.pass_time(1.0)
        # 1 + 2 + 4 + 8 + 16 + 32 s: six attempts, of as many requests as are made at once.
        self.assertLessEqual(len(self.target.tried) - before, 6 * AT_ONCE)
        self.assertEqual((self.target.taken, self.waiting()), ([], 60))
        self.target.judge = lambda _key: None
        self.pass_time(_LONG)
        self.assertEqual(sorted(self.target.taken), sorted("abc" * 20))
        self.assertEqual(self.waiting(), 0)

    def test_unsteady(self) -> None:
        """
        A target that takes some events and fails at others is never left alone for long.
        """
        tries = count(1)

        def judge(_key: str) -> Exception | None:
            """
            Fail once in ten times.
            """
            return None if next(tries) % 10 else Undelivered("it answers 503")

        self.target.judge = judge
        self.tell(*map(str, range(200)))
        self.pass_time(INTERVAL)
        self.assertEqual((len(self.target.taken), self.waiting()), (180, 20))
        for _ in range(8):
            self.pass_time(1.0)
        self.assertEqual((len(self.target.taken), self.waiting()), (200, 0))

    def test_refused_event(self) -> None:
        """
        An event that its target refuses holds up others about the same key, and no more.
        """

        def judge(key: str) -> Exception | None:
            """
            Refuse one key.
            """
            return Undelivered("it answers 400", of_the_event=True) if key == "bad" else None

        self.target.judge = judge
        self.tell("bad", *map(str, range(500)), "bad", "later")
        self.pass_time()
        self.assertEqual(len(self.target.taken), 501)
        self.assertEqual((self.waiting(), self.target.tried.count("bad")), (2, 1))
        self.tell("next", "bad", "other")
        self.pass_time()
        self.assertEqual(sorted(self.target.taken[-2:]), ["next", "other"])
        self.assertEqual((self.waiting(), self.target.tried.count("bad")), (3, 1))
        self.target.judge = lambda _key: None
        self.pass_time(_LONG)
        self.assertEqual(self.target.taken[-3:], ["bad", "bad", "bad"])
        self.assertEqual(self.waiting(), 0)

    def test_all_refused(self) -> None:
        """
        A target that refuses everything is not sent everything each time.
        """
        self.target.judge = lambda _key: Undelivered("it answers 400", of_the_event=True)
        self.tell(*map(str, range(1000)))
        self.pass_time()
        self.assertEqual(len(self.target.tried), 200)
        self.pass_time()
        self.assertEqual(len(self.target.tried), 200)
        self.target.judge = lambda _key: None
        self.pass_time(_LONG)
        self.assertEqual((len(self.target.taken), self.waiting()), (1000, 0))

    def test_late(self) -> None:
        """
        An event that is kept before others that were sent meanwhile is sent, too.
        """
        parts = self.parts
        early = parts.queue.place("A")
        self.tell("a")
        self.pass_time()
        other = SinkParts(MemoryIndex())
        self.done(other.sink.tell(about(key="late"), rules("A")))
        ((_place, value),) = self.done(other.queue.page("A", b"", 10))
        self.target.slow = True
        self.tell("b")
        self.pass_time()
        self.done(self.index.commit(SPACE, [Write(early, value)], {}, []))
        TargetCounts(parts.tally, "A").add("queued")
        self.target.slow = False
        self.target.answers.pop().callback(None)
        self.assertEqual(self.target.taken, ["a", "b", "late"])

    def test_restart(self) -> None:
        """
        What waits when the server ends, in whatever way, is sent after the next start.
        """
        self.target.judge = away
        self.tell("a", "b")
        self.pass_time()
        self.parts = SinkParts(self.index)
        self.target = ScriptedTarget()
        self.start()
        self.assertEqual(sorted(self.target.taken), ["a", "b"])
        self.assertEqual((self.waiting(), self.count("removed")), (0, 2))

    def test_successor(self) -> None:
        """
        A process that takes the place of one that died goes on, with the right number of those that
        wait.
        """
        self.target.slow = True
        self.tell("a", "b", "c")
        self.pass_time()
        counts = TargetCounts(self.parts.tally, "A")
        counts.add("removed", 2)
        # The one that died is not alive when it is taken away.
        died = self.target.answers
        self.addCleanup(lambda: [answer.callback(None) for answer in died])
        self.target = ScriptedTarget()
        self.target.judge = away
        self.start()
        self.assertEqual(counts.waiting, 3)

    def test_lost_key(self) -> None:
        """
        What nobody can open any more is counted as lost, and holds up nothing.
        """
        self.tell("a", sealing=Sealing("AES256"))
        self.tell("b")
        ((place, _value), *_others) = self.done(self.parts.queue.page("A", b"", 10))
        damaged = self.parts.queue.place("A")
        self.done(self.index.commit(SPACE, [Write(damaged, b"no event")], {}, []))
        value = self.done(self.index.get(SPACE, [place]))[0]
        moved = self.parts.queue.place("A")
        self.done(self.index.commit(SPACE, [Write(moved, value)], {}, []))
        self.pass_time()
        self.assertEqual(sorted(self.target.taken), ["a", "b"])
        self.assertEqual((self.count("dropped"), self.waiting()), (2, 0))

    def test_sealed_outage(self) -> None:
        """
        What only the KMS can open waits for it.
        """
        self.tell("a", sealing=Sealing("AES256"))
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.target.taken, ["a"])
        self.tell("b", sealing=Sealing("AES256"))
        parts = self.parts
        parts.kms.down = True
        # Another process, which has opened nothing.
        keys = DataKeys(parts.kms, parts.clock)
        sealer = Sealer(keys, parts.clock, os.urandom)
        self.service = Deliveries(parts.clock, [self.deliver(sealer)])
        self.service.startService()
        self.assertEqual((self.target.taken, self.waiting()), (["a"], 1))
        parts.kms.down = False
        self.pass_time(_LONG)
        self.assertEqual((self.target.taken, self.waiting()), (["a", "b"], 0))

    def test_stop(self) -> None:
        """
        Who stops the server has what waits sent, if that works at once.
        """
        self.tell("a", "b")
        self.successResultOf(self.service.stopService())
        self.assertEqual(sorted(self.target.taken), ["a", "b"])
        self.assertTrue(self.target.closed)
        self.assertEqual(self.parts.clock.getDelayedCalls(), [])

    def test_stop_while_away(self) -> None:
        """
        A target that is away does not hold up the end of the server.
        """
        self.target.judge = away
        self.tell("a")
        self.pass_time()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.waiting(), 1)

    def test_stop_while_hanging(self) -> None:
        """
        One that hangs does so for a bounded time.
        """
        self.target.slow = True
        self.tell("a")
        self.pass_time()
        stopping = self.service.stopService()
        self.assertNoResult(stopping)
        self.pass_time(DRAIN)
        self.successResultOf(stopping)
        self.assertEqual(self.waiting(), 1)
        self.assertEqual(self.parts.clock.getDelayedCalls(), [])
