# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.seal``.
"""

from base64 import b64decode, b64encode

from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kypello.errors import KeyStoreFailed
from kypello.keystore.seal import Cost, Sealer, WrongPassphrase, is_sealed
from tests.cases import SyncCase
from tests.keystore.test_fs import Counted

#: Enough for tests.
QUICK = Cost(64, 1, 1)


def sealer(passphrase: bytes = b"opensesame") -> Sealer:
    """
    One whose randomness is known.
    """
    return Sealer(passphrase, Counted(), QUICK)


class SealerTests(SyncCase):
    """
    ``Sealer`` seals values and opens them.
    """

    def test_open(self) -> None:
        """
        What was sealed is opened by another with the passphrase.
        """
        for value in (b"", b"value", bytes(range(256)) * 100):
            sealed = sealer().seal("name", value)
            self.assertTrue(is_sealed(sealed))
            self.assertEqual(sealer().open("name", sealed), value)

    def test_layout(self) -> None:
        """
        The layout is the documented one, as other libraries compute it.
        """
        sealed = sealer().seal("name", b"value").decode()
        front, _, last = sealed.rpartition(":")
        *start, memory, iterations, lanes, salt, check = front.split(":")
        self.assertEqual(start, ["kypello-sealed", "v1", "argon2id"])
        derived = hash_secret_raw(
            b"opensesame",
            b64decode(salt),
            time_cost=int(iterations),
            memory_cost=int(memory),
            parallelism=int(lanes),
            hash_len=48,
            type=Type.ID,
        )
        self.assertEqual(b64decode(check), derived[32:])
        content = b64decode(last)
        opened = AESGCM(derived[:32]).decrypt(content[:12], content[12:], f"{front}:name".encode())
        self.assertEqual(opened, b"value")

    def test_passphrase(self) -> None:
        """
        Another passphrase is told as such.
        """
        with self.assertRaises(WrongPassphrase):
            sealer(b"opensesam").open("name", sealer().seal("name", b"value"))

    def test_name(self) -> None:
        """
        A value does not pass for that of another name.
        """
        with self.assertRaises(KeyStoreFailed) as caught:
            sealer().open("other", sealer().seal("name", b"value"))
        self.assertNotIsInstance(caught.exception, WrongPassphrase)

    def test_every_byte(self) -> None:
        """
        A value that is changed anywhere, or cut off anywhere, is refused.
        """
        sealed = sealer().seal("name", b"value")
        opener = sealer()
        for place in range(len(sealed)):
            changed = bytearray(sealed)
            changed[place] ^= 1
            for damaged in (bytes(changed), sealed[:place]):
                with self.assertRaises(KeyStoreFailed):
                    opener.open("name", damaged)

    def test_costs(self) -> None:
        """
        What would take too much memory or time is refused before it is tried.
        """
        front, salt, check, last = sealer().seal("name", b"value").decode().rsplit(":", 3)
        magic = front.rsplit(":", 3)[0]
        for cost in ("4194304:1:1", "64:1000:1", "64:1:9", "0:1:1", "64:0:1", "64:1:0", "-64:1:1"):
            with self.assertRaises(KeyStoreFailed):
                sealer().open("name", f"{magic}:{cost}:{salt}:{check}:{last}".encode())
        short = b64encode(b"short").decode()
        with self.assertRaises(KeyStoreFailed):
            sealer().open("name", f"{front}:{short}:{check}:{last}".encode())

    def test_one_salt(self) -> None:
        """
        The costly step is taken once for values that are sealed after one was opened; no two
        sealed values are the same.
        """
        first = sealer().seal("a", b"value")
        other = Sealer(b"opensesame", Counted(100), QUICK)
        other.open("a", first)
        second = other.seal("a", b"value")
        self.assertEqual(first.rpartition(b":")[0], second.rpartition(b":")[0])
        self.assertNotEqual(first, second)

    def test_no_secrets(self) -> None:
        """
        The text form tells neither passphrase nor keys.
        """
        found = sealer()
        found.seal("a", b"value")
        self.assertNotIn("opensesame", repr(found))
        self.assertNotIn("_derived", repr(found))
