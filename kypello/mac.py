# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
HMAC-SHA256 of short messages.

A small request needs up to three.  OpenSSL takes more time to look for the algorithm by its name,
for each of them, than to compute it.
"""

from hashlib import sha256

_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """
    The HMAC-SHA256 of a message (RFC 2104): 32 bytes.
    """
    if len(key) > _BLOCK:
        key = sha256(key).digest()
    block = key.ljust(_BLOCK, b"\0")
    inner = sha256(block.translate(_INNER) + message).digest()
    return sha256(block.translate(_OUTER) + inner).digest()
