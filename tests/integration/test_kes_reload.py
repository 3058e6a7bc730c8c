# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A key server that reads its configuration again, and one that lasts through outages and losses.
"""

import json
import resource
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

from tests.integration import tools
from tests.integration.receiver import Receiver
from tests.integration.server import base_environment
from tests.integration.test_faults import wait_until
from tests.integration.test_kes_server import (
    OURS,
    Person,
    Running,
    ServerCase,
    client_context,
    request,
)
from tests.kes.certificates import certificate, key_pem, new_key, pem


class ReloadCase(ServerCase):
    """
    A test with a server whose configuration changes.
    """

    def change(self, running: Running, edit: Callable[[str], str], word: str) -> None:
        """
        Change the configuration, send the signal, and wait until the log has a word once more.
        """
        config = self.folder / f"{running.port}.yml"
        config.write_text(edit(config.read_text()))
        before = running.log.read_text().count(word)
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: running.log.read_text().count(word) > before)

    def status(self, connection: HTTPConnection, path: str, method: str = "GET") -> int:
        """
        Ask over a connection that is open.
        """
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def connect(self, running: Running, person: Person) -> HTTPSConnection:
        """
        Open a connection.
        """
        connection = HTTPSConnection(
            "127.0.0.1", running.port, timeout=10, context=client_context(person)
        )
        connection.connect()
        self.addCleanup(connection.close)
        return connection


class ReloadTests(ReloadCase):
    """
    ``SIGHUP`` brings a new configuration into use.
    """

    def test_policies(self) -> None:
        """
        A connection that is open stays open and is judged by the new policy.
        """
        ours = self.start()
        connection = self.connect(ours, self.user)
        socket = connection.sock
        self.assertEqual(self.status(connection, "/v1/key/list/*"), 403)
        policy = f"policy: {{p: {{allow: [/v1/key/list/*], identities: [{self.user.identity}]}}}}\n"
        self.change(ours, lambda text: text + policy, "is in use")
        self.assertEqual(self.status(connection, "/v1/key/list/*"), 200)
        self.change(ours, lambda text: text.replace(policy, ""), "is in use")
        self.assertEqual(self.status(connection, "/v1/key/list/*"), 403)
        self.assertIs(connection.sock, socket)

    def test_bad_configuration(self) -> None:
        """
        A configuration with mistakes changes nothing, and one line of the log tells why.
        """
        ours = self.start()
        config = self.folder / f"{ours.port}.yml"
        good = config.read_text()
        for edit, reason in (
            (lambda text: f"{text}more: 1\n", f"{config}:5: more: is unknown"),
            (lambda text: text.replace("server.crt", "gone.crt"), "gone.crt: No such file"),
            (
                lambda text: text.replace("127.0.0.1:", "127.0.0.2:"),
                "a new address needs a restart",
            ),
            (lambda text: text.replace(str(self.keys), "server.key"), "server.key"),
            (lambda text: text + "keys: [{name: new}]\n" + "keystore: {}\n", "is given twice"),
        ):
            self.change(ours, edit, "the new configuration is not used, the one before stays: ")
            last = [line for line in ours.log.read_text().splitlines() if "not used" in line][-1]
            self.assertIn(reason, last)
            self.assertNotIn("Traceback", ours.log.read_text())
            self.assertEqual(request(ours.port, "GET", "/v1/key/list/*", self.admin)[0], 200)
            config.write_text(good)

    def test_keystore_and_keys(self) -> None:
        """
        Another keystore, and the keys that are to be in it, are there when it is in use.
        """
        ours = self.start(more="keys: [{name: first}]\n")
        other = self.folder / "other"
        self.change(
            ours,
            lambda text: text.replace(str(self.keys), str(other)).replace("first", "second"),
            "is in use",
        )
        self.assertEqual(json.loads(self.kes(ours, "ls", "--json")), ["second"])
        self.assertEqual(sorted(path.name for path in other.iterdir()), ["second"])

    def test_certificate(self) -> None:
        """
        A new certificate is served to those who come, and whoever is there stays.
        """
        ours = self.start()
        connection = self.connect(ours, self.admin)
        fresh = Person.make(self.folder, "fresh")

        def edit(text: str) -> str:
            """
            Name the new files.
            """
            return text.replace("server.", "fresh.")

        self.change(ours, edit, "is in use")
        shown = ssl.get_server_certificate(("127.0.0.1", ours.port))
        self.assertEqual(shown, fresh.cert.read_text())
        socket = connection.sock
        self.assertEqual(self.status(connection, "/v1/status"), 200)
        self.assertIs(connection.sock, socket)

    def test_verification_begins(self) -> None:
        """
        When certificates have to be valid from now on, a connection that is open is looked at
        again, and serves only who would get through now.
        """
        issuer = new_key()
        (self.folder / "ca.crt").write_bytes(pem(certificate(issuer, True, "ca")))
        key = new_key()
        known = Person.write(
            self.folder, "known", key_pem(key), certificate(key, issuer=("ca", issuer))
        )
        policy = (
            "policy: {p: {allow: [/v1/status], identities:"
            f" [{known.identity}, {self.user.identity}]}}}}\n"
        )
        ours = self.start(more=policy)
        good, bad = (self.connect(ours, person) for person in (known, self.user))
        for connection in (good, bad):
            self.assertEqual(self.status(connection, "/v1/status"), 200)
        more = ", auth: on, ca: ca.crt"
        self.change(ours, lambda text: text.replace("server.crt", f"server.crt{more}"), "is in use")
        self.assertEqual(self.status(good, "/v1/status"), 200)
        self.assertEqual(self.status(bad, "/v1/status"), 403)
        self.assertIn("is none of an authority in use", ours.log.read_text())
        self.change(ours, lambda text: text.replace(more, ""), "is in use")
        self.assertEqual(self.status(bad, "/v1/status"), 200)

    def test_under_load(self) -> None:
        """
        No request fails and no connection breaks while the server reloads again and again.
        """
        ours = self.start(more="keys: [{name: k}]\n")
        ended, failures, counts = threading.Event(), list[str](), [0] * 4

        def work(number: int) -> None:
            """
            Make data keys over one connection.
            """
            connection = self.connect(ours, self.admin)
            first = connection.sock
            try:
                while not ended.is_set():
                    status = self.status(connection, "/v1/key/generate/k", "POST")
                    if status != 200 or connection.sock is not first:
                        failures.append(str(status))
                    counts[number] += 1
            except Exception as error:
                failures.append(repr(error))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(counts))]
        for thread in threads:
            thread.start()
        for _ in range(5):
            self.change(ours, lambda text: text + "# again\n", "is in use")
        ended.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(min(counts), 0)

    def test_start_and_stop(self) -> None:
        """
        A server that is stopped while it reloads ends in order.
        """
        ours = self.start()
        ours.process.send_signal(signal.SIGHUP)
        self.assertEqual(ours.end(), 0)
        self.assertNotIn("Traceback", ours.log.read_text())


class ManyConnectionsTests(ReloadCase):
    """
    Many clients that keep their connections.
    """

    def test_idle(self) -> None:
        """
        A thousand idle connections with mutual TLS cost less than 100 KiB each, and all serve.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        ours = self.start()
        request(ours.port, "POST", "/v1/key/create/k", self.admin)
        before = memory(ours)
        # Each of these takes long to make.
        context = client_context(self.admin)
        connections = []
        for _ in range(1000):
            connection = HTTPSConnection("127.0.0.1", ours.port, timeout=10, context=context)
            self.addCleanup(connection.close)
            connection.connect()
            connections.append(connection)
        self.assertLess((memory(ours) - before) / len(connections), 100)
        for connection in connections:
            self.assertEqual(self.status(connection, "/v1/key/generate/k", "POST"), 200)


def memory(running: Running) -> int:
    """
    What a server holds in memory, in KiB.
    """
    lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


class WebhookTests(ReloadCase):
    """
    The audit log goes to a webhook.
    """

    def receiver(self) -> Receiver:
        """
        A webhook.
        """
        receiver = Receiver()
        receiver.start()
        self.addCleanup(receiver.stop)
        return receiver

    def test_webhook(self) -> None:
        """
        Every request comes there as the record of the file, to another place after a reload, and
        the last one before the server ends.
        """
        first, second = self.receiver(), self.receiver()
        file = self.folder / "audit.log"
        hook = f"{{url: '{first.url}', token: opensesame}}"
        more = f"kypello:\n  audit: {{file: {file}, webhook: {hook}}}\n"
        ours = self.start(more=f"{more}  readable_secrets: allowed\n")
        request(ours.port, "GET", "/v1/status", self.admin)
        wait_until(lambda: len(first.messages) == 1)
        self.assertEqual(first.headers[0]["authorization"], "Bearer opensesame")
        self.change(ours, lambda text: text.replace(first.url, second.url), "is in use")
        request(ours.port, "GET", "/v1/ready", self.admin)
        self.assertEqual(ours.end(), 0)
        self.assertEqual(len(first.messages), 1)
        records = [json.loads(line) for line in file.read_text().splitlines()]
        self.assertEqual(first.messages + second.messages, records)
        paths = [record["request"]["path"] for record in records]
        self.assertEqual(paths, ["/v1/status", "/v1/ready"])
        self.assertNotIn("Traceback", ours.log.read_text())
        self.assertNotIn("opensesame", ours.log.read_text())

    def test_silent(self) -> None:
        """
        A webhook that does not answer keeps neither requests nor the end of the server.
        """
        silent = self.receiver()
        silent.gate.clear()
        self.addCleanup(silent.gate.set)
        ours = self.start(more=f"kypello: {{audit: {{webhook: {{url: '{silent.url}'}}}}}}\n")
        request(ours.port, "GET", "/v1/status", self.admin)
        wait_until(lambda: len(silent.messages) == 1)
        self.assertEqual(request(ours.port, "GET", "/v1/ready", self.admin)[0], 200)
        self.assertEqual(ours.end(), 0)
        self.assertIn("2 records were not sent to the webhook", ours.log.read_text())
        self.assertNotIn("Traceback", ours.log.read_text())


class SecretFileTests(ServerCase):
    """
    Files with secrets that everybody can read.
    """

    def test_refused(self) -> None:
        """
        The server does not start and says what to do, and does when it is told that it is so.
        """
        self.server.key.chmod(0o644)
        refused = self.launch(OURS, "", "")
        self.assertEqual(refused.process.wait(20), 1)
        self.assertIn("server.key holds a secret, and everybody", refused.log.read_text())
        self.assertIn("chmod o= server.key", refused.log.read_text())
        allowed = self.start(more="kypello: {readable_secrets: allowed}\n")
        self.assertEqual(request(allowed.port, "GET", "/v1/status", self.admin)[0], 200)

    def test_configuration(self) -> None:
        """
        A configuration that holds a password is a secret, and one that does not is none.
        """
        passphrase = "keystore: {fs: {path: sealed, passphrase: opensesame}}\n"
        refused = self.launch_with(passphrase, 0o644)
        self.assertEqual(refused.process.wait(20), 1)
        self.assertIn("holds a secret, and everybody", refused.log.read_text())
        self.assertNotIn("opensesame", refused.log.read_text())
        self.launch_with(passphrase, 0o600).wait()

    def launch_with(self, keystore: str, mode: int) -> Running:
        """
        Start a server with another keystore.
        """
        port = tools.free_port()
        config = self.folder / f"{port}.yml"
        config.write_text(
            f"address: 127.0.0.1:{port}\nadmin: {{identity: disabled}}\n"
            f"tls: {{key: server.key, cert: server.crt}}\n{keystore}"
        )
        config.chmod(mode)
        return self.run_server((*OURS, "--config", str(config)), port)


class LogTests(ServerCase):
    """
    The original client follows logs and reads metrics and policies.
    """

    def follow(self, running: Running, *arguments: str) -> tuple["subprocess.Popen[bytes]", Path]:
        """
        Begin to read with the original client.
        """
        output = self.folder / "followed"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [str(tools.require("kes")), *arguments],
                env={
                    **base_environment(),
                    "KES_SERVER": f"127.0.0.1:{running.port}",
                    "KES_CLIENT_KEY": str(self.admin.key),
                    "KES_CLIENT_CERT": str(self.admin.cert),
                    "SSL_CERT_FILE": str(self.server.cert),
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process, output

    def test_audit(self) -> None:
        """
        ``kes log`` shows each request as it ends.
        """
        ours = self.start(more="log: {audit: off}\n")
        _process, output = self.follow(ours, "log", "--audit", "--json")

        def seen() -> bool:
            """
            Ask, and look for it.
            """
            self.kes(ours, "ls")
            return '"/v1/key/list' in output.read_text()

        wait_until(seen)
        record = json.loads(output.read_text().splitlines()[0])
        self.assertEqual(record["response"]["code"], 200)
        self.assertEqual(record["request"]["identity"], self.admin.identity)

    def test_error(self) -> None:
        """
        ``kes log --error`` shows refusals.
        """
        ours = self.start()
        _process, output = self.follow(ours, "log", "--error", "--json")

        def seen() -> bool:
            """
            Be refused, and look for it.
            """
            self.kes(ours, "ls", person=self.user, code=1)
            return "no policy names this identity" in output.read_text()

        wait_until(seen)

    def test_server_stops(self) -> None:
        """
        A server that is stopped does not wait for those who follow its logs.
        """
        ours = self.start()
        _process, output = self.follow(ours, "log", "--audit", "--json")

        def seen() -> bool:
            """
            Ask, and look for anything.
            """
            self.kes(ours, "ls")
            return bool(output.read_text())

        wait_until(seen)
        self.assertEqual(ours.end(), 0)

    def test_metrics(self) -> None:
        """
        ``kes metric`` understands the numbers.
        """
        ours = self.start()
        self.kes(ours, "ls")
        self.kes(ours, "key", "info", "none", code=1)
        process, output = self.follow(ours, "metric", "--rate", "1s")
        wait_until(lambda: b"\n" in output.read_bytes() or process.poll() is not None)
        told = json.loads(output.read_text().splitlines()[0])
        self.assertEqual((told["kes_http_request_success"], told["kes_http_request_error"]), (1, 1))

    def test_policies_and_identities(self) -> None:
        """
        ``kes policy`` and ``kes identity`` show what is configured.
        """
        policy = f"policy: {{p: {{allow: [/v1/key/list/*], identities: [{self.user.identity}]}}}}\n"
        ours = self.start(more=policy)
        self.assertIn("p", json.loads(self.kes(ours, "ls", "-p", "--json")))
        self.assertIn("/v1/key/list/*", self.kes(ours, "policy", "show", "p"))
        self.assertIn("p", self.kes(ours, "policy", "info", "p"))
        self.assertIn(self.user.identity, self.kes(ours, "ls", "-i"))
        self.assertRegex(self.kes(ours, "identity", "info", self.user.identity), r"Policy +p\n")

    def test_confirmed_deletion(self) -> None:
        """
        Where deletion has to be confirmed, the original client shows how.
        """
        ours = self.start(more="kypello: {deletion: confirmed}\n")
        self.kes(ours, "key", "create", "k")
        printed = self.kes(ours, "key", "rm", "k", code=1)
        self.assertIn("send the header X-Kypello-Confirm: k", printed)
        headers = {"X-Kypello-Confirm": "k"}
        answer = request(ours.port, "DELETE", "/v1/key/delete/k", self.admin, headers=headers)
        self.assertEqual(answer, (200, b""))
