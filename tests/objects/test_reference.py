# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is stored is what a reader says that was written after the description of the format, and
shares nothing with the code.
"""

import hmac
from base64 import b64decode
from collections.abc import Mapping, Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from kypello.model import DSSE, ByteRange, EncryptionRequest, ObjectInfo
from tests.cases import SyncCase
from tests.objects.case import DATA, KINDS, EncryptedCase, customer

_PREFIX = "X-Minio-Internal-Server-Side-Encryption-"
_OWN = "X-Kypello-Internal-Server-Side-Encryption-"
_SEALED = (
    (f"{_PREFIX}Kms-Sealed-Key", "SSE-KMS"),
    (f"{_PREFIX}S3-Sealed-Key", "SSE-S3"),
    (f"{_PREFIX}Sealed-Key", "SSE-C"),
)
_INNER = (f"{_OWN}Inner-Sealed-Key", "DSSE-KMS")
_OUTER = (f"{_OWN}Outer-Sealed-Key", "DSSE-KMS-OUTER")

#: Around the borders of packages, and anything.
SIZES = st.one_of(
    st.integers(0, 100),
    st.sampled_from([65535, 65536, 65537, 131071, 131072, 131073]),
    st.integers(0, 190_000),
)


def reference_open(key: bytes, stream: bytes) -> bytes:
    """
    Open a stream of packages, one byte after the other.

    :raises ValueError: It is none.
    :raises InvalidTag: It is not authentic.
    """
    plain, first, sequence, final = b"", b"", 0, False
    while stream:
        if final:
            raise ValueError("there is something behind the final package")
        header, stream = stream[:16], stream[16:]
        version, cipher = header[0], header[1]
        length = header[2] + 256 * header[3] + 1
        nonce = bytearray(header[4:])
        final = nonce[0] >= 128
        common = bytes([version, cipher, nonce[0] % 128]) + header[5:]
        first = first or common
        if version != 32 or common != first or (not final and length != 65536):
            raise ValueError("a header is wrong")
        for position in range(4):
            nonce[8 + position] ^= (sequence >> (8 * position)) & 255
        body, stream = stream[: length + 16], stream[length + 16 :]
        aead = AESGCM(key) if cipher == 0 else ChaCha20Poly1305(key)
        plain += aead.decrypt(bytes(nonce), body, header[:4])
        sequence += 1
    if sequence and not final:
        raise ValueError("the end is missing")
    return plain


def reference_key(
    external: bytes,
    entries: Mapping[str, str],
    path: str,
    sealed_keys: Sequence[tuple[str, str]] = _SEALED,
) -> bytes:
    """
    Open the key of an object.

    :param path: Bucket and key.
    :param sealed_keys: The entry that holds it, and its domain; the first of them that is there.
    """
    name, domain = next(pair for pair in sealed_keys if pair[0] in entries)
    sealed = entries[name]
    message = b64decode(entries[f"{_PREFIX}Iv"]) + f"{domain}DAREv2-HMAC-SHA256{path}".encode()
    return reference_open(hmac.new(external, message, sha256).digest(), b64decode(sealed))


class ReferenceTests(EncryptedCase):
    """
    Objects of any size and cut, and any range of them.
    """

    @given(SIZES, st.sampled_from(KINDS), st.data())
    @settings(max_examples=40, deadline=None)
    def test_whole(self, size: int, encryption: EncryptionRequest, data: st.DataObject) -> None:
        """
        An object in one piece.
        """
        content = DATA[:size]

        async def check() -> None:
            """
            Store it, and read it in both ways.
            """
            await self.prepare()
            await self.put("k", content, encryption)
            stored, plain = await self.raw("k")
            for object_key in await self.keys(stored, encryption):
                plain = reference_open(object_key, plain)
            self.assertTrue(plain == content)
            await self.compared(plain, encryption, data)

        self.successResultOf(Deferred.fromCoroutine(check()))

    @given(st.lists(SIZES, min_size=1, max_size=4), st.sampled_from(KINDS), st.data())
    @settings(max_examples=40, deadline=None)
    def test_parts(
        self, sizes: list[int], encryption: EncryptionRequest, data: st.DataObject
    ) -> None:
        """
        An object in parts, with any numbers.
        """
        count = len(sizes)
        drawn = data.draw(st.sets(st.integers(1, 10_000), min_size=count, max_size=count))
        parts = {
            number: DATA[index : index + size]
            for index, (number, size) in enumerate(zip(sorted(drawn), sizes, strict=True))
        }

        async def check() -> None:
            """
            Store it, and read it in both ways.
            """
            await self.prepare()
            upload = await self.upload(parts, encryption)
            await self.complete(upload, sorted(parts), customer(encryption))
            stored, raw = await self.raw("k")
            keys, at, plain = await self.keys(stored, encryption), 0, b""
            for part in stored.parts:
                label = bytes([part.number % 256, part.number // 256, 0, 0])
                stream = raw[at : at + part.size]
                for key in keys:
                    stream = reference_open(hmac.new(key, label, sha256).digest(), stream)
                plain += stream
                at += part.size
            self.assertEqual(at, len(raw))
            self.assertTrue(plain == b"".join(parts.values()))
            await self.compared(plain, encryption, data)

        self.successResultOf(Deferred.fromCoroutine(check()))

    async def keys(self, stored: ObjectInfo, encryption: EncryptionRequest) -> list[bytes]:
        """
        The keys of the object ``k``, that of the outermost layer first.
        """
        entries = stored.metadata.internal
        if encryption.algorithm == DSSE:
            return [
                await self.layer_key(entries, name, sealed)
                for name, sealed in (("outer", _OUTER), ("inner", _INNER))
            ]
        if encryption.customer_key is not None:
            external = encryption.customer_key.key
        else:
            shared = "X-Kypello-Internal-Server-Side-Encryption-Bucket-Key" in entries
            external = await self.kms.decrypt_key(
                entries[f"{_PREFIX}S3-Kms-Key-Id"],
                b64decode(entries[f"{_PREFIX}S3-Kms-Sealed-Key"]),
                b'{"b":"b"}' if shared else b'{"b":"b/k"}',
            )
        return [reference_key(external, entries, "b/k")]

    async def layer_key(
        self, entries: Mapping[str, str], layer: str, sealed: tuple[str, str]
    ) -> bytes:
        """
        The key of one of two layers.

        :param sealed: As :func:`reference_key` takes it.
        """
        data_keys = {
            "inner": f"{_PREFIX}S3-Kms-Sealed-Key",
            "outer": f"{_OWN}Outer-Sealed-Data-Key",
        }
        external = await self.kms.decrypt_key(
            entries[f"{_PREFIX}S3-Kms-Key-Id"],
            b64decode(entries[data_keys[layer]]),
            b'{"b":"b/k","kypello:layer":"%s"}' % layer.encode(),
        )
        return reference_key(external, entries, "b/k", [sealed])

    async def compared(
        self, plain: bytes, encryption: EncryptionRequest, data: st.DataObject
    ) -> None:
        """
        Read the object in whole and in some ranges, as its clients do.
        """
        key = customer(encryption)
        self.assertTrue(await self.get("k", customer_key=key) == plain)
        for _ in range(3 if plain else 0):
            start = data.draw(st.integers(0, len(plain) - 1))
            stop = data.draw(st.integers(start + 1, len(plain)))
            found = await self.get("k", ByteRange(start, stop), customer_key=key)
            self.assertTrue(found == plain[start:stop], f"{start} to {stop}")


class ReaderTests(SyncCase):
    """
    The reader of the description itself.
    """

    def test_refuses(self) -> None:
        """
        It opens what is known, and nothing else, so that its agreement means something.
        """
        key = bytes.fromhex("67d8d1f2d04109bdb1fa19f5112f2d2cdf81578962b0dbc09b7c51a131b0e34f")
        known = bytes.fromhex(
            "20000a00800102030405060708090a0b36ba0363729b9232e978d397a9a2c8c43752d7506bca59b37630ca"
        )
        self.assertEqual(reference_open(key, known), b"hello world")
        for at in range(len(known)):
            changed = known[:at] + bytes([known[at] ^ 1]) + known[at + 1 :]
            with self.assertRaises((ValueError, InvalidTag)):
                reference_open(key, changed)
