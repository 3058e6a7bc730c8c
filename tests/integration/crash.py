# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Clients that write without pause to a server that is killed, and know what it must hold.
"""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from attrs import define, field
from botocore.exceptions import BotoCoreError, ClientError

from kypello.store.layout import INLINE
from tests.integration.server import ServerProcess, base_environment
from tests.integration.test_clients import boto3_client

#: What a key may hold: a digest of its content and how many blobs that takes; ``None`` for
#: nothing.
State = tuple[str, int] | None

#: Sizes of content: in the index, in one blob, in several blocks.
SIZES = (0, 500, 5_000, 40_000, 80_000, 300_000, 3_000_000)

#: A part that is not the last one.
PART = 5 * 1024 * 1024

BUCKET = "crash"

#: What all chance comes from.
SEED = int(os.environ.get("KYPELLO_CRASH_SEED", "5"))

_WRITERS = 6


@define(eq=False)
class Writer:
    """
    One client with keys of its own.

    :ivar _client: Retries nothing.
    :ivar states: What each key may hold; one state when that is certain.
    :ivar uploads: Completions that were not acknowledged: key, id, parts and what the object
        will hold.
    :ivar acknowledged: How many changes were.
    :ivar wrong: What must not have happened.
    :ivar cut: The power is gone: nothing counts that is heard of the server from now on.
    """

    name: str
    _client: Any
    _chance: random.Random
    states: dict[str, set[State]] = field(factory=dict)
    uploads: dict[str, tuple[dict[str, str], list[dict[str, Any]], State]] = field(factory=dict)
    acknowledged: int = 0
    wrong: list[str] = field(factory=list)
    cut: bool = False

    def run(self, stopped: threading.Event) -> None:
        """
        Write until the end.
        """
        steps = (self.put, self.put, self.put, self.delete, self.copy, self.multipart)
        while not stopped.is_set():
            self._chance.choice(steps)()

    def put(self) -> None:
        """
        Store something, encrypted in one way or another, or not at all.
        """
        key, body = self._key(), self._content(self._chance.choice(SIZES))
        how: dict[str, str] = self._chance.choice(
            ({}, {"ServerSideEncryption": "AES256"}, {"ServerSideEncryption": "aws:kms"})
        )
        self._change(
            key,
            _state(body, int(len(body) > INLINE)),
            lambda: self._client.put_object(Bucket=BUCKET, Key=key, Body=body, **how),
        )

    def delete(self) -> None:
        """
        Remove something.
        """
        key = self._key()
        self._change(key, None, lambda: self._client.delete_object(Bucket=BUCKET, Key=key))

    def copy(self) -> None:
        """
        Copy something that certainly exists, and is not in parts.
        """
        known = [
            (key, state)
            for key, (state, *others) in self.states.items()
            if not others and state is not None and state[1] < 2
        ]
        if not known:
            return
        (source, state), key = self._chance.choice(known), self._key()
        if key != source:
            self._change(
                key,
                state,
                lambda: self._client.copy_object(
                    Bucket=BUCKET, Key=key, CopySource={"Bucket": BUCKET, "Key": source}
                ),
            )

    def multipart(self) -> None:
        """
        Upload in two parts, of which one is sent twice.
        """
        key, upload = self._key(), {"Bucket": BUCKET}
        bodies = [self._content(PART), self._content(self._chance.choice(SIZES[1:]))]
        parts: list[dict[str, Any]] = []
        upload["Key"] = key

        def prepare() -> None:
            """
            Do all but complete.
            """
            upload["UploadId"] = self._client.create_multipart_upload(**upload)["UploadId"]
            for number, body in ((1, bodies[1]), (1, bodies[0]), (2, bodies[1])):
                etag = self._client.upload_part(**upload, PartNumber=number, Body=body)["ETag"]
                parts[number - 1 :] = [{"PartNumber": number, "ETag": etag}]

        if not self._attempt(prepare):
            return
        # Two for the parts, and one that describes the object.
        state = _state(b"".join(bodies), 3)
        if not self._change(key, state, lambda: self._complete(upload, parts)):
            self.uploads[key] = (upload, parts, state)

    def check(self) -> None:
        """
        Compare what the server holds with what it may hold, and take it for certain.
        """
        for key, (upload, parts, state) in self.uploads.items():
            # Whether or not it was done: it can be repeated.
            try:
                self._complete(upload, parts)
                self.states[key] = {state}
            except ClientError as error:
                self.wrong.append(f"{key}: the completion cannot be repeated: {error}")
        self.uploads.clear()
        for key, states in self.states.items():
            found = self._read(key)
            blobs = {state[0]: state[1] for state in states if state is not None}
            state = None if found is None else (found, blobs.get(found, -1))
            if state not in states:
                self.wrong.append(f"{key} holds {state} and not one of {states}")
            self.states[key] = {state}

    def _read(self, key: str) -> str | None:
        try:
            answer = self._client.get_object(Bucket=BUCKET, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        return sha256(answer["Body"].read()).hexdigest()

    def _complete(self, upload: dict[str, str], parts: list[dict[str, Any]]) -> None:
        self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    def _change(self, key: str, state: State, work: Callable[[], object]) -> bool:
        before = self.states.get(key, {None})
        self.uploads.pop(key, None)
        self.states[key] = before | {state}
        if not self._attempt(work):
            return False
        self.states[key] = {state}
        self.acknowledged += 1
        return True

    def _attempt(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except BotoCoreError:
            # The connection was cut, or refused: it may have happened or not.
            return False
        except ClientError as error:
            if not self.cut:
                self.wrong.append(f"{self.name}: {error}")
            return False
        return not self.cut

    def _key(self) -> str:
        return f"{self.name}/{self._chance.randrange(12)}"

    def _content(self, size: int) -> bytes:
        block = self._chance.randbytes(min(size, 1000))
        return (block * (size // 1000 + 1))[:size]


def several_writers(server: ServerProcess) -> list[Writer]:
    """
    Clients that write at once, each over a connection of its own.
    """
    return [
        Writer(
            f"w{number}",
            boto3_client(server, max_pool_connections=1),
            random.Random(SEED * _WRITERS + number),
        )
        for number in range(_WRITERS)
    ]


def examine(server: ServerProcess) -> None:
    """
    Look at all that a server that is off has stored.

    :raises AssertionError: It is not sound.
    """
    checked = subprocess.run(
        [sys.executable, "-m", "kypello.cli", "store", "check", "--deep", str(server.directory)],
        env={**base_environment(), **server.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if checked.returncode:
        raise AssertionError(checked.stdout + checked.stderr)


def _state(content: bytes, blobs: int) -> State:
    return sha256(content).hexdigest(), blobs
