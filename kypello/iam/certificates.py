# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Those who have a certificate of an authority that we trust, with the name of a policy in it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from attrs import define, frozen
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto

from kypello.errors import KypelloError
from kypello.iam.logins import Login

#: How many certificates may lie between that of a client and that of an authority.
MOST_INTERMEDIATES = 10


@define(eq=False)
class CertificateRefused(KypelloError):
    """
    The certificate of a client does not say who it is, or says so for nothing.

    :ivar code: One of the codes of the security token service.
    :ivar reason: Why, for people.
    """

    code: str
    reason: str


@frozen
class Certificates:
    """
    Tells clients by the certificates of their connections.

    :ivar _store: Gives the authorities that are trusted now.
    """

    _store: Callable[[], crypto.X509Store]

    def login(self, chain: Sequence[bytes], now: float) -> Login:
        """
        Find out whose certificate it is; the connection has proved that they have its key.

        :param chain: In DER: the certificate of the client first, then what it sent beside it.
        :param now: In seconds since the epoch.
        :raises CertificateRefused:
        """
        leaf, intermediates = _read(chain)
        self._verify(leaf, intermediates, now)
        name = _common_name(leaf)
        claims = {"jwt:sub": (name,), "jwt:iss": (_common_name_of(leaf.issuer),)}
        return Login(
            f"tls:{name}",
            name,
            "tls",
            policies=(name,),
            claims=claims,
            expires=leaf.not_valid_after_utc.timestamp(),
        )

    def _verify(
        self, leaf: x509.Certificate, intermediates: Sequence[x509.Certificate], now: float
    ) -> None:
        store = self._store()
        store.set_time(datetime.fromtimestamp(now, UTC))
        context = crypto.X509StoreContext(
            store,
            crypto.X509.from_cryptography(leaf),
            [crypto.X509.from_cryptography(one) for one in intermediates],
        )
        try:
            context.verify_certificate()
        except crypto.X509StoreContextError as error:
            reason = str(error)
            raise CertificateRefused("InvalidClientCertificate", reason) from None
        if not _is_for_clients(leaf):
            raise CertificateRefused(
                "InvalidClientCertificate",
                "The certificate is not meant for clients: its extended key usage must name"
                " client authentication.",
            )


def _read(chain: Sequence[bytes]) -> tuple[x509.Certificate, list[x509.Certificate]]:
    if not chain:
        raise CertificateRefused("MissingParameter", "No client certificate provided")
    try:
        found = [x509.load_der_x509_certificate(one) for one in chain]
        owners = [one for one in found if not _is_authority(one)]
    except ValueError:
        raise CertificateRefused(
            "InvalidClientCertificate", "The certificate cannot be read."
        ) from None
    if owners != found[:1]:
        raise CertificateRefused(
            "InvalidClientCertificate", "There must be exactly one certificate of a client."
        )
    if len(found) - 1 > MOST_INTERMEDIATES:
        raise CertificateRefused(
            "TooManyIntermediateCAs",
            f"There are more than {MOST_INTERMEDIATES} intermediate certificates.",
        )
    return found[0], found[1:]


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _is_for_clients(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or not isinstance(names[0].value, str) or not names[0].value:
        raise CertificateRefused(
            "InvalidClientCertificate", "The certificate must have one common name."
        )
    return names[0].value


def _common_name_of(name: x509.Name) -> str:
    return "".join(
        str(attribute.value) for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)[:1]
    )
