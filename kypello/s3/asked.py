# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What conditions of policies see of the encryption that a request asks for.

They see what the client sends, and no default of the bucket.  The parts of an upload, and its end,
send nothing: for them it is what the upload began with.  UpdateObjectEncryption tells it in its
document.
"""

from collections.abc import Mapping, Sequence

from attrs import define

from kypello.auth.values import RequestValues
from kypello.crypto.sse import key_spellings
from kypello.model import KMS_ALGORITHMS, SSE_C, Sealing

_SSE = "s3:x-amz-server-side-encryption"
_KEY_ID = f"{_SSE}-aws-kms-key-id"
_ALGORITHM = f"{_SSE}-customer-algorithm"
_OF_ENCRYPTION = frozenset({_SSE, _KEY_ID, _ALGORITHM})
_NOTHING: Mapping[str, Sequence[str]] = {}


@define
class AskedValues:
    """
    The values of a request.

    :ivar _began: Those of the encryption that the upload began with.
    :ivar _told: Those of the encryption that the document asks for, whatever the headers say;
        ``None`` when headers tell it.
    :ivar wants_upload: Whether a policy has asked for the encryption, and the request says nothing
        of it.
    """

    _values: RequestValues
    _began: Mapping[str, Sequence[str]] = _NOTHING
    _told: Mapping[str, Sequence[str]] | None = None
    wants_upload: bool = False

    def __call__(self, name: str) -> Sequence[str] | None:
        """
        The values of a condition key; ``None`` when the request has none.
        """
        if name in _OF_ENCRYPTION and self._told is not None:
            return self._told.get(name)
        values = self._values(name)
        if name not in _OF_ENCRYPTION:
            return values
        if values is None:
            self.wants_upload = True
            return self._began.get(name)
        return key_spellings(values[0]) if name == _KEY_ID else values


def of_sealing(sealing: Sealing | None) -> Mapping[str, Sequence[str]]:
    """
    What conditions see of an encryption that is not in headers.
    """
    if sealing is None:
        return _NOTHING
    if sealing.algorithm == SSE_C:
        return {_ALGORITHM: ("AES256",)}
    if sealing.algorithm in KMS_ALGORITHMS:
        return {_SSE: (sealing.algorithm,), _KEY_ID: key_spellings(sealing.key_id)}
    return {_SSE: (sealing.algorithm,)}
