# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every client must be able to do; each client's class says how it does it.

The mixin stores files of 0 bytes, 1 KiB, 8 MiB and 40 MiB, lists them, reads them whole and in
part, copies one, synchronizes a folder twice and deletes everything; contents are compared by
SHA-256, and nothing that was to be encrypted is found on the server's disk.
"""

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from tests.integration.server import STATIC_KEY, ServerProcess
from tests.kes.certificates import certificate, key_pem, new_key, pem

KIB, MIB = 1024, 1024 * 1024

#: Sizes of the files: empty, small, one part, several parts.
SIZES = (0, KIB, 8 * MIB, 40 * MIB)

#: Begins every block of 4 KiB of a content, together with the kind of protection, so that it
#: can be found on a disk.
MARK = "PLAINTEXT-MARK-5d20-"

#: The name of the bucket of all stories.
BUCKET = "story-bucket"

#: How an object may be protected.
PLAIN, SSE_S3, SSE_C = "plain", "sse-s3", "sse-c"

#: The key of SSE-C.
CUSTOMER_KEY = bytes(range(32))


def content(size: int, kind: str) -> bytes:
    """
    Bytes that are random but for a mark at the start of every 4 KiB.
    """
    mark = (MARK + kind).encode()
    random = os.urandom(4096 - len(mark) - 8)
    blocks = (mark + number.to_bytes(8, "big") + random for number in range(size // 4096 + 1))
    return b"".join(blocks)[:size]


def digest(path: Path) -> str:
    """
    SHA-256 of a file, in hex.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ClientStory:
    """
    The story, a mixin for ``SyncCase``.  Subclasses say in *kinds* what their client can, and
    provide its commands, each of which fails the test when the client reports an error.

    :cvar kinds: Of :data:`PLAIN`, :data:`SSE_S3`, :data:`SSE_C`.
    :cvar secure: Whether the server speaks HTTPS; SSE-C then needs no setting.
    :cvar environment: Settings of the server.
    """

    # Those of trial's TestCase, which the subclass brings.
    addCleanup: Any
    assertEqual: Any
    assertTrue: Any
    fail: Any
    mktemp: Any

    kinds: ClassVar[tuple[str, ...]] = (PLAIN, SSE_S3)
    secure: ClassVar[bool] = False
    environment: ClassVar[dict[str, str]] = {
        "MINIO_KMS_SECRET_KEY": STATIC_KEY,
        "KYPELLO_API_SSE_C_OVER_LOOPBACK_HTTP": "on",
    }

    def setUp(self) -> None:
        """
        Start a server, and prepare the client.
        """
        self.work = Path(self.mktemp()).resolve()
        self.work.mkdir(parents=True)
        self.prepare()
        arguments: tuple[str, ...] = ()
        self.certificate = self.work / "certs" / "public.crt"
        if self.secure:
            key = new_key()
            self.certificate.parent.mkdir()
            self.certificate.with_name("private.key").write_bytes(key_pem(key))
            self.certificate.write_bytes(pem(certificate(key)))
            arguments = ("--certs-dir", str(self.certificate.parent))
        self.server = ServerProcess(
            self.work / "data", self.environment, arguments, "https" if self.secure else "http"
        )
        self.server.start()
        self.addCleanup(self.server.stop)
        self.connect()

    # What a client provides

    def prepare(self) -> None:
        """
        Find the client, or skip the test by naming it (``tools.missing``).
        """

    def connect(self) -> None:
        """
        Configure the client for ``self.server``.
        """

    def make_bucket(self) -> None:
        """
        Make :data:`BUCKET`.
        """
        raise NotImplementedError

    def remove_bucket(self) -> None:
        """
        Remove :data:`BUCKET`, which is empty.
        """
        raise NotImplementedError

    def put(self, source: Path, key: str, kind: str) -> None:
        """
        Store a file under a key, protected as *kind* says.
        """
        raise NotImplementedError

    def get(self, key: str, target: Path, kind: str) -> None:
        """
        Read an object into a file.
        """
        raise NotImplementedError

    def get_range(self, key: str, first: int, last: int, kind: str) -> bytes | None:
        """
        Read the bytes from *first* to *last*, both included; ``None`` when the client cannot.
        """
        return None

    def keys(self, prefix: str) -> dict[str, int]:
        """
        The keys that begin so, with their sizes.
        """
        raise NotImplementedError

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy an object within the bucket on the server; ``False`` when the client cannot.
        """
        return False

    def sync(self, folder: Path, prefix: str, kind: str) -> bool:
        """
        Make the keys under a prefix the same as the files of a folder; ``False`` when the
        client cannot.
        """
        return False

    def fetch(self, prefix: str, folder: Path, kind: str) -> bool:
        """
        Read all keys under a prefix into a folder; ``False`` when the client reads only one
        after the other.
        """
        return False

    def delete(self, keys: list[str]) -> None:
        """
        Remove objects.
        """
        raise NotImplementedError

    # The story

    def test_story(self) -> None:
        """
        Everything that people do every day works, with each kind of encryption.
        """
        self.make_bucket()
        for kind in self.kinds:
            self.live(kind)
        self.assertEqual(self.keys(""), {})
        self.remove_bucket()

    def live(self, kind: str) -> None:
        """
        Go through the story once.
        """
        sources: dict[str, Path] = {}
        for size in SIZES:
            path = self.work / f"{kind}-{size}"
            path.write_bytes(content(size, kind))
            sources[f"{kind}/file {size}.bin"] = path
        for key, path in sources.items():
            self.put(path, key, kind)
        sizes = {key: path.stat().st_size for key, path in sources.items()}
        self.assertEqual(self.keys(f"{kind}/"), sizes)
        for key, path in sources.items():
            self.same(key, path, kind)
        largest = f"{kind}/file {SIZES[-1]}.bin"
        self.ranges(largest, sources[largest], kind)
        copied = f"{kind}/copy"
        if self.copy(largest, copied, kind):
            self.same(copied, sources[largest], kind)
            sizes[copied] = SIZES[-1]
        self.synchronize(kind)
        if kind != PLAIN:
            self.nothing_in_clear(kind)
        self.delete(list(sizes))
        self.assertEqual(self.keys(f"{kind}/"), {})

    def same(self, key: str, source: Path, kind: str) -> None:
        """
        See that an object is what a file is.
        """
        target = self.work / "target"
        target.unlink(missing_ok=True)
        self.get(key, target, kind)
        self.assertEqual(digest(target), digest(source), key)

    def ranges(self, key: str, source: Path, kind: str) -> None:
        """
        See that ranges across packages and parts are what a file holds there.
        """
        whole = source.read_bytes()
        for first, last in ((0, 0), (65530, 65545), (5 * MIB - 10, 8 * MIB + 10)):
            found = self.get_range(key, first, last, kind)
            if found is not None:
                self.assertEqual(found, whole[first : last + 1])

    def synchronize(self, kind: str) -> None:
        """
        Synchronize a folder twice, with a change in between.
        """
        folder = self.work / f"folder-{kind}"
        (folder / "deep" / "er").mkdir(parents=True)
        for name, size in (("a", 1000), ("empty", 0), ("deep/b", 70_000), ("deep/er/c", 1)):
            (folder / name).write_bytes(content(size, kind))
        prefix = f"{kind}-sync/"
        if not self.sync(folder, prefix, kind):
            return
        for _ in range(2):
            files = {
                path.relative_to(folder).as_posix(): path
                for path in folder.rglob("*")
                if path.is_file()
            }
            wanted = {prefix + name: path.stat().st_size for name, path in files.items()}
            self.assertEqual(self.keys(prefix), wanted)
            back = self.work / "back"
            shutil.rmtree(back, ignore_errors=True)
            if self.fetch(prefix, back, kind):
                for name, path in files.items():
                    self.assertEqual(digest(back / name), digest(path), name)
            else:
                for name, path in files.items():
                    self.same(prefix + name, path, kind)
            (folder / "a").write_bytes(content(2000, kind))
            (folder / "new").write_bytes(b"new")
            self.assertTrue(self.sync(folder, prefix, kind))
        self.delete(list(self.keys(prefix)))

    def nothing_in_clear(self, kind: str) -> None:
        """
        See that what was to be encrypted is nowhere on the disk.
        """
        for path in (self.work / "data").rglob("*"):
            # What was overwritten may vanish at any time.
            with suppress(FileNotFoundError):
                if path.is_file() and (MARK + kind).encode() in path.read_bytes():
                    self.fail(f"{path} holds plaintext")
