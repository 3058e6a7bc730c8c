# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kes`` against our key server and against the original one.
"""

import json
import os
import pty
import re
import signal
import ssl
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from kypello.crypto.apikey import APIKey
from tests.integration import tools
from tests.integration.server import ACCESS_KEY, SECRET_KEY, ServerProcess, base_environment
from tests.integration.test_clients import boto3_client
from tests.integration.test_faults import wait_until
from tests.integration.test_kes_server import OURS, Running, ServerCase

KYPELLO_KES = OURS[:-1]


class CommandCase(ServerCase):
    """
    A test that runs our commands.
    """

    def environment(self, running: Running) -> dict[str, str]:
        """
        That of the administrator.
        """
        return {
            **base_environment(),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "KES_SERVER": f"127.0.0.1:{running.port}",
            "KES_CLIENT_KEY": str(self.admin.key),
            "KES_CLIENT_CERT": str(self.admin.cert),
            "SSL_CERT_FILE": str(self.server.cert),
        }

    def run_with(
        self, environment: Mapping[str, str], *arguments: str, code: int = 0, typed: str = ""
    ) -> str:
        """
        Run one of our commands.

        :param code: The exit code that it must have.
        :param typed: What it can read; it is no terminal.
        :return: What it printed, errors too.
        """
        done = subprocess.run(
            [*KYPELLO_KES, *arguments],
            env={**environment},
            input=typed.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            timeout=60,
            check=False,
        )
        printed = done.stdout.decode()
        self.assertEqual(done.returncode, code, printed)
        return printed

    def ours(self, running: Running, *arguments: str, code: int = 0, typed: str = "") -> str:
        """
        Run one of our commands as the administrator.
        """
        return self.run_with(self.environment(running), *arguments, code=code, typed=typed)


class BothServersTests(CommandCase):
    """
    Our commands do the same with both servers.
    """

    _POLICY = (
        "policy: {app: {allow: [/v1/status], deny: [/v1/key/create/x*], identities: [USER]}}\n"
    )

    def check(self, running: Running, plain: bool) -> None:
        """
        Run them all.

        :param plain: It is an original server.
        """
        ours = self.ours
        self.assertEqual(ours(running, "key", "create", "a", "b", "my-key"), "")
        refusal = 'Error: failed to create key "a": key already exists\n'
        self.assertEqual(ours(running, "key", "create", "a", code=1), refusal)
        self.assertEqual(self.kes(running, "key", "create", "a", code=1), refusal)
        secret = b64encode(bytes(range(32))).decode()
        ours(running, "key", "import", "typed", typed=f"{secret}\n")
        ours(running, "key", "import", "given", secret)
        told = ours(running, "key", "info", "a")
        self.assertRegex(
            told, rf"^Name +a\nAlgorithm +AES256\nDate +2.*\nOwner +{self.admin.identity}\n"
        )
        self.assertEqual("Fingerprint" in told, not plain)
        self.assertEqual(json.loads(ours(running, "key", "info", "a", "--json"))["name"], "a")
        names = ["a", "b", "given", "my-key", "typed"]
        self.assertEqual(ours(running, "key", "ls"), "\n".join(["Key", *names, ""]))
        self.assertEqual(json.loads(ours(running, "ls", "--json")), names)
        self.assertEqual(json.loads(ours(running, "ls", "--json", "my-*")), ["my-key"])
        self.assertEqual(ours(running, "ls", "nothing"), "")
        sealed = json.loads(ours(running, "key", "encrypt", "typed", "hello"))["ciphertext"]
        opened = json.loads(ours(running, "key", "decrypt", "given", sealed))
        self.assertEqual(opened, {"plaintext": b64encode(b"hello").decode()})
        sealed = json.loads(ours(running, "key", "encrypt", "a", typed="a line"))["ciphertext"]
        theirs = json.loads(self.kes(running, "key", "decrypt", "a", sealed))["plaintext"]
        self.assertEqual(theirs, b64encode(b"a line").decode())
        made = json.loads(ours(running, "key", "dek", "a", "Y29u"))
        opened = json.loads(ours(running, "key", "decrypt", "a", made["ciphertext"], "Y29u"))
        self.assertEqual(opened["plaintext"], made["plaintext"])
        self.assertIn(
            "not authentic", ours(running, "key", "decrypt", "a", made["ciphertext"], code=1)
        )
        self.assertIn("give --force", ours(running, "key", "rm", "a", code=1))
        ours(running, "key", "rm", "a", "b", "--force")
        self.assertIn("key does not exist", ours(running, "key", "rm", "a", "-f", code=1))
        self.assertRegex(ours(running, "identity", "info"), r"Role +Admin\n")
        self.assertIn(self.user.identity, ours(running, "identity", "ls"))
        self.assertRegex(ours(running, "identity", "info", self.user.identity), r"Policy +app\n")
        self.assertEqual(ours(running, "policy", "ls"), "Policy\napp\n")
        self.assertRegex(ours(running, "policy", "info", "app"), r"^Name +app\nDate +2")
        told = json.loads(ours(running, "policy", "show", "app"))
        self.assertEqual(
            (told["allow"], list(told["deny"])), ({"/v1/status": {}}, ["/v1/key/create/x*"])
        )
        self.assertRegex(ours(running, "status"), r"(?s)Version .*Uptime .*Keystore +answers in")
        self.assertIn("/v1/key/hmac/", ours(running, "status", "--api"))
        self.assertEqual(ours(running, "status", "-s"), f"● 127.0.0.1:{running.port}\n")
        numbers = json.loads(ours(running, "metric", "--once"))
        theirs = json.loads(self.first_line(running, "metric", "--rate", "1s"))
        # What the Go program has of its own system is not compared.
        self.assertLessEqual(
            {one for one in theirs if "_http_" in one}, {*numbers, "kes_http_request_failure"}
        )
        self.assertEqual(theirs["kes_http_request_success"], numbers["kes_http_request_success"])
        self.assertEqual(theirs["kes_http_response_time"], numbers["kes_http_response_time"])

    def first_line(self, running: Running, *arguments: str) -> bytes:
        """
        The first line that a command of the original prints, which goes on.
        """
        process = subprocess.Popen(
            [str(tools.require("kes")), *arguments],
            env=self.environment(running),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            return process.stdout.readline()
        finally:
            process.kill()
            process.communicate()

    def test_ours(self) -> None:
        """
        With our server.
        """
        self.check(self.start(more=self._POLICY.replace("USER", self.user.identity)), False)

    def test_original(self) -> None:
        """
        With the original server.
        """
        policy = self._POLICY.replace("USER", self.user.identity)
        self.check(self.start((str(tools.require("kes")), "server"), policy), True)


class WhomToAskTests(CommandCase):
    """
    Whom a command asks, and as whom.
    """

    def test_api_key(self) -> None:
        """
        An API key is taken from the environment, or from an option, which comes first.
        """
        key = APIKey.generate(os.urandom)
        self.admin.identity = key.identity
        running = self.start()
        environment = {
            **base_environment(),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "MINIO_KES_SERVER": f"https://127.0.0.1:{tools.free_port()},localhost:{running.port}",
            "MINIO_KES_API_KEY": key.text,
            "MINIO_KMS_KES_CAPATH": str(self.server.cert),
        }
        # The second of two servers is asked when the first is away; its name is not in its
        # certificate.
        self.assertIn(
            "its certificate is not for this host name", self.run_with(environment, "ls", code=1)
        )
        self.assertEqual(self.run_with(environment, "ls", "-k"), "")
        here = ("-s", f"127.0.0.1:{running.port}")
        self.assertEqual(self.run_with(environment, "ls", *here), "")
        del environment["MINIO_KMS_KES_CAPATH"]
        self.assertIn("--ca", self.run_with(environment, "ls", *here, code=1))
        self.assertEqual(self.run_with(environment, "ls", *here, "--ca", str(self.server.cert)), "")
        other = APIKey.generate(os.urandom)
        refusal = self.run_with(environment, "ls", *here, "-k", "-a", other.text, code=1)
        self.assertIn("not authorized: insufficient permissions", refusal)
        secret = self.run_with(environment, "ls", *here, "-a", key.text[:-1], code=1)
        self.assertIn("the API key is none", secret)
        self.assertNotIn(key.text[10:40], secret)

    def test_mistakes(self) -> None:
        """
        What is missing, and what contradicts itself, is told.
        """
        bare = {**base_environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
        self.assertIn("set MINIO_KES_API_KEY, or", self.run_with(bare, "status", code=1))
        both = {**bare, "KES_API_KEY": "kes:v1:", "KES_CLIENT_KEY": "a", "KES_CLIENT_CERT": "b"}
        self.assertIn("unset one", self.run_with(both, "status", code=1))
        del both["KES_API_KEY"]
        self.assertIn("a: No such file", self.run_with(both, "status", code=1))
        self.assertIn("is no server", self.run_with(bare, "status", "--server", "a b", code=1))
        nobody = {
            **bare,
            "KES_API_KEY": APIKey.generate(os.urandom).text,
            "KES_SERVER": f"127.0.0.1:{tools.free_port()}",
        }
        self.assertIn("it refuses connections", self.run_with(nobody, "status", code=1))

    def test_terminal(self) -> None:
        """
        On a terminal a key is deleted only when its name is typed, and secrets are told with
        their names.
        """
        running = self.start()
        self.ours(running, "key", "create", "k")
        for typed, code, left in (("other", 1, ["k"]), ("k", 0, [])):
            shown = self.on_terminal(running, f"{typed}\n", code, "key", "rm", "k")
            self.assertIn("kypello kms usage k", shown)
            self.assertEqual(json.loads(self.ours(running, "ls", "--json")), left)
        self.ours(running, "key", "create", "k")
        self.assertRegex(
            self.on_terminal(running, "", 0, "key", "dek", "k"),
            r"(?s)plaintext: \S{44}\r\nciphertext: \S+\r\n",
        )

    def test_needs(self) -> None:
        """
        An object server is asked what needs a key before that is deleted, and its answer is told;
        without one nothing is deleted.
        """
        key = APIKey.generate(os.urandom)
        self.admin.identity = key.identity
        running = self.start()
        objects = ServerProcess(
            self.folder / "data",
            {
                "MINIO_KMS_KES_ENDPOINT": f"https://127.0.0.1:{running.port}",
                "MINIO_KMS_KES_KEY_NAME": "my-key",
                "MINIO_KMS_KES_API_KEY": key.text,
                "MINIO_KMS_KES_CAPATH": str(self.server.cert),
                "MINIO_KMS_AUTO_ENCRYPTION": "on",
            },
        )
        objects.start()
        self.addCleanup(objects.stop)
        client = boto3_client(objects)
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="first", Body=b"one")
        environment = {
            **base_environment(),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "KES_SERVER": f"127.0.0.1:{running.port}",
            "KES_API_KEY": key.text,
            "MINIO_KMS_KES_CAPATH": str(self.server.cert),
            "KYPELLO_ROOT_USER": ACCESS_KEY,
            "KYPELLO_ROOT_PASSWORD": SECRET_KEY,
        }
        ask = ("key", "rm", "my-key", "--objects", objects.endpoint)
        shown = self.shown(environment, "no\n", 1, *ask)
        self.assertIn("my-key: 1 objects, 1 versions", shown)
        self.assertIn("my-key was not deleted", shown)
        nowhere = f"http://127.0.0.1:{tools.free_port()}"
        told = self.run_with(environment, *ask[:-1], nowhere, "--force", code=1)
        self.assertIn("what needs the keys is not known", told)
        self.run_with(environment, "key", "create", "unused")
        unused = ("key", "rm", "unused", "-f", "--objects", objects.endpoint)
        self.assertIn("unused", self.run_with(environment, *unused))
        self.assertEqual(self.run_with(environment, "ls", "--json"), '["my-key"]\n')

    def on_terminal(self, running: Running, typed: str, code: int, *arguments: str) -> str:
        """
        Run one of our commands on a terminal, as the administrator.
        """
        return self.shown(self.environment(running), typed, code, *arguments)

    def shown(self, environment: Mapping[str, str], typed: str, code: int, *arguments: str) -> str:
        """
        What one of our commands shows on a terminal.
        """
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*KYPELLO_KES, *arguments],
            env={**environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
                if typed and b"Type " in shown:
                    os.write(ours, typed.encode())
                    typed = ""
        except OSError:
            pass  # Linux tells the end of a terminal so.
        os.close(ours)
        self.assertEqual(process.wait(30), code, shown)
        return shown.decode()


class LogTests(CommandCase):
    """
    The logs of a server.
    """

    def test_follow(self) -> None:
        """
        The audit log and the error log are told while they are written, until somebody ends that.
        """
        running = self.start()
        self.check_followed(running, "--audit", "create", '"path":"/v1/key/create/k"')
        self.keys.rename(self.folder / "away")
        self.check_followed(running, "--error", "info", '{"message": "failed to read key')

    def check_followed(self, running: Running, option: str, call: str, words: str) -> None:
        """
        Follow a log until it has certain words, and end that.
        """
        printed = self.folder / option
        with printed.open("wb") as output:
            process = subprocess.Popen(
                [*KYPELLO_KES, "log", option],
                env=self.environment(running),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            # When the log is followed is not told: something is asked until it is in there.
            wait_until(lambda: words in self.prodded(running, call, printed))
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(30), 0, printed.read_text())
        finally:
            process.kill()
            process.wait()

    def prodded(self, running: Running, call: str, printed: Path) -> str:
        """
        What was printed, after one more call, whatever became of that.
        """
        subprocess.run(
            [*KYPELLO_KES, "key", call, "k"],
            env=self.environment(running),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return printed.read_text()

    def test_chain(self) -> None:
        """
        Every request is in the chained file: of a server that was killed and started again,
        across rotation; and whatever is changed in it is found.
        """
        log = self.folder / "audit.log"
        more = f"log: {{audit: off}}\nkypello: {{audit: {{file: {log}}}}}\n"
        first = self.start(more=more)
        self.ours(first, "key", "create", "k")
        first.process.kill()
        first.process.wait()
        with log.open("ab") as file:
            file.write(b'{"time":"2026')
        second = self.start(more=more)
        self.ours(second, "key", "info", "k")
        rotated = self.folder / "audit.log.1"
        log.rename(rotated)
        second.process.send_signal(signal.SIGHUP)
        wait_until(log.exists)
        self.ours(second, "ls")
        self.assertEqual(second.end(), 0)
        records = [
            json.loads(line)
            for file in (rotated, log)
            for line in file.read_text().splitlines()
            if "chain" in line
        ]
        self.assertEqual([one["chain"]["seq"] for one in records], [1, 2, 3])
        self.assertEqual(records[1]["request"]["path"], "/v1/key/describe/k")
        self.assertEqual(records[2]["request"]["identity"], self.admin.identity)
        files = (str(log), str(rotated))
        told = self.run_with(self.environment(second), "log", "verify", *files)
        self.assertIn("note   " + f"{rotated}:2: is cut off", told)
        found = re.search(r"head is (3:[0-9a-f]{64})", told)
        assert found is not None
        self.assertIn(
            found.group(1).replace("3:", "3 records, the digest of the last is "),
            second.log.read_text(),
        )
        content = log.read_bytes()
        for changed, where in (
            (content.replace(b'"code":200', b'"code":404'), f"{log}:1: was changed"),
            (b"", "the end: records 3 to 3 are missing"),
        ):
            log.write_bytes(changed)
            told = self.run_with(self.environment(second), "log", "verify", *files, code=1)
            self.assertIn(f"BROKEN {where}", told)
        log.write_bytes(content)
        (self.folder / "audit.log.head").unlink()
        wrong = ("--head", "3:" + "0" * 64)
        told = self.run_with(
            self.environment(second), "log", "verify", *files, *wrong, "--json", code=1
        )
        summary = json.loads(told.splitlines()[-1])["summary"]
        self.assertEqual(summary["broken"], 1)

    def test_killed_under_load(self) -> None:
        """
        A server that is killed amid requests, again and again, leaves an unbroken chain; it lacks
        none that was answered but the last one of each client.
        """
        log = self.folder / "audit.log"
        more = f"keys: [{{name: k}}]\nlog: {{audit: off}}\nkypello: {{audit: {{file: {log}}}}}\n"
        answered = [0] * 4
        for _ in range(3):
            running = self.start(more=more)
            before = sum(answered)
            threads = [
                threading.Thread(target=self.use, args=(running, answered, number))
                for number in range(len(answered))
            ]
            for thread in threads:
                thread.start()
            wait_until(lambda: sum(answered) > before + 40)  # noqa: B023  # it ends before
            running.process.kill()
            running.process.wait()
            for thread in threads:
                thread.join()
        told = self.run_with(self.environment(running), "log", "verify", str(log), "--json")
        reached = json.loads(told.splitlines()[-1])["summary"]["head"]["seq"]
        self.assertGreaterEqual(reached, sum(answered) - 3 * len(answered))

    def use(self, running: Running, answered: list[int], number: int) -> None:
        """
        Make data keys until the server is gone.
        """
        context = ssl.create_default_context(cafile=str(self.server.cert))
        context.check_hostname = False
        context.load_cert_chain(self.admin.cert, self.admin.key)
        connection = HTTPSConnection("127.0.0.1", running.port, timeout=30, context=context)
        try:
            while True:
                connection.request("POST", "/v1/key/generate/k")
                if connection.getresponse().read():
                    answered[number] += 1
        except (OSError, HTTPException):
            connection.close()


class InitTests(CommandCase):
    """
    ``init`` makes a server that runs.
    """

    def check(self, *options: str) -> None:
        """
        Make one, follow what is printed, and use it with the original client as well.
        """
        port = tools.free_port()
        environment = {
            **base_environment(),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HOME": str(self.folder),
        }
        address = f"127.0.0.1:{port}"
        told = self.run_with(environment, "init", "made", "--address", address, *options)
        config = self.folder / "made" / "kes.yml"
        running = self.run_server((*OURS, "--config", str(config)), port)
        running.wait()
        variables = dict(re.findall(r"export (\w+)=(\S+)$", told, re.MULTILINE))
        admin, client = (
            (self.folder / "made" / name).read_text().strip()
            for name in ("admin.apikey", "client.apikey")
        )
        environment["MINIO_KES_SERVER"] = variables["MINIO_KES_SERVER"]
        environment["SSL_CERT_FILE"] = variables["MINIO_KMS_KES_CAPATH"]
        environment["MINIO_KES_API_KEY"] = admin
        self.assertEqual(self.run_with(environment, "ls"), "Key\nmy-key\n")
        self.assertIn("my-key", self.kes_with(environment, "ls"))
        environment["MINIO_KES_API_KEY"] = client
        self.assertIn("ciphertext", self.run_with(environment, "key", "dek", "my-key"))
        self.assertIn(
            "not authorized", self.run_with(environment, "key", "rm", "my-key", "-f", code=1)
        )
        self.assertEqual(running.end(), 0)
        before = {
            path: path.read_bytes() for path in (self.folder / "made").iterdir() if path.is_file()
        }
        self.assertIn(
            "already: nothing was written", self.run_with(environment, "init", "made", code=1)
        )
        for path, content in before.items():
            self.assertEqual(path.read_bytes(), content)
        for name in ("admin.apikey", "client.apikey", "server.key"):
            self.assertEqual((self.folder / "made" / name).stat().st_mode & 0o777, 0o600)

    def test_authority(self) -> None:
        """
        With an authority.
        """
        self.check()

    def test_self_signed(self) -> None:
        """
        With a certificate that is its own authority, and with keys under a passphrase.
        """
        (self.folder / "passphrase").write_text("opensesame\n")
        (self.folder / "passphrase").chmod(0o600)
        self.check("--self-signed", "--passphrase-file", "passphrase")
        self.assertNotIn(b"CgQ", (self.folder / "made" / "keys" / "my-key").read_bytes()[:8])

    def test_mistakes(self) -> None:
        """
        What cannot be is told, and nothing is written.
        """
        environment = {**base_environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
        for options, words in (
            (("--address", "localhost:7373"), "is no IP address"),
            (("--address", "127.0.0.1"), "has no port"),
            (("--key", "-"), "is no key name"),
            (("--expiry", "soon"), "must be a duration"),
            (("--passphrase-file", "none"), "there is no such file"),
        ):
            self.assertIn(words, self.run_with(environment, "init", "made", *options, code=1))
        self.assertFalse((self.folder / "made").exists())


class ServerOptionTests(CommandCase):
    """
    Options of ``server``.
    """

    def test_development(self) -> None:
        """
        ``--dev`` runs a server that the original client can use with what is printed, and leaves
        nothing behind.
        """
        port = tools.free_port()
        temporary = self.folder / "temporary"
        temporary.mkdir()
        command = (*OURS, "--dev", "--addr", f"127.0.0.1:{port}")
        running = self.run_server(("env", f"TMPDIR={temporary}", *command), port)
        running.wait()
        told = dict(re.findall(r"export (\w+)=(\S+)$", running.log.read_text(), re.MULTILINE))
        self.assertEqual(told["KES_SERVER"], f"127.0.0.1:{port}")
        environment = {**base_environment(), **told, "HOME": str(self.folder)}
        self.kes_with(environment, "key", "create", "my-key", "-k")
        self.assertIn("my-key", self.kes_with(environment, "ls", "-k"))
        self.assertEqual(len(list(temporary.iterdir())), 1)
        self.assertEqual(running.end(), 0)
        self.assertEqual(list(temporary.iterdir()), [])

    def test_address(self) -> None:
        """
        ``--addr`` counts instead of the address in the configuration, also when that is read again.
        """
        port, other = tools.free_port(), tools.free_port()
        config = self.folder / "kes.yml"
        config.write_text(
            f"address: 127.0.0.1:{other}\nadmin: {{identity: {self.admin.identity}}}\n"
            "tls: {key: server.key, cert: server.crt}\n"
            f"keystore: {{fs: {{path: {self.keys}}}}}\n"
        )
        running = self.run_server(
            (*OURS, "--config", str(config), "--addr", f":{port}", "--auth=off"), port
        )
        running.wait()
        self.assertIn("--auth has no effect", running.log.read_text())
        with config.open("a") as file:
            file.write("keys: [{name: later}]\n")
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "is in use" in running.log.read_text())
        self.assertIn("later", self.ours(running, "ls"))

    def test_mistakes(self) -> None:
        """
        What makes no server exits with 2.
        """
        environment = {**base_environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
        for options, words in (
            ((), "one of the arguments --config --dev is required"),
            (("--dev", "--config", "kes.yml"), "not allowed with argument"),
            (("--dev", "--addr", "localhost:7373"), "invalid address value"),
            (("--dev", "--addr", "127.0.0.1"), "invalid address value"),
        ):
            self.assertIn(words, self.run_with(environment, "server", *options, code=2))
