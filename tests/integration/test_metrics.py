# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Prometheus' own parser reads the metrics of a real server of two workers.
"""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import yaml
from botocore.exceptions import ClientError
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.quotas import set_quota
from tests.integration.server import STATIC_KEY
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import wait_until
from tests.integration.test_mc_admin import AdminCase
from tests.integration.test_workers import WorkersCase

Samples: TypeAlias = dict[str, dict[tuple[str, ...], float]]

_CLUSTER, _NODE = "/minio/v2/metrics/cluster", "/minio/v2/metrics/node"


def read(endpoint: str, path: str, token: str = "") -> list[Metric]:
    """
    Read metrics as Prometheus does.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urlopen(Request(endpoint + path, headers=headers), timeout=20) as answer:
        kind, text = answer.headers["Content-Type"], answer.read().decode()
    assert kind.startswith("text/plain; version=0.0.4"), kind
    return list(text_string_to_metric_families(text))


def samples(families: list[Metric]) -> Samples:
    """
    Samples by their name, and the values of their labels but that of the server.
    """
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            labels = tuple(value for name, value in sample.labels.items() if name != "server")
            of_name = found.setdefault(sample.name, {})
            assert labels not in of_name, sample
            of_name[labels] = sample.value
    return found


def scrape(endpoint: str, path: str, token: str = "") -> Samples:
    """
    Read metrics, as samples.
    """
    return samples(read(endpoint, path, token))


def status_of(endpoint: str, path: str, token: str = "") -> int:
    """
    How a request for metrics is refused.
    """
    try:
        scrape(endpoint, path, token)
    except HTTPError as error:
        return error.code
    return 200


class SumTests(WorkersCase):
    """
    What workers tell together.
    """

    environment = {  # noqa: RUF012
        "MINIO_KMS_SECRET_KEY": STATIC_KEY,
        "MINIO_KMS_AUTO_ENCRYPTION": "on",
        "MINIO_PROMETHEUS_AUTH_TYPE": "public",
        "MINIO_SCANNER_SPEED": "fastest",
        # Nobody listens there, and no bucket sends anything.
        "MINIO_NOTIFY_WEBHOOK_ENABLE_HOOK": "on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_HOOK": "http://127.0.0.1:9/",
    }

    def setUp(self) -> None:
        """
        Serve metrics to everybody.
        """
        super().setUp()
        self.endpoint = self.server.endpoint

    def test_requests(self) -> None:
        """
        Whichever worker is asked, it tells the requests of all of them, exactly.
        """
        before = self.requests("getobject")
        self.first.put_object(Bucket="bucket", Key="k", Body=bytes(1000))
        for client in (self.first, self.second):
            for _ in range(7):
                client.get_object(Bucket="bucket", Key="k")["Body"].read()
            with self.assertRaises(ClientError):
                client.get_object(Bucket="bucket", Key="none")
        for _ in range(6):
            told = scrape(self.endpoint, _CLUSTER)
            get = ("getobject",)
            self.assertEqual(told["minio_s3_requests_total"][get], before + 16)
            self.assertEqual(told["minio_s3_requests_4xx_errors_total"][get], 2)
            self.assertEqual(told["minio_s3_requests_errors_total"][get], 2)
            self.assertEqual(told["minio_s3_requests_5xx_errors_total"][get], 0)
            self.assertEqual(told["minio_s3_requests_inflight_total"][get], 0)
            first_bytes = told["minio_s3_requests_ttfb_seconds_distribution_total"]
            self.assertEqual(first_bytes["getobject", "+Inf"], before + 16)
            self.assertGreaterEqual(told["minio_s3_traffic_sent_bytes_total"][()], 14_000)

    def requests(self, api: str) -> float:
        """
        How many requests of a kind have been counted.
        """
        told = scrape(self.endpoint, _CLUSTER).get("minio_s3_requests_total", {})
        return told.get((api,), 0.0)

    def test_killed_worker(self) -> None:
        """
        No counter goes back when a worker is killed and started again, and what was under way in
        it is so no more.
        """
        for client in (self.first, self.second):
            for number in range(10):
                client.put_object(Bucket="bucket", Key="k", Body=b"%d" % number)
        counters = self.counters()
        victim = self.server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(self.server.workers()) == 2 and victim not in self.server.workers())
        boto3_client(self.server).put_object(Bucket="bucket", Key="k", Body=b"after")
        for _ in range(4):
            after = self.counters()
            self.assertEqual(
                {key: (n, after.get(key)) for key, n in counters.items() if after.get(key, -1) < n},
                {},
            )
            counters = after
        self.assertEqual(counters["minio_s3_requests_total", ("putobject",)], 21)
        told = scrape(self.endpoint, _CLUSTER)
        self.assertEqual(set(told["minio_s3_requests_inflight_total"].values()), {0})

    def counters(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """
        All numbers that must not go back.
        """
        return {
            (name, labels): value
            for path in (_CLUSTER, _NODE)
            for name, of_name in samples(
                [one for one in read(self.endpoint, path) if one.type != "gauge"]
            ).items()
            for labels, value in of_name.items()
        }

    def test_under_way(self) -> None:
        """
        What is under way is told while it is, and what was given up afterwards.
        """
        with self.slow_upload():
            wait_until(lambda: self.sample("minio_s3_requests_inflight_total") == 1)
        wait_until(lambda: self.sample("minio_s3_requests_inflight_total") == 0)
        self.assertEqual(self.sample("minio_s3_requests_canceled_total"), 1)

    @contextlib.contextmanager
    def slow_upload(self) -> Iterator[None]:
        """
        A client that has not sent all of an object, and then goes away.
        """
        url = self.first.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": "slow"})
        target = url.removeprefix(self.endpoint)
        with socket.create_connection(("127.0.0.1", self.server.port), 10) as client:
            host = f"127.0.0.1:{self.server.port}"
            head = f"PUT {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n"
            client.sendall(head.encode() + bytes(1000))
            yield
            # Gone, and not only done with sending.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def sample(self, name: str) -> float:
        """
        A number about uploads.
        """
        return scrape(self.endpoint, _CLUSTER).get(name, {}).get(("putobject",), 0.0)

    def test_figures(self) -> None:
        """
        What the processes take, and the room there is, are those of the system.
        """
        node, cluster = scrape(self.endpoint, _NODE), scrape(self.endpoint, _CLUSTER)
        self.assertEqual(node["kypello_processes"][()], 3)
        resident = node["minio_node_process_resident_memory_bytes"][()]
        self.assertGreater(resident, 3 * 20e6)
        self.assertLess(abs(time.time() - node["minio_node_process_starttime_seconds"][()]), 60)
        self.assertGreater(node["minio_node_process_cpu_total_seconds_total"][()], 0.1)
        self.assertGreater(node["minio_node_file_descriptor_open_total"][()], 20)
        room = os.statvfs(self.work)
        total = cluster["minio_cluster_capacity_raw_total_bytes"][()]
        self.assertEqual(total, room.f_blocks * room.f_frsize)
        drives = node["minio_node_drive_total_bytes"]
        self.assertEqual(drives, {(str(self.work / "data"),): total})
        self.assertEqual(cluster["minio_cluster_kms_online"][()], 1)
        self.assertGreater(cluster["kypello_kms_request_duration_seconds_count"][()], 0)

    def test_document(self) -> None:
        """
        The documentation names what there is, and nothing else.
        """
        # Without a failure of each kind some series would not be there; their families are.
        self.first.put_object(Bucket="bucket", Key="k", Body=b"content")
        set_quota(self.server, "bucket", 1000)
        # Usage is told when all buckets are counted.
        wait_until(lambda: "minio_cluster_usage" in self.text("/minio/v2/metrics/cluster"))
        found = {
            line.split()[2]
            for kind in ("cluster", "node", "bucket", "resource")
            for line in self.text(f"/minio/v2/metrics/{kind}").splitlines()
            if line.startswith("# TYPE ")
        }
        document = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
        rows = [line.split("|")[1] for line in document.splitlines() if line.startswith("| `")]
        named = {name for row in rows for name in re.findall("`([a-z0-9_]+)`", row)}
        # A static key has no endpoints; what is told of these is tested with key servers.
        of_endpoints = {name for name in named if name.startswith("kypello_kms_endpoint_")}
        self.assertEqual(len(of_endpoints), 2)
        self.assertEqual(named, found | of_endpoints)

    def text(self, path: str) -> str:
        """
        Metrics as they are sent.
        """
        with urlopen(self.endpoint + path, timeout=20) as answer:
            text: str = answer.read().decode()
            return text

    def test_refusals(self) -> None:
        """
        Who does not get in is counted by why.
        """
        url = self.first.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "k"})
        for forged in (url.replace("integration", "somebody"), url + "0"):
            with self.assertRaises(HTTPError):
                urlopen(forged, timeout=10)
        told = scrape(self.endpoint, _CLUSTER)
        self.assertEqual(told["kypello_authentication_failures_total"]["InvalidAccessKeyId",], 1)
        self.assertEqual(told["kypello_authentication_failures_total"]["SignatureDoesNotMatch",], 1)
        self.assertEqual(told["minio_s3_requests_rejected_auth_total"][()], 2)


class GenerateTests(AdminCase):
    """
    What ``mc`` configures Prometheus with.
    """

    def scraped(self, alias: str, kind: str) -> int:
        """
        How metrics answer as an alias of ``mc`` says they are asked for.
        """
        printed = self.admin("prometheus", "generate", alias, kind)
        (job,) = yaml.safe_load(printed)["scrape_configs"]
        (static,) = job["static_configs"]
        endpoint = f"{job['scheme']}://{static['targets'][0]}"
        return status_of(endpoint, job["metrics_path"], job.get("bearer_token", ""))

    def test_generated(self) -> None:
        """
        Each kind of metrics is read with the token that ``mc`` makes, by the root user and by who
        may read them; nobody else may.
        """
        for kind in ("cluster", "node", "bucket", "resource"):
            self.assertEqual(self.scraped("k", kind), 200, kind)
        self.admin("user", "add", "k", "alice", "alice-secret")
        self.alias("alice", "alice", "alice-secret")
        self.assertEqual(self.scraped("alice", "cluster"), 403)
        self.admin("policy", "attach", "k", "diagnostics", "--user", "alice")
        self.assertEqual(self.scraped("alice", "cluster"), 200)
        self.assertEqual(status_of(self.server.endpoint, _CLUSTER), 403)
        self.assertEqual(status_of(self.server.endpoint, _CLUSTER, "a.b.c"), 403)
        self.alias_wrongly()
        self.assertEqual(self.scraped("wrong", "cluster"), 403)

    def alias_wrongly(self) -> None:
        """
        Introduce the server to ``mc`` with a wrong secret, which it does not try at once.
        """
        path = self.work / "mc" / "config.json"
        config = json.loads(path.read_text())
        config["aliases"]["wrong"] = {**config["aliases"]["k"], "secretKey": "wrong-secret"}
        path.write_text(json.dumps(config))
