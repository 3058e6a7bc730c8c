# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
An outage of the key server is the same for clients of all workers.
"""

import os
import signal
from typing import Any

from botocore.exceptions import ClientError

from tests.integration.server import ServerProcess
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import KeyServerCase, wait_until
from tests.integration.test_kes_server import Running
from tests.integration.test_workers import client_of_each

#: How many fresh connections are tried.
_MANY = 40


def answers(server: ServerProcess, key: str) -> list[tuple[int, str]]:
    """
    Read an object over fresh connections, of which many stay open so that all workers are met.

    :return: Of each, status and, for a refusal, when to come again.
    """
    found, clients = [], []
    for _ in range(_MANY):
        client = boto3_client(server, max_pool_connections=1)
        clients.append(client)
        found.append(answer(client, key))
    return found


def answer(client: Any, key: str) -> tuple[int, str]:
    """
    Read an object.
    """
    try:
        body: bytes = client.get_object(Bucket="bucket", Key=key)["Body"].read()
    except ClientError as error:
        told = error.response["ResponseMetadata"]
        return told["HTTPStatusCode"], told["HTTPHeaders"].get("retry-after", "")
    assert body == key.encode()
    return 200, ""


class WorkerOutageTests(KeyServerCase):
    """
    Two workers whose only key server goes away.
    """

    def begin(self, **environment: str) -> tuple[ServerProcess, Any, Any, Running]:
        """
        Start a key server and a server, and have the first worker alone write two objects, each
        under a data key of its own.

        :return: The server, a client of each worker, and the key server.
        """
        kes = self.start()
        server = self.object_server(kes.port, **environment)
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        first, second = client_of_each(server, "bucket")
        for key in ("warm", "cold"):
            # Who has a context has a data key alone.
            first.put_object(
                Bucket="bucket",
                Key=key,
                Body=key.encode(),
                ServerSideEncryption="aws:kms",
                SSEKMSEncryptionContext="eyJhIjoiYiJ9",
            )
        return server, first, second, kes

    def test_alike(self) -> None:
        """
        What one worker has read can be read over any connection while no key server answers, for
        as long as is set; then all are told to come again.
        """
        server, first, second, kes = self.begin(
            KYPELLO_KMS_CACHE_TIME="1s", KYPELLO_KMS_CACHE_OUTAGE_TIME="20s"
        )
        self.assertEqual(answer(first, "warm"), (200, ""))
        os.kill(kes.process.pid, signal.SIGKILL)
        self.assertEqual(answers(server, "warm"), [(200, "")] * _MANY)
        wait_until(lambda: answer(second, "warm")[0] == 503, 60)
        for client in (first, second):
            self.assertEqual(answer(client, "warm")[0], 503)
        found = answers(server, "warm")
        self.assertEqual({status for status, _again in found}, {503})
        self.assertTrue(all(int(again) > 0 for _status, again in found))
        # Listings and HEAD need no key that is forgotten.
        for client in (first, second):
            self.assertEqual(client.list_objects_v2(Bucket="bucket")["KeyCount"], 2)
            head = client.head_object(Bucket="bucket", Key="cold")
            self.assertEqual(head["ContentLength"], 4)

    def test_writing(self) -> None:
        """
        What one worker has written makes both of them write on while no key server answers, and
        both read that.
        """
        _server, first, second, kes = self.begin()
        target = {"Bucket": "bucket", "ServerSideEncryption": "AES256"}
        first.put_object(Key="before", Body=b"before", **target)
        os.kill(kes.process.pid, signal.SIGKILL)
        second.put_object(Key="second", Body=b"second", **target)
        first.put_object(Key="first", Body=b"first", **target)
        for client in (first, second):
            for key in ("before", "second", "first"):
                self.assertEqual(answer(client, key), (200, ""))

    def test_never(self) -> None:
        """
        With no time to keep keys, nothing is read in an outage, by no worker.
        """
        server, first, second, kes = self.begin(KYPELLO_KMS_CACHE_TIME="0")
        for client in (first, second):
            self.assertEqual(answer(client, "warm"), (200, ""))
        os.kill(kes.process.pid, signal.SIGKILL)
        self.assertEqual({status for status, _again in answers(server, "warm")}, {503})

    def test_restarted_worker(self) -> None:
        """
        A worker that dies in an outage is replaced by one that reads on.
        """
        server, first, _second, kes = self.begin(KYPELLO_KMS_CACHE_TIME="60s")
        self.assertEqual(answer(first, "warm"), (200, ""))
        os.kill(kes.process.pid, signal.SIGKILL)
        before = server.workers()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: len(set(server.workers()) - set(before)) == 2, 60)
        wait_until(lambda: server.health("live") == 200, 60)
        self.assertEqual(answers(server, "warm"), [(200, "")] * _MANY)
