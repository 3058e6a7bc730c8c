# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
An authority that signs certificates of clients.
"""

from datetime import datetime

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.kes.certificates import EARLY, LATE, Key, new_key

CLIENTS, SERVERS = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def name_of(*common_names: str) -> x509.Name:
    """
    The name of somebody.
    """
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in common_names])


@frozen
class Authority:
    """
    An authority.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, name: str = "Authority", until: datetime = LATE) -> "Authority":
        """
        One that signs itself.
        """
        key = new_key()
        subject = name_of(name)
        return cls(_certificate(subject, key, subject, key, authority=True, until=until), key)

    def below(self, name: str) -> "Authority":
        """
        One that this one signs.
        """
        key = new_key()
        made = _certificate(name_of(name), key, self.certificate.subject, self.key, authority=True)
        return Authority(made, key)

    def sign(
        self,
        key: Key,
        *common_names: str,
        usage: tuple[ObjectIdentifier, ...] = (CLIENTS,),
        since: datetime = EARLY,
        until: datetime = LATE,
        authority: bool = False,
    ) -> x509.Certificate:
        """
        A certificate of a client.
        """
        return _certificate(
            name_of(*common_names),
            key,
            self.certificate.subject,
            self.key,
            usage=usage,
            since=since,
            until=until,
            authority=authority,
        )


def _certificate(
    subject: x509.Name,
    key: Key,
    issuer: x509.Name,
    issuer_key: Key,
    *,
    usage: tuple[ObjectIdentifier, ...] = (),
    since: datetime = EARLY,
    until: datetime = LATE,
    authority: bool = False,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(authority, None), True)
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), False)
    return builder.sign(issuer_key, SHA256())
