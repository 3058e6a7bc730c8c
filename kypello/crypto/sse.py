# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Server-side encryption as a value, and which one applies to a write.
"""

from typing import Literal, TypeAlias

import msgspec
from attrs import frozen

from kypello.errors import Damaged, Refused
from kypello.model import EncryptionRequest

#: The values of ``x-amz-server-side-encryption`` that are served.
SSEAlgorithm: TypeAlias = Literal["AES256"]

#: The bucket setting that holds a default encryption.
SETTING = "encryption"


@frozen
class ServerSideEncryption:
    """
    An encryption with a key of the KMS: the default of a bucket, or what applies to a write.

    :ivar algorithm: ``AES256``: a key under the default master key.
    """

    algorithm: SSEAlgorithm

    def to_bytes(self) -> bytes:
        """
        The form that is kept under :data:`SETTING`: a JSON object.
        """
        return msgspec.json.encode(self)

    @classmethod
    def from_bytes(cls, stored: bytes) -> "ServerSideEncryption":
        """
        Decode a bucket setting.

        :raises Damaged:
        """
        try:
            return msgspec.json.decode(stored, type=cls)
        except ValueError:
            raise Damaged("the default encryption of a bucket") from None


def encryption_for(
    request: EncryptionRequest | None, bucket: bytes | None, auto: bool
) -> ServerSideEncryption | None:
    """
    Tell which encryption applies: what the client wants, else the bucket, else the server.

    :param bucket: The bucket setting :data:`SETTING`, when there is one.
    :param auto: Whether the server encrypts everything by itself.
    :raises Refused: The client wants an encryption that is not served.
    :raises Damaged: The bucket setting is unreadable; nothing is written in clear then.
    """
    if request is not None:
        if request.algorithm != "AES256":
            raise Refused(
                "InvalidArgument", "The encryption method specified is not supported; use AES256"
            )
        return ServerSideEncryption("AES256")
    if bucket is not None:
        return ServerSideEncryption.from_bytes(bucket)
    return ServerSideEncryption("AES256") if auto else None
