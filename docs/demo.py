# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
See for yourself: a stock client stores an object, and its bytes on disk are not what it sent.

``make demo`` runs it.  It starts a server of its own in a temporary folder, and leaves nothing
behind.  It exits with 0 if and only if everything was as it should be.
"""

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import boto3
from botocore.config import Config

_USER, _PASSWORD = "demo", "demo-secret-key"
_BUCKET, _KEY = "photos", "letter.txt"
_SENTENCE = b"The quick brown fox jumps over the lazy dog, in plain text. "
_SIZE = 1_000_000  # too much to lie in the index: there is a file of content
_WINDOW = 16  # bytes; no ciphertext has so many in common with its plaintext
_START = 30.0


class Broken(Exception):
    """
    Something is not as it should be; the text says what.
    """


def main() -> int:
    """
    Store, look, read back, and look on the disk.

    :return: The exit code.
    """
    folder = Path(tempfile.mkdtemp(prefix="kypello-demo-"))
    try:
        with server(folder) as endpoint:
            show(endpoint, folder / "data")
    except Broken as error:
        print(f"\nNOT as it should be: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\nEncrypted, and intact.")
    return 0


def show(endpoint: str, data: Path) -> None:
    """
    What the demonstration shows.

    :raises Broken: It is not so.
    """
    say("server", f"kypello server {data}, with its own key server, at {endpoint}")
    plaintext = (_SENTENCE * (_SIZE // len(_SENTENCE) + 1))[:_SIZE]
    s3 = client(endpoint)
    s3.create_bucket(Bucket=_BUCKET)
    s3.put_object(Bucket=_BUCKET, Key=_KEY, Body=plaintext, ServerSideEncryption="AES256")
    say("PUT", f"{_BUCKET}/{_KEY}, {len(plaintext):,} bytes, x-amz-server-side-encryption: AES256")
    say("", f"begins with  {printable(plaintext[:48])}")

    head = s3.head_object(Bucket=_BUCKET, Key=_KEY)
    encryption = head.get("ServerSideEncryption")
    say("HEAD", f"{head['ContentLength']:,} bytes, x-amz-server-side-encryption: {encryption}")
    if encryption != "AES256" or head["ContentLength"] != len(plaintext):
        raise Broken("HEAD does not tell of an encrypted object of this size")

    got = s3.get_object(Bucket=_BUCKET, Key=_KEY)["Body"].read()
    if got != plaintext:
        raise Broken("GET gives something else than PUT sent")
    say("GET", "comes back intact")

    files = [path for path in data.rglob("*") if path.is_file()]
    blob = max((data / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
    content = blob.read_bytes()
    if len(content) < len(plaintext):
        raise Broken("there is no file with the content")
    say("on disk", f"{blob.relative_to(data)}, {len(content):,} bytes")
    say("", f"amid it is   {printable(content[5000:5048])}")
    found = [path for path in files if discloses(path.read_bytes(), plaintext)]
    if found:
        raise Broken(f"plaintext lies on disk: {', '.join(map(str, found))}")
    say("", f"no {_WINDOW} bytes of the plaintext in any of the {len(files)} files")


def discloses(content: bytes, plaintext: bytes) -> bool:
    """
    Whether any piece of a repetitive plaintext is in a file.
    """
    period = plaintext[: len(_SENTENCE) + _WINDOW - 1]
    pieces = (period[start : start + _WINDOW] for start in range(len(_SENTENCE)))
    return any(piece in content for piece in pieces)


def client(endpoint: str) -> Any:
    """
    A stock client.
    """
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=_USER,
        aws_secret_access_key=_PASSWORD,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}),
    )


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """
    Run a server on a free port, and give its URL.

    :raises Broken: It does not start, or does not stop.
    """
    # Settings of whoever runs this must not matter.
    others = ("MINIO_", "KYPELLO_", "AWS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    environment |= {"MINIO_ROOT_USER": _USER, "MINIO_ROOT_PASSWORD": _PASSWORD}
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "kypello.cli", "server", "--address", address]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, str(folder / "data")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait(process, f"http://{address}/minio/health/ready", log)
        yield f"http://{address}"
        process.terminate()
        if process.wait(_START):
            raise Broken(f"the server does not stop well:\n{log.read_text(errors='replace')}")
    finally:
        process.kill()
        process.wait()


def wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """
    Wait until a server is ready.

    :raises Broken: It is not in time.
    """
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(URLError, OSError), urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise Broken(f"the server does not start:\n{log.read_text(errors='replace')}")


def free_port() -> int:
    """
    A port of loopback that nobody listens on.
    """
    for port in random.sample(range(20000, 32768), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise Broken("no port is free")


def printable(content: bytes) -> str:
    """
    Bytes as people see them in a dump.
    """
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in content)


def say(what: str, text: str) -> None:
    """
    One line for people.
    """
    print(f"{what:9}{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
