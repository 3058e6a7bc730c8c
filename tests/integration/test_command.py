# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello server``, ``twistd kypello`` and the ``.tac`` file as processes: how they start, what
they print, how they stop.
"""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.cases import SyncCase
from tests.integration.server import (
    ACCESS_KEY,
    SECRET_KEY,
    STATIC_KEY,
    ServerProcess,
    base_environment,
)
from tests.integration.test_clients import boto3_client
from tests.integration.tools import free_port
from tests.kes.certificates import certificate, key_pem, new_key, pem

_ROOT = Path(__file__).parents[2]
_WAIT = 20.0


class CommandCase(SyncCase):
    """
    A test with a folder, and processes that end with it.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)

    def spawn(self, *command: str, **environment: str) -> "subprocess.Popen[str]":
        """
        Start a process whose output can be read.
        """
        process = subprocess.Popen(
            command,
            cwd=self.work,
            env={**base_environment(), "HOME": str(self.work), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: "subprocess.Popen[str]") -> None:
        """
        Kill it if it runs, and release it.
        """
        process.kill()
        process.communicate()

    def serve(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """
        Start ``kypello server``.
        """
        return self.spawn(sys.executable, "-m", "kypello.cli", "server", *arguments, **environment)

    def refused(self, *arguments: str, **environment: str) -> str:
        """
        What ``kypello server`` prints when it does not start.
        """
        out, err = self.serve(*arguments, **environment).communicate(timeout=_WAIT)
        self.assertEqual(out, "")
        self.assertNotIn("Traceback", err)
        return err

    def await_live(self, port: int) -> None:
        """
        Wait until a server answers.
        """
        deadline = time.monotonic() + _WAIT
        while time.monotonic() < deadline:
            try:
                with urlopen(f"http://127.0.0.1:{port}/minio/health/live", timeout=5):
                    return
            except OSError:
                time.sleep(0.05)
        self.fail("no answer")

    def await_banner(self, process: "subprocess.Popen[str]") -> str:
        """
        Read what a server prints until it tells that it has started.
        """
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "boto3.client(" in line:
                break
        return "".join(printed)

    def stop(self, process: "subprocess.Popen[str]") -> tuple[str, str]:
        """
        Ask a process to stop, see that it does without complaint, and give what it printed.
        """
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=_WAIT)
        # twistd ends by the signal that it was sent, when all is done.
        self.assertIn(process.returncode, (0, -signal.SIGTERM), err)
        self.assertNotIn("Traceback", err)
        return out, err


class StartTests(CommandCase):
    """
    How ``kypello server`` starts.
    """

    def test_first_start(self) -> None:
        """
        The first start makes credentials and prints them once; later ones do not show the
        secret, which is in no log either.
        """
        data, port = self.work / "data", free_port()
        printed = []
        for _ in range(2):
            process = self.serve("--address", f"127.0.0.1:{port}", str(data))
            banner = self.await_banner(process)
            out, err = self.stop(process)
            printed.append((banner + out, err))
        secret = re.findall("PASSWORD=(.*)", (data / "credentials").read_text())[0]
        self.assertEqual([out.count(secret) for out, _ in printed], [4, 0])
        for out, err in printed:
            self.assertNotIn(secret, err)
            self.assertIn(f"http://127.0.0.1:{port}", out)
            self.assertRegex(out, "fingerprint [0-9a-f]{4}-")
        fingerprints = {re.findall("fingerprint (.*)", out)[0] for out, _ in printed}
        self.assertEqual(len(fingerprints), 1)

    def test_mistakes(self) -> None:
        """
        All mistakes are printed together, in plain words, with exit code 1.
        """
        err = self.refused(
            "--address", "x", "a", "b", MINIO_ROOT_USER="admin", MINIO_KMS_SECRET_KEY="nonsense"
        )
        self.assertEqual(err.count("Error: "), 4)
        self.assertNotIn("nonsense", err)
        self.assertEqual(os.listdir(self.work), [])

    def test_in_use(self) -> None:
        """
        A second server on one directory is refused.
        """
        server = ServerProcess(self.work / "data", {"MINIO_KMS_SECRET_KEY": STATIC_KEY})
        server.start()
        self.addCleanup(server.stop)
        err = self.refused("--address", "127.0.0.1:0", str(self.work / "data"))
        self.assertIn(f"in use by another server (process {server.pid})", err)

    def test_port_taken(self) -> None:
        """
        A port that is taken is told, with what to do.
        """
        with socket.create_server(("127.0.0.1", free_port())) as taken:
            port = taken.getsockname()[1]
            process = self.serve(
                *("--address", f"127.0.0.1:{port}", str(self.work / "data")),
                MINIO_KMS_SECRET_KEY=STATIC_KEY,
            )
            _, err = process.communicate(timeout=_WAIT)
        self.assertEqual(process.returncode, 1)
        self.assertIn(f"cannot listen on 127.0.0.1:{port}", err)
        self.assertNotIn("Traceback", err)

    def test_no_such_address(self) -> None:
        """
        An address of another machine is told to be one.
        """
        process = self.serve(
            *("--address", f"192.0.2.1:{free_port()}", str(self.work / "data")),
            MINIO_KMS_SECRET_KEY=STATIC_KEY,
        )
        _, err = process.communicate(timeout=_WAIT)
        self.assertEqual(process.returncode, 1)
        self.assertIn("This machine has no such address", err)

    def test_directory(self) -> None:
        """
        A data directory that cannot be made is told by name, with the reason and the part of the
        path that is to blame.
        """
        (self.work / "file").touch()
        directory = self.work / "file" / "data"
        err = self.refused("--address", "127.0.0.1:0", str(directory))
        self.assertIn(f"Error: {directory} cannot be used as data directory: Not a directory", err)

    def test_incomplete(self) -> None:
        """
        Who says too little is told what there is to say.
        """
        for words in ((), ("kms",), ("kes",), ("encrypt",), ("store",), ("user",)):
            process = self.spawn(sys.executable, "-m", "kypello.cli", *words)
            out, _ = process.communicate(timeout=_WAIT)
            self.assertEqual(process.returncode, 2, words)
            self.assertIn("-h, --help", out, words)
            if words == ("kms",):
                self.assertIn("doctor ", out)

    def test_help(self) -> None:
        """
        The help teaches by example, and names the settings.
        """
        process = self.serve("--help")
        out, _ = process.communicate(timeout=_WAIT)
        self.assertEqual(process.returncode, 0)
        for part in ("Examples:", "--address", "MINIO_KMS_KES_ENDPOINT", "MINIO_ROOT_USER"):
            self.assertIn(part, out)

    def test_settings_file(self) -> None:
        """
        Everything may come from a file, under our names too.
        """
        port = free_port()
        (self.work / "env").write_text(
            f"KYPELLO_ROOT_USER={ACCESS_KEY}\nexport MINIO_ROOT_PASSWORD='{SECRET_KEY}'\n"
            f"KYPELLO_VOLUMES=data\nMINIO_ADDRESS=127.0.0.1:{port}\n"
            f"KYPELLO_KMS_SECRET_KEY={STATIC_KEY}\n"
        )
        process = self.serve(MINIO_CONFIG_ENV_FILE="env")
        self.await_live(port)
        self.stop(process)
        self.assertTrue((self.work / "data" / "format").exists())


class StopTests(CommandCase):
    """
    How a server stops.
    """

    def test_finishes(self) -> None:
        """
        A request that is under way at SIGTERM is finished, and acknowledged content is there.
        """
        server = ServerProcess(self.work / "data", {"MINIO_KMS_SECRET_KEY": STATIC_KEY})
        server.start()
        s3 = boto3_client(server)
        s3.create_bucket(Bucket="bucket")
        size = 20 * 1024 * 1024
        url = s3.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": "k"})
        target = url.removeprefix(server.endpoint)
        with socket.create_connection(("127.0.0.1", server.port), _WAIT) as connection:
            connection.sendall(
                f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                f"Content-Length: {size}\r\n\r\n".encode()
            )
            connection.sendall(bytes(size // 2))
            time.sleep(0.3)
            os.kill(server.pid, signal.SIGTERM)
            time.sleep(0.3)
            with self.assertRaises(OSError):
                socket.create_connection(("127.0.0.1", server.port), 1)
            connection.sendall(bytes(size - size // 2))
            answer = connection.recv(65536)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
        self.assertEqual(server.stop(), 0)
        server.start()
        self.addCleanup(server.stop)
        self.assertEqual(s3.head_object(Bucket="bucket", Key="k")["ContentLength"], size)

    def test_hangup(self) -> None:
        """
        SIGHUP does not end it.
        """
        server = ServerProcess(self.work / "data", {"MINIO_KMS_SECRET_KEY": STATIC_KEY})
        server.start()
        self.addCleanup(server.stop)
        os.kill(server.pid, signal.SIGHUP)
        time.sleep(0.3)
        self.assertEqual(server.health("live"), 200)


class TwistdTests(CommandCase):
    """
    The server under twistd.
    """

    def twistd(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """
        Start twistd in the foreground.
        """
        command = [sys.executable, "-m", "twisted", *arguments]
        twistd = Path(sys.executable).with_name("twistd")
        if twistd.exists():
            command = [str(twistd), "--pidfile", "", *arguments]
        return self.spawn(*command, **environment)

    def test_plugin(self) -> None:
        """
        ``twistd -n kypello`` serves, logs no secret, and stops at SIGTERM.
        """
        port = free_port()
        process = self.twistd("-n", "kypello", "--address", f"127.0.0.1:{port}", "data")
        banner = self.await_banner(process)
        out, err = self.stop(process)
        out = banner + out
        credentials = (self.work / "data" / "credentials").read_text()
        secret = re.findall("PASSWORD=(.*)", credentials)[0]
        self.assertNotIn(secret, out + err)
        self.assertIn("fingerprint", out)

    def test_tac(self) -> None:
        """
        ``twistd -ny etc/kypello.tac`` serves what the environment describes.
        """
        port = free_port()
        process = self.twistd(
            *("-n", "-y", str(_ROOT / "etc" / "kypello.tac")),
            MINIO_VOLUMES="data",
            MINIO_ADDRESS=f"127.0.0.1:{port}",
            MINIO_KMS_SECRET_KEY=STATIC_KEY,
        )
        self.await_live(port)
        self.stop(process)

    def test_mistakes(self) -> None:
        """
        Mistakes are usage errors without traceback.
        """
        process = self.twistd("-n", "kypello", "a", "b")
        out, err = process.communicate(timeout=_WAIT)
        self.assertEqual(process.returncode, 1)
        self.assertIn("keeps its data in one", out + err)
        self.assertNotIn("Traceback", out + err)


class HTTPSTests(CommandCase):
    """
    A server with certificates.
    """

    def server(self) -> ServerProcess:
        """
        A server whose certificates directory has a key pair.
        """
        key = new_key()
        certs = self.work / "certs"
        certs.mkdir()
        (certs / "private.key").write_bytes(key_pem(key))
        (certs / "public.crt").write_bytes(pem(certificate(key)))
        server = ServerProcess(
            self.work / "data",
            {"MINIO_KMS_SECRET_KEY": STATIC_KEY},
            ("--certs-dir", str(certs)),
            "https",
        )
        server.start()
        self.addCleanup(server.stop)
        return server

    def test_objects(self) -> None:
        """
        boto3 stores and reads over HTTPS, checking the certificate.
        """
        server = self.server()
        s3 = boto3_client(server, verify=str(self.work / "certs" / "public.crt"))
        s3.create_bucket(Bucket="bucket")
        content = os.urandom(3_000_000)
        s3.put_object(Bucket="bucket", Key="k", Body=content, ServerSideEncryption="AES256")
        self.assertEqual(s3.get_object(Bucket="bucket", Key="k")["Body"].read(), content)

    def test_stop(self) -> None:
        """
        An idle client does not keep the server from stopping.
        """
        server = self.server()
        context = ssl.create_default_context(cafile=str(self.work / "certs" / "public.crt"))
        raw = socket.create_connection(("127.0.0.1", server.port), _WAIT)
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
            connection.sendall(b"GET /minio/health/live HTTP/1.1\r\nHost: kypello\r\n\r\n")
            self.assertTrue(connection.recv(4096).startswith(b"HTTP/1.1 200 "))
            # Less than the time that a request under way would get.
            self.assertEqual(server.stop(), 0)

    def test_versions(self) -> None:
        """
        TLS before 1.2 is refused.
        """
        server = self.server()
        context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        for version, works in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
            context.maximum_version = version
            with socket.create_connection(("127.0.0.1", server.port), _WAIT) as connection:
                if works:
                    context.wrap_socket(connection).close()
                else:
                    with self.assertRaises((ssl.SSLError, OSError)):
                        context.wrap_socket(connection)
