# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Clients behind a proxy that ends TLS: it tells their certificates in a header.

Whoever may do that may be anybody.  So only the identities that the configuration names as
proxies are believed, by their own certificates, and the header of everybody else is ignored.
"""

from collections.abc import Callable, Sequence
from urllib.parse import unquote

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kypello.kes.identity import INVALID, NoIdentity, identity_of

#: What is told to who may not do something.
REFUSED = "not authorized: insufficient permissions"


@frozen
class Caller:
    """
    Who sends a request.

    :ivar ip: Where from; empty when only the connection tells.
    """

    identity: str
    ip: str = ""


@frozen
class Proxies:
    """
    The proxies of a key server.

    :ivar identities: Theirs.
    :ivar header: What they tell a client's certificate in: PEM, percent-encoded.
    """

    identities: frozenset[str] = frozenset()
    header: str = ""


class Untrusted(NoIdentity):
    """
    A certificate is not one of the authorities in use: a proxy has told it, or the connection is
    older than these authorities.
    """


def caller_behind(
    header: Sequence[str], forwarded: str, trusted: Callable[[bytes], bool]
) -> Caller:
    """
    Who a proxy speaks for.

    :param header: The values of the header with the certificate.
    :param forwarded: ``X-Forwarded-For``; empty when there is none.
    :param trusted: Whether a certificate, in DER, is good enough.
    :raises NoIdentity: The header does not hold one good certificate.
    """
    values = [value for value in header if value]
    if not values:
        raise NoIdentity("no client certificate is present")
    if len(values) > 1:
        raise NoIdentity("too many client certificates are present")
    found = _certificate(values[0])
    identity = identity_of([found])
    if not trusted(found):
        raise Untrusted(REFUSED)
    return Caller(identity, _first_host(forwarded))


def _certificate(value: str) -> bytes:
    # Nginx and HAProxy encode a plus sign as any other; where one stands for a space, as in
    # forms, it is only between the words of the first and the last line.
    text = unquote(value, "latin-1")
    for word in ("BEGIN", "END"):
        text = text.replace(f"{word}+CERTIFICATE", f"{word} CERTIFICATE")
    try:
        certificates = x509.load_pem_x509_certificates(text.encode("latin-1"))
    except INVALID:
        raise NoIdentity("invalid client certificate") from None
    if len(certificates) > 1:
        raise NoIdentity("too many client certificates are present")
    return certificates[0].public_bytes(Encoding.DER)


def _first_host(forwarded: str) -> str:
    """
    The host that is named first, without its port.
    """
    first = forwarded.partition(",")[0].strip()
    if first.lower() == "unknown":
        return ""
    if first.startswith("["):
        return first[1:].partition("]")[0]
    # More than one colon is an IPv6 address, which can have a port in brackets only.
    return first.partition(":")[0] if first.count(":") == 1 else first
