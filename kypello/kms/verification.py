# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Whether a key server is who it must be.
"""

from ipaddress import ip_address
from typing import Any

from attrs import define
from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from kypello.errors import KypelloError

_CAPATH = "MINIO_KMS_KES_CAPATH"
_CODES = SSL.X509VerificationCodes
_UNTRUSTED = (
    "its certificate is signed by an authority that is not trusted: add the authority's"
    " certificate to {place}"
)
_REFUSALS = {
    _CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: (
        "its certificate is signed by itself and not trusted: add it to {place}"
    ),
    _CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN: _UNTRUSTED,
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT: _UNTRUSTED,
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: _UNTRUSTED,
    _CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: _UNTRUSTED,
    _CODES.ERR_CERT_SIGNATURE_FAILURE: _UNTRUSTED,
    _CODES.ERR_INVALID_PURPOSE: "its certificate is not meant for servers",
}


@define(eq=False)
class CertificateRefused(KypelloError):
    """
    We do not trust who answers.

    :ivar reason: Why, for people: ``its certificate ...``.
    """

    reason: str


@implementer(IOpenSSLClientConnectionCreator)
@define(eq=False)
class VerifiedServer:
    """
    Makes connections to one host, whose certificate must name it.

    :ivar _place: Where people put the certificates of authorities.
    """

    _context: SSL.Context
    _host: str
    _place: str = _CAPATH

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """
        Called by Twisted.
        """
        connection = SSL.Connection(self._context, None)
        address = _address(self._host)
        if not address:
            # RFC 6066, section 3: an address is no server name.
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        expected = IPAddress_ID(self._host) if address else DNS_ID(self._host)
        connection.set_verify(SSL.VERIFY_PEER, _Verification(protocol, expected, self._place).check)
        return connection


@define(eq=False)
class _Verification:
    """
    Judges the certificate of one server.

    :ivar _protocol: Told why it is refused; let go of afterwards, since it holds the connection
        that holds this.
    """

    _protocol: Any
    _expected: DNS_ID | IPAddress_ID
    _place: str

    def check(
        self, _connection: SSL.Connection, found: crypto.X509, error: int, depth: int, ok: int
    ) -> bool:
        """
        Called by OpenSSL for each certificate of the chain, and for each thing that is wrong.
        """
        protocol = self._protocol
        reason = "" if ok else _refusal(found, error, self._place)
        if ok and depth == 0:
            self._protocol = None
            reason = self._wrong_name(found)
        if reason and protocol is not None:
            self._protocol = None
            protocol.failVerification(Failure(CertificateRefused(reason)))
        return not reason

    def _wrong_name(self, found: crypto.X509) -> str:
        # An exception would be lost within OpenSSL.
        try:
            patterns = extract_patterns(found)
        except Exception:
            return "its certificate holds names that cannot be read"
        try:
            verify_service_identity(patterns, [self._expected], [])
        except VerificationError:
            return f"its certificate is not for this host name but for {_names(found)}"
        return ""


def _refusal(found: crypto.X509, error: int, place: str) -> str:
    certificate = found.to_cryptography()
    if error == _CODES.ERR_CERT_HAS_EXPIRED:
        return f"its certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if error == _CODES.ERR_CERT_NOT_YET_VALID:
        since = certificate.not_valid_before_utc
        return (
            f"its certificate is valid from {since:%Y-%m-%d %H:%M} UTC only: compare the clocks of"
            " both machines"
        )
    reason = _REFUSALS.get(error, f"its certificate is not valid (OpenSSL says {error})")
    return reason.format(place=place)


def _names(found: crypto.X509) -> str:
    try:
        names = (
            found.to_cryptography()
            .extensions.get_extension_for_class(x509.SubjectAlternativeName)
            .value
        )
    except (x509.ExtensionNotFound, ValueError):
        return "nobody (it has no subject alternative name)"
    known = [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]
    return ", ".join(known[:8]) or "nobody (it names neither hosts nor addresses)"


def _address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
