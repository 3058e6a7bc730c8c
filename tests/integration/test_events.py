# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Events of a real server of two workers: webhooks, listeners, kills.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from minio import Minio

from tests.integration.receiver import Receiver
from tests.integration.server import ACCESS_KEY, SECRET_KEY, STATIC_KEY, base_environment
from tests.integration.test_clients import boto3_client, files_with
from tests.integration.test_faults import wait_until
from tests.integration.test_mc_admin import AdminCase
from tests.integration.test_metrics import scrape
from tests.integration.test_streams import values
from tests.integration.test_workers import WorkersCase

_ARN = "arn:minio:sqs::HOOK:webhook"
_EVENTS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


def settings(receiver: Receiver, **more: str) -> dict[str, str]:
    """
    The environment of a server that sends events to a receiver.
    """
    return {
        "MINIO_KMS_SECRET_KEY": STATIC_KEY,
        "MINIO_KMS_AUTO_ENCRYPTION": "on",
        "MINIO_PROMETHEUS_AUTH_TYPE": "public",
        "MINIO_NOTIFY_WEBHOOK_ENABLE_HOOK": "on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_HOOK": receiver.url,
        "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_HOOK": "hook-token",
        **more,
    }


def notify(client: Any) -> None:
    """
    Have the events of a bucket sent.
    """
    client.put_bucket_notification_configuration(
        Bucket="bucket",
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": _ARN, "Events": _EVENTS}]},
    )


class EventsCase(WorkersCase):
    """
    A test with a receiver that does not listen yet, and a bucket whose events are sent there.
    """

    more: dict[str, str] = {}  # noqa: RUF012

    def setUp(self) -> None:
        """
        Start the server.
        """
        self.receiver = Receiver()
        self.addCleanup(self.receiver.stop)
        self.environment = settings(self.receiver, **self.more)
        super().setUp()
        notify(self.first)

    def put(self, client: Any, key: str) -> None:
        """
        Store an object.
        """
        client.put_object(Bucket="bucket", Key=key, Body=b"content", Metadata={"mark": "VALUE"})

    def assert_in_order(self) -> None:
        """
        See that events about each key came in their order, whatever came again.
        """
        last: dict[str, str] = {}
        seen = set()
        for message in self.receiver.messages:
            sequencer = message["Records"][0]["s3"]["object"]["sequencer"]
            key = message["Key"]
            if (key, sequencer) not in seen:
                self.assertGreater(sequencer, last.get(key, ""), key)
                seen.add((key, sequencer))
                last[key] = sequencer

    def sample(self, name: str) -> float:
        """
        A number that is told of the target.
        """
        told = scrape(self.server.endpoint, "/minio/v2/metrics/cluster")
        return told[name]["HOOK", "webhook"]


class DeliveryTests(EventsCase):
    """
    A webhook.
    """

    def test_both_workers(self) -> None:
        """
        What either worker does is sent once, with what was asked for, and counted.
        """
        self.receiver.start()
        for number, client in enumerate((self.first, self.second)):
            self.put(client, f"k {number}")
            client.delete_object(Bucket="bucket", Key=f"k {number}")
        wait_until(lambda: len(self.receiver.messages) >= 4)
        self.assertEqual(
            sorted((one["EventName"], one["Key"]) for one in self.receiver.messages),
            sorted(
                (f"s3:Object{kind}", f"bucket/k {number}")
                for number in range(2)
                for kind in ("Created:Put", "Removed:Delete")
            ),
        )
        self.assert_in_order()
        self.assertEqual(self.receiver.headers[0]["authorization"], "Bearer hook-token")
        wait_until(lambda: self.sample("minio_notify_target_queue_length") == 0)
        self.assertEqual(self.sample("kypello_notify_target_sent_events_total"), 4)
        self.assertEqual(self.sample("kypello_notify_target_dropped_events_total"), 0)

    def test_nothing_in_clear(self) -> None:
        """
        What waits tells nothing of encrypted objects on the disk, and the log no token.
        """
        self.put(self.first, "k")
        self.assertEqual(files_with(self.work / "data", b"VALUE"), [])
        self.assertNotIn("hook-token", self.server.log)
        self.receiver.start()
        wait_until(lambda: self.receiver.messages)
        told = self.receiver.messages[0]["Records"][0]["s3"]["object"]["userMetadata"]
        self.assertEqual(told["X-Amz-Meta-Mark"], "VALUE")

    def test_hanging(self) -> None:
        """
        A webhook that does not answer holds up no request, and gets everything once it does.
        """
        self.receiver.start()
        keys = [f"k{number}" for number in range(60)]
        with self.receiver.holding():
            for key in keys:
                self.put(self.second, key)
                self.second.get_object(Bucket="bucket", Key=key)["Body"].read()
        wait_until(lambda: {f"bucket/{key}" for key in keys} <= set(self.receiver.keys()), 40)
        self.assert_in_order()

    def test_failing(self) -> None:
        """
        One that fails is told in the log, and gets everything once it does not.
        """
        self.receiver.status = 500
        self.receiver.start()
        for number in range(10):
            self.put(self.first, f"k{number}")
        wait_until(lambda: "answers 500" in self.server.log)
        self.assertGreater(self.sample("minio_notify_target_failed_events_total"), 0)
        self.assertEqual(self.sample("minio_notify_target_queue_length"), 10)
        self.receiver.messages.clear()
        self.receiver.status = 200
        wait_until(lambda: len(self.receiver.messages) >= 10)
        self.assertEqual(len(set(self.receiver.keys())), 10)


class KillTests(EventsCase):
    """
    Servers that die.
    """

    def test_kill_while_away(self) -> None:
        """
        What was acknowledged while the webhook was away is sent after the server was killed and
        started again.
        """
        for number, client in enumerate((self.first, self.second) * 10):
            self.put(client, f"k{number % 7}")
        for worker in self.server.workers():
            os.kill(worker, signal.SIGKILL)
        self.server.kill()
        self.receiver.start()
        self.server.start()
        wait_until(lambda: len(self.receiver.messages) >= 20)
        self.assertEqual(len(self.receiver.messages), 20)
        self.assert_in_order()
        wait_until(lambda: self.sample("minio_notify_target_queue_length") == 0)

    def test_kill_under_way(self) -> None:
        """
        However often processes are killed while events are told and sent, every write that was
        acknowledged is told, those of a key in their order.
        """
        self.receiver.start()
        acknowledged: list[str] = []
        over = threading.Event()

        def write(name: str) -> None:
            """
            Store objects, each under a key of its own.
            """
            client = boto3_client(self.server, max_pool_connections=1)
            number = 0
            while not over.is_set():
                key, number = f"{name}-{number}", number + 1
                with contextlib.suppress(BotoCoreError, ClientError):
                    self.put(client, key)
                    acknowledged.append(f"bucket/{key}")

        writers = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
        for writer in writers:
            writer.start()
        try:
            for round_ in range(6):
                before = len(acknowledged)
                wait_until(lambda before=before: len(acknowledged) > before + 20, 60)
                workers = self.server.workers()
                if round_ % 2:
                    os.kill(workers[0], signal.SIGKILL)
                else:
                    for worker in workers:
                        os.kill(worker, signal.SIGKILL)
                    self.server.kill()
                    self.server.start()
        finally:
            over.set()
            for writer in writers:
                writer.join()
        self.assertGreater(len(acknowledged), 100)
        wait_until(lambda: set(acknowledged) <= set(self.receiver.keys()), 40)
        self.assert_in_order()

    def test_stop(self) -> None:
        """
        A server that is stopped sends what waits before it ends.
        """
        self.receiver.start()
        for number in range(30):
            self.put(self.first, f"k{number}")
        self.assertEqual(self.server.stop(), 0)
        self.assertEqual(len(set(self.receiver.keys())), 30)


class LimitTests(EventsCase):
    """
    A small limit.
    """

    more = {"MINIO_NOTIFY_WEBHOOK_QUEUE_LIMIT_HOOK": "5"}  # noqa: RUF012

    def test_limit(self) -> None:
        """
        What is beyond the limit is lost, counted and logged, and no request fails.
        """
        for number in range(8):
            self.put(self.first, f"k{number}")
        self.assertEqual(self.sample("minio_notify_target_queue_length"), 5)
        self.assertEqual(self.sample("kypello_notify_target_dropped_events_total"), 3)
        self.assertIn("has 5 events waiting already", self.server.log)
        self.receiver.start()
        wait_until(lambda: len(self.receiver.messages) >= 5)
        expected = [f"bucket/k{number}" for number in range(5)]
        self.assertEqual(sorted(self.receiver.keys()), expected)


class ClientTests(AdminCase):
    """
    What clients do with events.
    """

    def setUp(self) -> None:
        """
        Serve with a target.
        """
        self.receiver = Receiver()
        self.receiver.start()
        self.addCleanup(self.receiver.stop)
        self.environment = settings(self.receiver)
        super().setUp()

    def listen(self, *words: str) -> Callable[[], list[Any]]:
        """
        Begin to listen with ``mc watch``.

        :return: What gives all that has been heard.
        """
        path = self.work / "heard"
        with path.open("wb") as output:
            process = subprocess.Popen(
                [self.program, "--config-dir", self.work / "mc", "--json", "watch", *words],
                env={**base_environment(), "HOME": str(self.work)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.kill)
        return lambda: values(path.read_text())

    def test_mc_event(self) -> None:
        """
        Rules are added, listed and removed, and count.
        """
        self.mc("event", "add", self.bucket, _ARN, "--event", "put", "--suffix", ".jpg")
        (listed,) = self.told("event", "ls", self.bucket)
        self.assertEqual((listed["arn"], listed["suffix"]), (_ARN, ".jpg"))
        self.assertEqual(listed["event"], ["s3:ObjectCreated:*"])
        self.mc("event", "add", self.bucket, _ARN, "--event", "put", "--suffix", ".jpg", fails=True)
        self.mc("event", "add", self.bucket, _ARN.replace("HOOK", "NONE"), fails=True)
        self.mc("pipe", f"{self.bucket}/a.jpg", given=b"content")
        self.mc("pipe", f"{self.bucket}/a.txt", given=b"content")
        self.mc("pipe", f"{self.bucket}/b.jpg", given=b"content")
        wait_until(lambda: len(self.receiver.messages) >= 2)
        # Different keys have no order.
        self.assertEqual(sorted(self.receiver.keys()), ["bucket/a.jpg", "bucket/b.jpg"])
        self.mc("event", "rm", self.bucket, _ARN, "--event", "put", "--suffix", ".jpg")
        self.assertEqual(self.told("event", "ls", self.bucket), [])

    def test_mc_info(self) -> None:
        """
        An administrator sees the target, and whether it is there.
        """
        for state in ("online", "offline"):
            told = json.loads(self.mc("--json", "admin", "info", "k"))["info"]
            self.assertEqual(told["sqsARN"], ["arn:minio:sqs:us-east-1:HOOK:webhook"])
            (services,) = told["services"]["notifications"]
            self.assertEqual(services["webhook"], [{"HOOK": {"status": state}}])
            self.receiver.stop()

    def test_mc_watch(self) -> None:
        """
        What both workers do is heard, each once, as far as it was asked for.
        """
        heard = self.listen("--prefix", "in/", "--events", "delete,put", self.bucket)
        clients = [boto3_client(self.server, max_pool_connections=1) for _ in range(8)]

        def begun() -> bool:
            """
            Whether something is heard.
            """
            clients[0].put_object(Bucket="bucket", Key="in/first", Body=b"")
            return bool(heard())

        wait_until(begun)
        keys = [f"in/k{number}" for number in range(len(clients))]
        for client, key in zip(clients, keys, strict=True):
            client.put_object(Bucket="bucket", Key=key, Body=b"content")
            client.put_object(Bucket="bucket", Key=f"out/{key}", Body=b"content")
            client.get_object(Bucket="bucket", Key=key)["Body"].read()
            client.delete_object(Bucket="bucket", Key=key)

        def told() -> list[tuple[str, str]]:
            """
            What is heard of them.
            """
            pairs = [
                (one["events"]["type"], one["events"]["path"].partition("/bucket/")[2])
                for one in heard()
            ]
            return [pair for pair in pairs if "first" not in pair[1]]

        wait_until(lambda: len(told()) >= 2 * len(keys))
        self.assertEqual(
            sorted(told()),
            sorted(
                (f"s3:Object{kind}", key)
                for key in keys
                for kind in ("Created:Put", "Removed:Delete")
            ),
        )

    def test_mc_watch_all(self) -> None:
        """
        Who asks for nothing else hears of what is stored, read and removed.
        """
        heard = self.listen(self.bucket)
        client = boto3_client(self.server)

        def told() -> set[str]:
            """
            What is heard while it happens.
            """
            client.put_object(Bucket="bucket", Key="k", Body=b"content")
            client.get_object(Bucket="bucket", Key="k")["Body"].read()
            client.delete_object(Bucket="bucket", Key="k")
            return {one["events"]["type"] for one in heard()}

        wanted = {"s3:ObjectCreated:Put", "s3:ObjectAccessed:Get", "s3:ObjectRemoved:Delete"}
        wait_until(lambda: wanted <= told())

    def test_minio_py(self) -> None:
        """
        MinIO's SDK listens to a bucket.
        """
        client = Minio(
            self.server.endpoint.partition("//")[2],
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            secure=False,
        )
        found: list[Any] = []

        def listen() -> None:
            """
            Hear one event.
            """
            with client.listen_bucket_notification(
                "bucket", prefix="k", events=["s3:ObjectCreated:*"]
            ) as events:
                found.append(next(iter(events)))

        # It sends its request when it looks for the first event, and so waits while we store.
        listening = threading.Thread(target=listen, daemon=True)
        listening.start()

        def heard() -> bool:
            """
            Store an object, and see whether that was heard.
            """
            boto3_client(self.server).put_object(Bucket="bucket", Key="k", Body=b"content")
            return bool(found)

        wait_until(heard)
        listening.join(20)
        (record,) = found[0]["Records"]
        self.assertEqual(record["s3"]["object"]["key"], "k")
