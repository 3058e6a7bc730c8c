# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which server is asked when, by a clock that the tests own.
"""

import os
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from kypello.errors import KMSUnavailable
from kypello.kms.endpoints import Endpoint, Patience
from kypello.kms.failover import FailoverAgent
from kypello.kms.handshake import NotConnected
from kypello.kms.responses import CompleteResponse
from kypello.kms.troubles import Troubles, shared_troubles
from tests.cases import SyncCase

_PROBE = b"/v1/key/describe/k"
_STATUS = b"https://any/v1/status"
_CREATE = b"https://any/v1/key/create/k"


@implementer(IAgent)
@define(eq=False)
class Scripted:
    """
    An agent whose answers the test gives.

    :ivar asked: The URI of each request, and what it waits for.
    """

    asked: list[tuple[bytes, "Deferred[IResponse]"]] = field(factory=list)
    cancelled: int = 0

    def request(
        self,
        _method: bytes,
        uri: bytes,
        _headers: Headers | None = None,
        _body: IBodyProducer | None = None,
    ) -> "Deferred[IResponse]":
        """
        Note a request.
        """
        waiting: Deferred[IResponse] = Deferred(self._cancel)
        self.asked.append((uri, waiting))
        return waiting

    def _cancel(self, _waiting: object) -> None:
        self.cancelled += 1

    def answer(self, status: int = 200) -> None:
        """
        Answer the last request.
        """
        response = CompleteResponse(None, status, b"", Headers(), None, b"{}")
        self.asked[-1][1].callback(response)

    def refuse(self) -> None:
        """
        Refuse the last request.
        """
        self.asked[-1][1].errback(NotConnected(ConnectionRefusedError()))

    def hang_up(self) -> None:
        """
        Fail the last request in another way.
        """
        self.asked[-1][1].errback(RuntimeError("nobody knows"))


class FailoverTests(SyncCase):
    """
    An agent over three servers.
    """

    def setUp(self) -> None:
        """
        Have three servers and a clock.
        """
        self.clock = Clock()
        self.agents = [Scripted() for _ in range(3)]
        self.let_go = 0
        self.endpoints = [
            Endpoint(f"https://s{number}", agent, self.clock, _PROBE, Patience(), self.count)
            for number, agent in enumerate(self.agents)
        ]
        for endpoint in self.endpoints:
            endpoint.start()
        self.agent = FailoverAgent(self.clock, self.endpoints)

    def tearDown(self) -> None:
        """
        Nothing waits when all is stopped.
        """
        for endpoint in self.endpoints:
            endpoint.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def count(self) -> None:
        """
        Note that connections are let go.
        """
        self.let_go += 1

    def ask(self, uri: bytes = _STATUS) -> "Deferred[Any]":
        """
        Make a request.
        """
        return self.agent.request(b"GET", uri)

    def counts(self) -> list[int]:
        """
        How often each server was asked.
        """
        return [len(agent.asked) for agent in self.agents]

    def test_first(self) -> None:
        """
        While all is well, only the first server is asked, under its own name.
        """
        for _ in range(3):
            asking = self.ask()
            self.agents[0].answer()
            self.assertEqual(self.successResultOf(asking).code, 200)
        self.assertEqual(self.counts(), [3, 0, 0])
        self.assertEqual(self.agents[0].asked[0][0], b"https://s0/v1/status")

    def test_too_many(self) -> None:
        """
        When a server is asked too often, the next one is asked, also what must not be done twice;
        and the server is not put aside.
        """
        for uri in (_STATUS, _CREATE):
            before = self.counts()
            asking = self.ask(uri)
            self.agents[0].answer(429)
            self.agents[1].answer(200)
            self.assertEqual(self.successResultOf(asking).code, 200)
            self.assertEqual(self.counts(), [before[0] + 1, before[1] + 1, 0])
            self.assertEqual(self.endpoints[0].trouble, "")
        asking = self.ask(_CREATE)
        for agent in self.agents:
            agent.answer(429)
        failure = self.failureResultOf(asking, KMSUnavailable)
        self.assertIn("https://s2: it answers 429", failure.value.reason)

    def test_client_errors(self) -> None:
        """
        An answer that tells of a mistake of ours, or of what is not there, is an answer.
        """
        for status in (400, 403, 404, 409, 501):
            asking = self.ask()
            self.agents[0].answer(status)
            self.assertEqual(self.successResultOf(asking).code, status)
        self.assertEqual(self.counts(), [5, 0, 0])

    def test_hanging(self) -> None:
        """
        A server that does not answer is left after five seconds, its request given up, and its
        idle connections too; the next request does not ask it.
        """
        asking = self.ask()
        self.clock.advance(4.9)
        self.assertEqual(self.counts(), [1, 0, 0])
        self.clock.advance(0.2)
        self.assertEqual(self.counts(), [1, 1, 0])
        self.assertEqual((self.agents[0].cancelled, self.let_go), (1, 1))
        self.agents[1].answer()
        self.successResultOf(asking)
        self.successResultOf(self.answered(1))
        self.assertEqual(self.counts(), [1, 2, 0])

    def answered(self, number: int) -> "Deferred[Any]":
        """
        A request that a server answers.
        """
        asking = self.ask()
        self.agents[number].answer()
        return asking

    def test_overall(self) -> None:
        """
        When all hang, it is over after fifteen seconds, and each server is named.
        """
        asking = self.ask()
        self.clock.pump([0.1] * 149)
        self.assertNoResult(asking)
        self.clock.pump([0.1] * 3)
        reason = self.failureResultOf(asking, KMSUnavailable).value.reason
        for number in range(3):
            self.assertRegex(reason, rf"https://s{number}: it does not answer within [0-9.]+ sec")

    def test_outage(self) -> None:
        """
        In an outage a request does not wait as long: each server that is put aside has a second,
        also one that is alone.
        """
        self.ask().addErrback(lambda _: None)
        self.clock.pump([0.1] * 155)
        asking = self.ask()
        self.clock.pump([0.1] * 32)
        self.failureResultOf(asking, KMSUnavailable)
        asking = FailoverAgent(self.clock, self.endpoints[:1]).request(b"GET", _STATUS)
        self.clock.pump([0.1] * 11)
        self.failureResultOf(asking, KMSUnavailable)

    def test_probes(self) -> None:
        """
        A server that failed is probed apart from requests, ever more rarely, and used again
        when a probe is answered.
        """
        asking = self.ask()
        self.agents[0].refuse()
        self.agents[1].answer()
        self.successResultOf(asking)
        for pause in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
            before = len(self.agents[0].asked)
            self.clock.advance(pause - 0.1)
            self.assertEqual(len(self.agents[0].asked), before, pause)
            self.clock.advance(0.2)
            self.assertEqual(len(self.agents[0].asked), before + 1, pause)
            self.assertEqual(self.agents[0].asked[-1][0], b"https://s0" + _PROBE)
            self.agents[0].refuse()
        self.clock.advance(10.0)
        self.successResultOf(self.answered(1))
        self.agents[0].answer(404)
        self.successResultOf(self.answered(0))

    def test_relapse(self) -> None:
        """
        A server that answers probes and fails requests is probed ever more rarely too.
        """
        probes = []
        for _ in range(4):
            self.ask()
            self.agents[0].refuse()
            self.agents[1].answer()
            began = self.clock.seconds()
            asked = len(self.agents[0].asked)
            while len(self.agents[0].asked) == asked:
                self.clock.advance(0.5)
            probes.append(self.clock.seconds() - began)
            self.agents[0].answer(404)
        self.assertEqual(probes, [1.0, 2.0, 4.0, 8.0])

    def test_slow(self) -> None:
        """
        A server whose answer took long comes after the others until a probe is answered fast; what
        it answered counts.
        """
        asking = self.ask()
        self.clock.advance(1.5)
        self.agents[0].answer()
        self.successResultOf(asking)
        self.successResultOf(self.answered(1))
        self.clock.advance(1.0)
        self.assertEqual(self.agents[0].asked[-1][0], b"https://s0" + _PROBE)
        self.clock.advance(1.5)
        self.agents[0].answer(404)
        self.successResultOf(self.answered(1))
        self.clock.advance(2.0)
        self.agents[0].answer(404)
        self.successResultOf(self.answered(0))

    def test_all_slow(self) -> None:
        """
        When all are slow, they serve as before, with all the time that they need.
        """
        for endpoint in self.endpoints:
            endpoint.slow = True
        asking = self.ask()
        self.clock.advance(4.5)
        self.assertEqual(self.counts(), [1, 0, 0])
        self.agents[0].answer()
        self.successResultOf(asking)

    def test_hanging_probe(self) -> None:
        """
        A probe that is not answered is given up, and no second one is under way at a time.
        """
        self.ask()
        self.agents[0].refuse()
        self.agents[1].answer()
        self.clock.advance(1.0)
        self.assertEqual(len(self.agents[0].asked), 2)
        self.clock.advance(4.9)
        self.assertEqual(len(self.agents[0].asked), 2)
        self.clock.advance(0.2)
        self.assertEqual(self.agents[0].cancelled, 1)
        self.clock.advance(2.0)
        self.assertEqual(len(self.agents[0].asked), 3)

    def test_aside_as_well(self) -> None:
        """
        When those believed up fail, those put aside are asked before the caller fails.
        """
        self.ask()
        self.agents[0].refuse()
        self.agents[1].answer()
        asking = self.ask()
        self.agents[1].refuse()
        self.agents[2].refuse()
        self.assertEqual(self.counts(), [2, 2, 1])
        self.agents[0].answer()
        self.successResultOf(asking)

    def test_second_round(self) -> None:
        """
        When all failed fast, all are asked again after a moment, once.
        """
        asking = self.ask()
        for agent in self.agents:
            agent.refuse()
        self.assertNoResult(asking)
        self.clock.advance(0.3)
        for agent in self.agents:
            agent.refuse()
        self.failureResultOf(asking, KMSUnavailable)
        # In an outage that is known there is one round.
        asking = self.ask()
        for agent in self.agents:
            agent.refuse()
        self.failureResultOf(asking, KMSUnavailable)
        self.assertEqual(self.counts(), [3, 3, 3])

    def test_cancelled(self) -> None:
        """
        When the caller goes, the request goes too, and no other server is asked.
        """
        asking = self.ask()
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual(self.counts(), [1, 0, 0])
        self.assertEqual(self.agents[0].cancelled, 1)
        self.assertEqual([endpoint.trouble for endpoint in self.endpoints], ["", "", ""])

    def test_created(self) -> None:
        """
        What must not be repeated goes on only when there was no connection.
        """
        asking = self.ask(_CREATE)
        self.agents[0].refuse()
        self.assertEqual(self.counts(), [1, 1, 0])
        self.agents[1].hang_up()
        reason = self.failureResultOf(asking, KMSUnavailable).value.reason
        self.assertIn("https://s0: it refuses connections", reason)
        self.assertIn("whether it was done is unknown", reason)
        self.assertEqual(self.counts(), [1, 1, 0])
        for agent in self.agents:
            agent.asked.clear()

    def test_all_refuse_creation(self) -> None:
        """
        When nobody could be reached it is certain that nothing was done.
        """
        asking = self.ask(_CREATE)
        for agent in self.agents:
            agent.refuse()
        reason = self.failureResultOf(asking, KMSUnavailable).value.reason
        self.assertNotIn("unknown", reason)


class ToldTests(SyncCase):
    """
    Two processes that tell each other what is wrong with the same two servers.
    """

    def setUp(self) -> None:
        """
        Have two processes with one clock.
        """
        self.clock = Clock()
        descriptor = shared_troubles()
        self.addCleanup(os.close, descriptor)
        self.agents, self.endpoints, self.processes = [], [], []
        for _ in range(2):
            agents = [Scripted() for _ in range(2)]
            endpoints = [
                Endpoint(
                    f"https://s{number}",
                    agent,
                    self.clock,
                    _PROBE,
                    troubles=Troubles(number, descriptor),
                )
                for number, agent in enumerate(agents)
            ]
            for endpoint in endpoints:
                endpoint.start()
                self.addCleanup(endpoint.stop)
            self.agents.append(agents)
            self.endpoints.append(endpoints)
            self.processes.append(FailoverAgent(self.clock, endpoints))

    def ask(self, process: int, server: int) -> None:
        """
        Have a server answer a request of a process.
        """
        asking = self.processes[process].request(b"GET", _STATUS)
        self.agents[process][server].answer()
        self.assertEqual(self.successResultOf(asking).code, 200)

    def hang(self) -> None:
        """
        Have the first process find out that the first server hangs.
        """
        asking = self.processes[0].request(b"GET", _STATUS)
        self.clock.advance(Patience().attempt)
        self.agents[0][1].answer()
        self.assertEqual(self.successResultOf(asking).code, 200)

    def test_put_aside(self) -> None:
        """
        What costs one process its patience costs the other one nothing: it asks the next server,
        proves anew what the first one holds, and probes it.
        """
        self.endpoints[1][0].proved["key"] = 0.0
        self.hang()
        self.ask(1, 1)
        self.assertEqual([len(agent.asked) for agent in self.agents[1]], [0, 1])
        self.assertEqual(self.endpoints[1][0].proved, {})
        self.assertIn("does not answer", self.endpoints[1][0].trouble)
        self.clock.advance(Patience().first_probe)
        self.assertEqual(len(self.agents[1][0].asked), 1)

    def test_back(self) -> None:
        """
        A server that is back for one process is probed at once by the other one, and used when it
        answers that.
        """
        # Between two probes, and while one waits.
        for passed in (0.5, 1.5):
            self.hang()
            self.ask(1, 1)
            self.clock.advance(passed)
            before = len(self.agents[1][0].asked)
            self.endpoints[0][0].works(0.1)
            self.ask(1, 1)
            self.assertEqual(len(self.agents[1][0].asked), before + 1)
            self.agents[1][0].answer(404)
            self.ask(1, 0)

    def test_ended(self) -> None:
        """
        Who has stopped heeds nothing.
        """
        self.endpoints[1][0].stop()
        self.hang()
        self.ask(1, 0)
