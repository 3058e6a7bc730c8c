# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Certificates for tests.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

Key: TypeAlias = EllipticCurvePrivateKey | RSAPrivateKey

#: Long before and long after any run of the tests.
EARLY, LATE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)


def new_key() -> EllipticCurvePrivateKey:
    """
    A fresh private key.
    """
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    key: Key,
    authority: bool | None = False,
    subject: str = "test",
    *,
    issuer: tuple[str, Key] | None = None,
    until: datetime = LATE,
    hosts: bool = True,
    names: Sequence[str] = (),
) -> x509.Certificate:
    """
    A certificate for 127.0.0.1.

    :param authority: What it says of itself; ``None`` for nothing.
    :param issuer: Who signs; by default it is self-signed.
    :param hosts: Whether it names any.
    :param names: Others that it names.
    """
    issuer_name, issuer_key = issuer or (subject, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(EARLY)
        .not_valid_after(until)
    )
    if hosts:
        known = [x509.IPAddress(ip_address("127.0.0.1")), *map(x509.DNSName, names)]
        builder = builder.add_extension(x509.SubjectAlternativeName(known), False)
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(authority, None), True)
    return builder.sign(issuer_key, SHA256())


def der(found: x509.Certificate) -> bytes:
    """
    A certificate in DER.
    """
    return found.public_bytes(Encoding.DER)


def pem(*found: x509.Certificate) -> bytes:
    """
    Certificates in PEM.
    """
    return b"".join(one.public_bytes(Encoding.PEM) for one in found)


def key_pem(key: Key) -> bytes:
    """
    A private key in PEM.
    """
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_der(key: Key) -> bytes:
    """
    A public key in DER.
    """
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
