# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Values under a passphrase.

A sealed value is one line of ASCII that has all that its passphrase is to be used with::

    kypello-sealed:v1:argon2id:MEMORY:ITERATIONS:LANES:SALT:CHECK:SEALED

Argon2id makes 48 bytes of passphrase and salt: a key, and CHECK, which tells a wrong passphrase
from a damaged value.  SEALED is a nonce with what AES-256-GCM makes of the value; everything
before it and the name of the value are authenticated too, so that no value can take the place of
another.
"""

import binascii
from base64 import b64decode, b64encode
from hmac import compare_digest
from threading import Lock

from attrs import define, field, frozen
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from kypello.crypto.randomness import Random
from kypello.errors import KeyStoreFailed

_MAGIC = "kypello-sealed:"
_FORMAT = f"{_MAGIC}v1:argon2id"
_SALT, _KEY, _CHECK, _NONCE = 16, 32, 16, 12


@define(eq=False)
class WrongPassphrase(KeyStoreFailed):
    """
    What is sealed was sealed under another passphrase than is given, if one is given at all.
    """


@frozen
class Cost:
    """
    How hard it is to try a passphrase: by default what RFC 9106 recommends where memory is scarce.

    :ivar memory: In KiB.
    """

    memory: int = 64 * 1024
    iterations: int = 3
    lanes: int = 4


#: What is believed of a value that somebody else may have written: no more than seconds and a
#: gigabyte.
_MOST = Cost(1024 * 1024, 64, 64)


@frozen
class _Head:
    """
    What makes a key of a passphrase.
    """

    cost: Cost
    salt: bytes


@define(eq=False)
class Sealer:
    """
    Seals and opens values under one passphrase; blocking, and safe in several threads.

    What it seals has the salt of what it opened first, so that the costly step is taken once for
    all values of a store.
    """

    _passphrase: bytes = field(repr=False)
    _random: Random
    _cost: Cost = field(factory=Cost)
    _head: _Head | None = None
    _derived: dict[_Head, bytes] = field(init=False, factory=dict, repr=False)
    _lock: Lock = field(init=False, factory=Lock)

    def seal(self, name: str, value: bytes) -> bytes:
        """
        Seal a value.

        :raises KeyStoreFailed: This machine cannot.
        """
        if self._head is None:
            self._head = _Head(self._cost, self._random(_SALT))
        derived = self._derive(self._head)
        cost, salt = self._head.cost, self._head.salt
        front = ":".join(
            (
                _FORMAT,
                str(cost.memory),
                str(cost.iterations),
                str(cost.lanes),
                _encoded(salt),
                _encoded(derived[_KEY:]),
            )
        )
        nonce = self._random(_NONCE)
        sealed = AESGCM(derived[:_KEY]).encrypt(nonce, value, _bound(front, name))
        return f"{front}:{_encoded(nonce + sealed)}".encode()

    def seal_and_try(self, name: str, value: bytes) -> bytes:
        """
        Seal what will be nowhere else, and see that it can be opened.

        :raises KeyStoreFailed: This machine cannot, or not reliably.
        """
        sealed = self.seal(name, value)
        if self.open(name, sealed) != value:
            raise KeyStoreFailed(f"what was sealed of {name} does not open to the same")
        return sealed

    def open(self, name: str, sealed: bytes) -> bytes:
        """
        Open a sealed value.

        :raises WrongPassphrase:
        :raises KeyStoreFailed: It is damaged, or is the value of another name.
        """
        front, _, last = sealed.decode("latin-1").rpartition(":")
        head, check = _read(name, front)
        derived = self._derive(head)
        if not compare_digest(derived[_KEY:], check):
            raise WrongPassphrase(f"{name} is sealed under another passphrase than this")
        content = _decoded(name, last)
        try:
            value = AESGCM(derived[:_KEY]).decrypt(
                content[:_NONCE], content[_NONCE:], _bound(front, name)
            )
        except (InvalidTag, ValueError):
            raise _damaged(name) from None
        if self._head is None:
            self._head = head
        return value

    def _derive(self, head: _Head) -> bytes:
        with self._lock:
            found = self._derived.get(head)
            if found is None:
                found = self._derived[head] = self._argon2(head)
            return found

    def _argon2(self, head: _Head) -> bytes:
        try:
            return Argon2id(
                salt=head.salt,
                length=_KEY + _CHECK,
                iterations=head.cost.iterations,
                lanes=head.cost.lanes,
                memory_cost=head.cost.memory,
            ).derive(self._passphrase)
        except (UnsupportedAlgorithm, MemoryError) as error:
            raise KeyStoreFailed(f"a passphrase cannot be used: {type(error).__name__}") from error


def is_sealed(value: bytes) -> bool:
    """
    Whether a value says that it is sealed.
    """
    return value.startswith(_MAGIC.encode())


def _read(name: str, front: str) -> tuple[_Head, bytes]:
    form, *numbers = front.rsplit(":", 5)
    if form != _FORMAT or len(numbers) != 5:
        raise _damaged(name)
    *counts, salt, check = numbers
    if not all(count.isascii() and count.isdecimal() and len(count) < 10 for count in counts):
        raise _damaged(name)
    cost = Cost(*map(int, counts))
    if not (
        0 < cost.lanes <= _MOST.lanes
        and 0 < cost.iterations <= _MOST.iterations
        and 8 * cost.lanes <= cost.memory <= _MOST.memory
    ):
        raise _damaged(name)
    found = _decoded(name, salt)
    if len(found) != _SALT:
        raise _damaged(name)
    return _Head(cost, found), _decoded(name, check)


def _bound(front: str, name: str) -> bytes:
    return f"{front}:{name}".encode("utf-8", "surrogateescape")


def _damaged(name: str) -> KeyStoreFailed:
    return KeyStoreFailed(f"{name} is sealed and damaged, or not the file of this name")


def _encoded(content: bytes) -> str:
    return b64encode(content).decode()


def _decoded(name: str, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _damaged(name) from None
