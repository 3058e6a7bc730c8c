# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key server whose keystore goes away, and two of them behind a balancer.
"""

import json
import os
import signal
import threading
import time
from urllib.parse import urlsplit

from tests.integration import tools
from tests.integration.bao import Bao
from tests.integration.relay import Mode, Relay
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import _SSE, KeyServerCase, wait_until
from tests.integration.test_kes_proxy import documented
from tests.integration.test_kes_server import OURS, Running, ServerCase, request

_POLICY = """
path "second/data/*" { capabilities = ["create", "read"] }
path "second/metadata/*" { capabilities = ["list", "delete"] }
"""


class OutageTests(ServerCase):
    """
    OpenBao is behind a network that breaks.
    """

    def setUp(self) -> None:
        """
        Start OpenBao, and a network before it.
        """
        super().setUp()
        self.bao = Bao.develop(self.folder)
        self.addCleanup(self.bao.end)
        self.bao.mount("second", "kv", 2)
        port = urlsplit(self.bao.url).port
        assert port is not None
        self.relay = Relay(port)
        self.addCleanup(self.relay.end)

    def run_with(self, cache: str) -> Running:
        """
        Start a key server with two keys, of which it has used one.
        """
        role, secret = self.bao.app_role(_POLICY, token_period="5m")
        port = tools.free_port()
        config = self.folder / f"{port}.yml"
        config.write_text(
            f"address: 127.0.0.1:{port}\nadmin: {{identity: {self.admin.identity}}}\n"
            "tls: {key: server.key, cert: server.crt}\n"
            f"cache: {{expiry: {{{cache}}}}}\n"
            "keystore:\n  vault:\n"
            f"    endpoint: http://127.0.0.1:{self.relay.port}\n"
            "    engine: second\n    version: v2\n"
            f"    approle: {{id: {role}, secret: {secret}}}\n"
        )
        config.chmod(0o600)
        running = self.run_server((*OURS, "--config", str(config)), port)
        running.wait()
        for name in ("used", "other"):
            self.assertEqual(self.ask(running, f"create/{name}")[0], 200)
        self.assertEqual(self.ask(running, "generate/used")[0], 200)
        return running

    def ask(self, running: Running, call: str) -> tuple[int, bytes]:
        """
        Make a call about a key.
        """
        return request(running.port, "POST", f"/v1/key/{call}", self.admin)

    def check(self, mode: Mode) -> None:
        """
        Keys that were used serve on, others fail, and all is well afterwards.
        """
        ours = self.run_with("any: 1s, unused: 1s, offline: 1h")
        made = json.loads(self.ask(ours, "generate/used")[1])
        self.relay.become(mode)
        wait_until(lambda: b"unreachable" in self.status(ours), 40)
        for _ in range(5):
            body = json.dumps({"ciphertext": made["ciphertext"]}).encode()
            status, answer = request(ours.port, "POST", "/v1/key/decrypt/used", self.admin, body)
            self.assertEqual(status, 200, answer)
            self.assertEqual(json.loads(answer)["plaintext"], made["plaintext"])
        for call in ("generate/other", "create/new"):
            self.assertEqual(self.ask(ours, call)[0], 502)
        self.assertEqual(request(ours.port, "GET", "/v1/ready", self.admin)[0], 504)
        self.relay.become("open")
        wait_until(lambda: self.ask(ours, "generate/other")[0] == 200, 40)
        self.assertEqual(self.ask(ours, "generate/used")[0], 200)

    def status(self, running: Running) -> bytes:
        """
        What the server tells of itself.
        """
        return request(running.port, "GET", "/v1/status", self.admin)[1]

    def test_refused(self) -> None:
        """
        A keystore that refuses connections.
        """
        self.check("closed")

    def test_silent(self) -> None:
        """
        A keystore that does not answer.
        """
        self.check("silent")

    def test_stop(self) -> None:
        """
        A server whose keystore does not answer stops in order, also after a reload.
        """
        ours = self.run_with("any: 1s, unused: 1s, offline: 1h")
        ours.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "is in use" in ours.log.read_text())
        self.assertEqual(self.ask(ours, "generate/used")[0], 200)
        self.relay.become("silent")
        wait_until(lambda: b"unreachable" in self.status(ours), 40)
        ours.process.send_signal(signal.SIGHUP)
        self.assertEqual(self.ask(ours, "generate/used")[0], 200)
        self.assertEqual(ours.end(), 0)
        self.assertNotIn("Traceback", ours.log.read_text())

    def test_without_offline(self) -> None:
        """
        Without an offline time a key is gone when it has expired, and works again afterwards.
        """
        ours = self.run_with("any: 1s, unused: 1s")
        self.relay.become("closed")
        wait_until(lambda: self.ask(ours, "generate/used")[0] == 502)
        self.relay.become("open")
        wait_until(lambda: self.ask(ours, "generate/used")[0] == 200, 40)


class BalancedTests(KeyServerCase):
    """
    Two of our key servers on one keystore, behind HAProxy set up as documented.
    """

    def test_either_killed(self) -> None:
        """
        Each of them is killed under load in turn, and no request of the object server fails.
        """
        kes = [self.start(), self.start()]
        port = tools.free_port()
        config = self.folder / "haproxy.cfg"
        ports = {"7373": port, "7374": kes[0].port, "7375": kes[1].port}
        config.write_text(documented("haproxy-tcp", ports, self.folder))
        self.run_server((str(tools.require("haproxy")), "-f", str(config)), port).wait()
        server = self.object_server(port)
        s3 = boto3_client(server, max_pool_connections=4)
        ended, failures, counts = threading.Event(), list[str](), [0] * 4

        def work(number: int) -> None:
            """
            Write to and read from buckets of its own, so that the key servers are asked.
            """
            try:
                while not ended.is_set():
                    bucket = f"bucket-{number}-{counts[number]}"
                    s3.create_bucket(Bucket=bucket)
                    body = os.urandom(1000)
                    s3.put_object(Bucket=bucket, Key="k", Body=body, **_SSE)
                    if s3.get_object(Bucket=bucket, Key="k")["Body"].read() != body:
                        failures.append("other content")
                    counts[number] += 1
            except Exception as error:
                failures.append(repr(error))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(counts))]
        for thread in threads:
            thread.start()
        for number, one in enumerate(kes):
            time.sleep(1.5)
            os.kill(one.process.pid, signal.SIGKILL)
            one.process.wait()
            time.sleep(1.5)
            command = tuple(str(part) for part in one.process.args)  # type: ignore[union-attr]
            kes[number] = self.run_server(command, one.port)
            kes[number].wait()
            # The balancer looks twice a second, and takes it back after two good looks.
            time.sleep(2.0)
        ended.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(min(counts), 0)
