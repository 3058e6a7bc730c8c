# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
API keys of KES: a private key in one line of text, and the identity that goes with it.

An API key is the seed of an Ed25519 key (RFC 8032).  Its owner makes throw-away certificates
from it; the key server knows it by the digest of its public key.
"""

from base64 import b64decode, b64encode
from hashlib import sha256

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kypello.crypto.randomness import Random

_PREFIX = "kes:v1:"
_ED25519 = b"\x00"
_SEED_SIZE = 32


def identity_of_spki(spki: bytes) -> str:
    """
    The identity of a public key.

    :param spki: Its SubjectPublicKeyInfo in DER, exactly as the certificate holds it.
    :return: 64 lower-case hex digits.
    """
    return sha256(spki).hexdigest()


@frozen
class APIKey:
    """
    An API key.

    :ivar seed: 32 bytes.
    """

    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls, random: Random) -> "APIKey":
        """
        Make a new one.
        """
        return cls(random(_SEED_SIZE))

    @classmethod
    def parse(cls, text: str) -> "APIKey":
        """
        Read one from its text; the prefix may be missing, as the original allows.

        :raises ValueError: It is no API key.  The message does not repeat the text.
        """
        encoded = text.removeprefix(_PREFIX)
        try:
            raw = b64decode(encoded, validate=True)
        except ValueError:
            raise ValueError("an API key is kes:v1: and base64") from None
        if b64encode(raw).decode("ascii") != encoded:
            raise ValueError("an API key is kes:v1: and base64 with its padding")
        if len(raw) != 1 + _SEED_SIZE or raw[:1] != _ED25519:
            raise ValueError("an API key holds one byte of zero and 32 bytes of seed")
        return cls(raw[1:])

    @property
    def text(self) -> str:
        """
        The key itself, a secret: ``kes:v1:...``.
        """
        return _PREFIX + b64encode(_ED25519 + self.seed).decode("ascii")

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """
        The key to sign with.
        """
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def identity(self) -> str:
        """
        What the key server knows it by.
        """
        public = self.private_key.public_key()
        return identity_of_spki(
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
