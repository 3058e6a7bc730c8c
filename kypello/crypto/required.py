# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The encryption that a bucket demands of what is written to it.

A default encryption is for who asks for nothing; this is for everybody, and refuses what comes in
another way.  It says nothing of how something was asked for: what counts is how it is encrypted.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, TypeAlias

from kypello.errors import Refused
from kypello.model import DSSE, KMS_ALGORITHMS, SSE_C
from kypello.setting import Setting

#: The bucket setting that holds it.
SETTING = "required-encryption"

#: A kind of encryption, as an administrator names it.
EncryptionKind: TypeAlias = Literal["sse-s3", "sse-kms", "dsse-kms", "sse-c"]

#: The kinds, by the algorithm that clients ask for.
KINDS: Mapping[str, EncryptionKind] = {
    "AES256": "sse-s3",
    "aws:kms": "sse-kms",
    DSSE: "dsse-kms",
    SSE_C: "sse-c",
}

#: The kinds whose master keys can be demanded.
WITH_KEYS = frozenset(KINDS[algorithm] for algorithm in KMS_ALGORITHMS)

#: How many master keys a bucket can accept.
MAX_KEYS = 100

_HEADER = "x-amz-server-side-encryption"

#: How many master keys a refusal names.
_NAMED = 3

#: What asks for each kind.
_ASKING: Mapping[str, str] = {
    "sse-s3": f"{_HEADER}: AES256",
    "sse-kms": f"{_HEADER}: aws:kms",
    "dsse-kms": f"{_HEADER}: {DSSE}",
    "sse-c": f"{_HEADER}-customer-algorithm: AES256 with a key",
}


class RequiredEncryption(Setting, frozen=True, omit_defaults=True):
    """
    What a bucket accepts.

    :ivar kinds: At least one.
    :ivar keys: The names of the master keys that count for :data:`WITH_KEYS`; none for any.
    """

    subject = "required encryption"

    kinds: tuple[EncryptionKind, ...]
    keys: tuple[str, ...] = ()

    def accepts(self, algorithm: str, key_name: str) -> bool:
        """
        Whether content may be encrypted so.

        :param algorithm: As clients ask for it; empty for none.
        :param key_name: Of the master key; empty where there is none.
        """
        kind = KINDS.get(algorithm)
        if kind not in self.kinds:
            return False
        return kind not in WITH_KEYS or not self.keys or key_name in self.keys

    @property
    def demand(self) -> str:
        """
        What it takes, for people.
        """
        return " or ".join(self._told(kind, kind.upper()) for kind in self.kinds)

    @property
    def refusal(self) -> Refused:
        """
        The refusal of anything else, with what to send instead.
        """
        asking = " or ".join(f"'{_ASKING[kind]}{self._header(kind)}'" for kind in self.kinds)
        return Refused(
            "AccessDenied", f"The bucket requires encryption by {self.demand}. Send {asking}."
        )

    def _told(self, kind: EncryptionKind, title: str) -> str:
        keys = self.keys if kind in WITH_KEYS else ()
        if not keys:
            return title
        more = f" or {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
        return f"{title} with the key {' or '.join(keys[:_NAMED])}{more}"

    def _header(self, kind: EncryptionKind) -> str:
        if kind not in WITH_KEYS or not self.keys:
            return ""
        return f", {_HEADER}-aws-kms-key-id: {self.keys[0]}"


@lru_cache(maxsize=64)
def _decoded(stored: bytes) -> RequiredEncryption:
    # Every write asks it.
    return RequiredEncryption.from_bytes(stored)


def required_of(settings: Mapping[str, bytes]) -> RequiredEncryption | None:
    """
    What a bucket with these settings demands; ``None`` for nothing.

    :raises Damaged:
    """
    stored = settings.get(SETTING)
    return None if stored is None else _decoded(stored)


def check_required(settings: Mapping[str, bytes], algorithm: str, key_name: str) -> None:
    """
    See that a bucket accepts what is encrypted in a way.

    :param algorithm: As in :meth:`RequiredEncryption.accepts`.
    :param key_name: Likewise.
    :raises Refused: ``AccessDenied``.
    :raises Damaged: What it demands cannot be read; nothing is written then.
    """
    required = required_of(settings)
    if required is not None and not required.accepts(algorithm, key_name):
        raise required.refusal
