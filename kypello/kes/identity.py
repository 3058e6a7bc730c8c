# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who a client is: the public key of its certificate, and nothing else in it.
"""

from collections.abc import Iterator, Sequence

from attrs import define
from cryptography import x509

from kypello.crypto.apikey import identity_of_spki
from kypello.errors import KypelloError

#: What reading a certificate raises that is none: not all of it is a :class:`ValueError`.
INVALID = (
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@define(eq=False)
class NoIdentity(KypelloError):
    """
    The certificates of a client do not say who it is.

    :ivar reason: In the words of the protocol.
    """

    reason: str


def identity_of(certificates: Sequence[bytes]) -> str:
    """
    The identity that a chain of certificates stands for.

    :param certificates: In DER, in any order.  Those of certificate authorities do not count.
    :return: SHA-256 of the public key as it stands in the only certificate left, 64 hex digits.
    :raises NoIdentity: None is left, or more than one, or one cannot be read.
    """
    try:
        own = [one for one in certificates if not _is_authority(one)]
        if len(own) == 1:
            return identity_of_certificate(own[0])
    except INVALID:
        raise NoIdentity("tls: invalid client certificate") from None
    if own:
        raise NoIdentity("tls: received more than one client certificate")
    if certificates:
        raise NoIdentity(
            "tls: client certificate is required: that of a certificate authority does not count"
        )
    raise NoIdentity("tls: client certificate is required")


def identity_of_certificate(certificate: bytes) -> str:
    """
    The identity that one certificate stands for, that of an authority or not.

    :param certificate: In DER, and well-formed.
    """
    # RFC 5280, section 4.1: the bytes as they stand, since encoding a parsed key again may
    # give others.
    fields = list(_elements(_content(_content(certificate))))
    versioned = fields[0][0] == 0xA0
    return identity_of_spki(fields[6 if versioned else 5])


def _is_authority(certificate: bytes) -> bool:
    try:
        found = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.BasicConstraints
        )
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


def _content(element: bytes) -> bytes:
    start, size = _header(element)
    return element[start : start + size]


def _elements(content: bytes) -> Iterator[bytes]:
    while content:
        size = sum(_header(content))
        yield content[:size]
        content = content[size:]


def _header(element: bytes) -> tuple[int, int]:
    """
    How long the header of a DER element is, and its content (X.690, section 8.1).
    """
    first = element[1]
    if first < 0x80:
        return 2, first
    size = first & 0x7F
    return 2 + size, int.from_bytes(element[2 : 2 + size], "big")
