# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What is demanded of the encryption of objects that are there: by their bucket, its policy, and the
server.

What is required now may have been written when it was not, so it is judged as if it were written
again.
"""

from collections.abc import Iterator, Mapping, Sequence

from attrs import field, frozen

from kypello.crypto.metadata import encryption_of
from kypello.crypto.required import RequiredEncryption, required_of
from kypello.crypto.sse import SETTING, encryption_for, key_spellings, master_key_name
from kypello.errors import Damaged, MalformedPolicy, Refused
from kypello.interfaces import BUCKET_POLICY
from kypello.model import DSSE, SSE_C, BucketInfo, EncryptionRequest, ObjectInfo, UploadInfo
from kypello.policy.document import parse_bucket_policy
from kypello.policy.encryptiondemand import (
    ALGORITHM,
    CUSTOMER_ALGORITHM,
    KEY_ID,
    EncryptionDemand,
    demand_of,
)

#: How an encryption is called, by its algorithm.
_TITLES = {"AES256": "SSE-S3", "aws:kms": "SSE-KMS", DSSE: "DSSE-KMS", SSE_C: "SSE-C"}


@frozen
class Server:
    """
    How a server is set that serves the objects.

    :ivar auto_encryption: It encrypts what asks for nothing.
    :ivar policies_for_all: Policies of buckets count for those who sign, too.
    :ivar default_key: The master key that it uses when none is named; empty when that is unknown.
    """

    auto_encryption: bool = False
    policies_for_all: bool = True
    default_key: str = ""


@frozen
class Demands:
    """
    What is demanded of the objects of one bucket.

    :ivar _default: Who encrypts what asks for nothing; empty for nobody.
    :ivar _unasked: How that is encrypted; ``None`` when it is not.
    :ivar _policy: What the policy demands that can be told of an object; ``None`` for nothing.
    :ivar _default_key: As in :class:`Server`.
    :ivar unreadable: What is demanded besides, and cannot be read.
    """

    _default: str = ""
    _unasked: EncryptionRequest | None = None
    _required: RequiredEncryption | None = None
    _policy: EncryptionDemand | None = None
    _default_key: str = ""
    unreadable: Sequence[str] = field(default=())

    @classmethod
    def of(cls, info: BucketInfo, server: Server) -> "Demands":
        """
        Those of a bucket.
        """
        default, unasked, required, policy = "", None, None, None
        unreadable = []
        stored = info.settings.get(SETTING)
        if stored is not None:
            default = "its bucket encrypts"
        elif server.auto_encryption:
            default = "the server encrypts all"
        try:
            defaults = {} if stored is None else {SETTING: stored}
            unasked = encryption_for(None, defaults, server.auto_encryption)
            required = required_of(info.settings)
        except Damaged as error:
            unreadable.append(error.what)
        text = info.settings.get(BUCKET_POLICY) if server.policies_for_all else None
        if text is not None:
            try:
                policy = demand_of(parse_bucket_policy(text, info.name))
            except MalformedPolicy:
                unreadable.append("the policy of a bucket")
        return cls(default, unasked, required, policy, server.default_key, unreadable)

    def against(self, stored: ObjectInfo | UploadInfo) -> str:
        """
        What is against the encryption of an object, or of what an unfinished upload is to be, for
        people; empty when nothing is.

        :param stored: As the store keeps it, neither damaged nor opened.
        """
        algorithm, key_name = encryption_of(stored.metadata.internal)
        it = _described(algorithm, key_name)
        required = self._required
        if required is not None and not required.accepts(algorithm, key_name):
            return f"{it}, and its bucket requires encryption by {required.demand}"
        if not algorithm and self._default:
            return f"{it}, and {self._default}"
        if self._policy is not None and self._is_denied(stored, algorithm, key_name):
            return f"{it}, which the policy of its bucket denies"
        return ""

    def _is_denied(self, stored: ObjectInfo | UploadInfo, algorithm: str, key_name: str) -> bool:
        """
        Whether the policy denies every request that would make an object like this.
        """
        policy, resource = self._policy, f"{stored.bucket}/{stored.key}"
        assert policy is not None
        return all(
            policy.denies(resource, values)
            for values in self._requests(policy, algorithm, key_name)
        )

    def _requests(
        self, policy: EncryptionDemand, algorithm: str, key_name: str
    ) -> Iterator[Mapping[str, Sequence[str]]]:
        """
        What conditions see of the requests that would make it.  There may be several: a master key
        has several names, and a default makes it of a request that says nothing.
        """
        if self._comes_unasked(algorithm, key_name):
            yield {}
        if not algorithm:
            yield {}
        elif algorithm == SSE_C:
            yield {CUSTOMER_ALGORITHM: ("AES256",)}
        elif algorithm == "AES256":
            yield {ALGORITHM: (algorithm,)}
        else:
            for key_id in (key_name, *filter(lambda text: _names(text, key_name), policy.key_ids)):
                yield {ALGORITHM: (algorithm,), KEY_ID: key_spellings(key_id)}
            if self._is_default(key_name):
                yield {ALGORITHM: (algorithm,)}

    def _comes_unasked(self, algorithm: str, key_name: str) -> bool:
        unasked = self._unasked
        if unasked is None or unasked.algorithm != algorithm:
            return False
        if algorithm == "AES256":
            return True
        if unasked.key_id:
            return _names(unasked.key_id, key_name)
        return self._is_default(key_name)

    def _is_default(self, key_name: str) -> bool:
        """
        Whether a master key is, or may be, the one that is used when none is named.
        """
        return self._default_key in ("", key_name)


def _names(key_id: str, key_name: str) -> bool:
    """
    Whether a master key is meant, in any form of its name.
    """
    try:
        return master_key_name(key_id) == key_name
    except Refused:
        return False


def _described(algorithm: str, key_name: str) -> str:
    if not algorithm:
        return "it lies in clear"
    with_key = f" with the key {key_name}" if algorithm not in ("AES256", SSE_C) else ""
    return f"it has {_TITLES.get(algorithm, algorithm)}{with_key}"
