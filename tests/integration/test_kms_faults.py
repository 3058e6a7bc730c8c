# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Three key servers behind proxies that break: no client of the object server notices, as long as one
of them is well.
"""

import os
import threading
from typing import Any, ClassVar

from attrs import define, field

from tests.integration import tools
from tests.integration.breaking import BreakingProxy, Fault
from tests.integration.server import ServerProcess
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import KeyServerCase, refusal, wait_until
from tests.integration.test_kes_server import Person

_SSE = {"ServerSideEncryption": "AES256"}

#: Every write and every read asks a key server.
_NO_REUSE = {"KYPELLO_KMS_BUCKET_KEY_OBJECTS": "0", "KYPELLO_KMS_CACHE_TIME": "0"}

#: How many rounds each client makes during a fault.
_ROUNDS = 5


@define(eq=False)
class Load:
    """
    Clients that write and read until told to stop.

    :ivar counts: How many rounds each has made.
    :ivar failures: What went wrong.
    """

    _server: ServerProcess
    counts: list[int] = field(factory=lambda: [0] * 4)
    failures: list[str] = field(factory=list)
    _ended: threading.Event = field(factory=threading.Event)
    _threads: list[threading.Thread] = field(factory=list)

    def start(self) -> None:
        """
        Begin.
        """
        for number in range(len(self.counts)):
            thread = threading.Thread(target=self._work, args=(number,))
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """
        End, and wait for it.
        """
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> None:
        """
        Wait until all clients have made some more rounds, or something failed.
        """
        wanted = [count + _ROUNDS for count in self.counts]
        wait_until(
            lambda: (
                self.failures
                or all(count >= most for count, most in zip(self.counts, wanted, strict=True))
            ),
            90,
        )

    def _work(self, number: int) -> None:
        try:
            s3 = boto3_client(self._server, retries={"total_max_attempts": 1})
            while not self._ended.is_set():
                body = os.urandom(1000)
                s3.put_object(Bucket="bucket", Key=f"k{number}", Body=body, **_SSE)
                if s3.get_object(Bucket="bucket", Key=f"k{number}")["Body"].read() != body:
                    self.failures.append("other content")
                self.counts[number] += 1
        except Exception as error:
            self.failures.append(repr(error))


class ProxiedCase(KeyServerCase):
    """
    A test with three key servers behind proxies.

    :cvar settings: Of the object server.
    """

    settings: ClassVar[dict[str, str]] = _NO_REUSE

    def setUp(self) -> None:
        """
        Start them.
        """
        super().setUp()
        self.proxies = [self.proxy(self.start().port) for _ in range(3)]
        self.served = self.object_server(*(one.port for one in self.proxies), **self.settings)
        self.s3 = boto3_client(self.served)
        self.s3.create_bucket(Bucket="bucket")

    def proxy(self, target: int) -> BreakingProxy:
        """
        Start a proxy in front of a port.
        """
        proxy = BreakingProxy(tools.free_port(), target)
        proxy.start()
        self.addCleanup(proxy.stop)
        return proxy

    def loaded(self) -> Load:
        """
        Clients at work.
        """
        load = Load(self.served)
        load.start()
        self.addCleanup(load.stop)
        return load


class OneWellTests(ProxiedCase):
    """
    With one key server well, no request fails.
    """

    def test_each_fault(self) -> None:
        """
        Whatever two of three do, for however long, clients that do not repeat anything see no
        error; each of the three is the one that is well once.
        """
        load = self.loaded()
        faults = (Fault.REFUSE, Fault.RESET, Fault.HANG, Fault.SLOW)
        for turn, fault in enumerate(faults):
            well = turn % 3
            others = [one for number, one in enumerate(self.proxies) if number != well]
            for one in others:
                one.set(fault)
                load.goes_on()
            for one in others:
                one.set(Fault.NONE)
            load.goes_on()
            self.assertEqual(load.failures, [], fault)
            self.await_all_back()

    def test_rolling(self) -> None:
        """
        One after the other goes away and comes back, without an error.
        """
        load = self.loaded()
        for proxy in self.proxies:
            proxy.set(Fault.REFUSE)
            load.goes_on()
            proxy.set(Fault.NONE)
            self.await_all_back()
        self.assertEqual(load.failures, [])

    def test_wrong_certificate(self) -> None:
        """
        Two of three become servers that nobody vouches for, without an error.
        """
        self.server = Person.make(self.folder, "stranger")
        strangers = [self.start().port for _ in range(2)]
        load = self.loaded()
        load.goes_on()
        for proxy, port in zip(self.proxies, strangers, strict=False):
            proxy.set(Fault.REFUSE)
            proxy.target = port
            proxy.set(Fault.NONE)
            load.goes_on()
        load.goes_on()
        self.assertEqual(load.failures, [])

    def await_all_back(self) -> None:
        """
        Wait until the server believes all to be well again.
        """
        wait_until(lambda: self.served.log.count("is put aside") <= self.back(), 60)

    def back(self) -> int:
        """
        How often key servers came back.
        """
        return self.served.log.count("is back")


class AllDownTests(ProxiedCase):
    """
    An outage of all of them.
    """

    # Where no opened key is kept for others, each worker knows only the buckets that it has used.
    settings: ClassVar[dict[str, str]] = {**_NO_REUSE, "KYPELLO_WORKERS": "1"}

    def test_answer(self) -> None:
        """
        What needs a key is answered 503 with ``Retry-After``, everything else goes on, and all is
        well again by itself.
        """
        body = b"content"
        self.s3.put_object(Bucket="bucket", Key="plain", Body=body)
        self.s3.put_object(Bucket="bucket", Key="sealed", Body=body, **_SSE)
        for proxy in self.proxies:
            proxy.set(Fault.REFUSE)
        answers: list[Any] = []
        s3 = boto3_client(self.served, retries={"total_max_attempts": 1})
        s3.meta.events.register(
            "after-call.s3", lambda http_response, **_: answers.append(http_response)
        )
        sealed = {"Bucket": "bucket", "Key": "sealed"}
        self.assertEqual(refusal(s3.put_object, Body=body, **sealed, **_SSE)[0], 503)
        self.assertEqual(refusal(s3.get_object, **sealed)[0], 503)
        for answer in answers:
            self.assertGreater(int(answer.headers["Retry-After"]), 0)
        self.assertEqual(s3.get_object(Bucket="bucket", Key="plain")["Body"].read(), body)
        self.assertEqual(s3.head_object(**sealed)["ContentLength"], len(body))
        self.assertEqual(len(s3.list_objects_v2(Bucket="bucket")["Contents"]), 2)
        for proxy in self.proxies:
            proxy.set(Fault.NONE)
        wait_until(lambda: self.served.health("ready") == 200)
        self.assertEqual(self.s3.get_object(**sealed)["Body"].read(), body)


class OutageTimeTests(KeyServerCase):
    """
    How long what was read lately can be read.
    """

    def test_longer(self) -> None:
        """
        In an outage, what was opened lately is read beyond the time of the cache; with no time for
        outages it is not.
        """
        proxy = BreakingProxy(tools.free_port(), self.start().port)
        proxy.start()
        self.addCleanup(proxy.stop)
        more = {"KYPELLO_KMS_CACHE_TIME": "1s", "KYPELLO_WORKERS": "1"}
        for outage in ("1h", "0"):
            proxy.set(Fault.NONE)
            server = self.object_server(proxy.port, **more, KYPELLO_KMS_CACHE_OUTAGE_TIME=outage)
            s3 = boto3_client(server, retries={"total_max_attempts": 1})
            if outage == "1h":
                s3.create_bucket(Bucket="bucket")
                s3.put_object(Bucket="bucket", Key="k", Body=b"content", **_SSE)
            wait_until(lambda s3=s3: read(s3) == b"content")
            proxy.set(Fault.REFUSE)
            if outage == "0":
                wait_until(lambda s3=s3: read(s3) is None)
            else:
                log = server.log
                wait_until(lambda server=server, s3=s3: read(s3) and "put aside" in server.log)
                self.assertNotIn("put aside", log)
                for _ in range(3):
                    self.assertEqual(read(s3), b"content")
            server.stop()


def read(s3: Any) -> bytes | None:
    """
    The object, or ``None`` when it cannot be read now.
    """
    try:
        content: bytes = s3.get_object(Bucket="bucket", Key="k")["Body"].read()
    except s3.exceptions.ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 503:
            raise
        return None
    return content
