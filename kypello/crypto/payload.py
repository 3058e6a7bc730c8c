# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Payloads of administration, encrypted with the secret key of whoever signed the request.

A payload is a salt of 32 bytes, one byte that names the algorithm, 8 bytes of nonce and a stream:
the plaintext in fragments of 16 KiB, each followed by its tag.  The nonce of a fragment is that of
the payload and its number from 1; what it is bound to is a byte that marks the last fragment and
the tag of an empty message under number 0.  A payload without plaintext is one empty fragment.

To derive the key takes 64 MiB of memory and a tenth of a second, so callers check size and
signature before, work off the reactor thread, and bound how many do so at once.
"""

from collections.abc import Callable
from enum import IntEnum
from struct import pack

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from kypello.errors import NotAuthentic

#: Plaintext bytes of a full fragment.
FRAGMENT = 16 * 1024

#: The largest payload that a request holds, in bytes: 256 KiB with what encryption adds.
MAX_PAYLOAD = 262_272

_SALT, _NONCE, _TAG = 32, 8, 16
_HEAD = _SALT + 1 + _NONCE
_MORE, _LAST = b"\x00", b"\x80"


class PayloadCipher(IntEnum):
    """
    How the key is derived and what encrypts, by the number in the payload.
    """

    ARGON2_AES = 0
    ARGON2_CHACHA = 1
    PBKDF2_AES = 2


def encrypt(
    secret_key: str,
    plaintext: bytes,
    random: Callable[[int], bytes],
    cipher: PayloadCipher = PayloadCipher.ARGON2_AES,
) -> bytes:
    """
    Make a payload; blocking.

    :param random: Gives so many random bytes.
    """
    salt, nonce = random(_SALT), random(_NONCE)
    aead = _aead(cipher, secret_key, salt)
    tag = aead.encrypt(_nonce(nonce, 0), b"", b"")
    sealed = [salt, bytes([cipher]), nonce]
    last = max(0, len(plaintext) - 1) // FRAGMENT
    for number in range(last + 1):
        fragment = plaintext[number * FRAGMENT : (number + 1) * FRAGMENT]
        mark = _LAST if number == last else _MORE
        sealed.append(aead.encrypt(_nonce(nonce, number + 1), fragment, mark + tag))
    return b"".join(sealed)


def decrypt(secret_key: str, payload: bytes) -> bytes:
    """
    Open a payload; blocking.

    :raises NotAuthentic: It was made with another secret key, was changed or cut, or is none.
    """
    if len(payload) < _HEAD + _TAG:
        raise NotAuthentic("payload")
    salt, number, nonce = payload[:_SALT], payload[_SALT], payload[_SALT + 1 : _HEAD]
    try:
        cipher = PayloadCipher(number)
    except ValueError:
        raise NotAuthentic("payload") from None
    aead = _aead(cipher, secret_key, salt)
    tag = aead.encrypt(_nonce(nonce, 0), b"", b"")
    stream = memoryview(payload)[_HEAD:]
    size = FRAGMENT + _TAG
    last = (len(stream) - 1) // size
    opened = []
    try:
        for number in range(last + 1):
            mark = _LAST if number == last else _MORE
            fragment = stream[number * size : (number + 1) * size]
            opened.append(aead.decrypt(_nonce(nonce, number + 1), fragment, mark + tag))
    except InvalidTag:
        raise NotAuthentic("payload") from None
    return b"".join(opened)


def _aead(cipher: PayloadCipher, secret_key: str, salt: bytes) -> AESGCM | ChaCha20Poly1305:
    password = secret_key.encode()
    if cipher is PayloadCipher.PBKDF2_AES:
        key = PBKDF2HMAC(SHA256(), 32, salt, 8192).derive(password)
    else:
        argon = Argon2id(salt=salt, length=32, iterations=1, lanes=4, memory_cost=64 * 1024)
        key = argon.derive(password)
    return ChaCha20Poly1305(key) if cipher is PayloadCipher.ARGON2_CHACHA else AESGCM(key)


def _nonce(nonce: bytes, number: int) -> bytes:
    return nonce + pack("<I", number)
