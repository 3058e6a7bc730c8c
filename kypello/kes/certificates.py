# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
X.509 certificates for key servers and their clients.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kypello.crypto.randomness import Random

#: A clock that is behind must not refuse a certificate that was just made.
_SKEW = timedelta(days=1)


@frozen
class Signer:
    """
    Who signs a certificate.
    """

    name: str
    key: EllipticCurvePrivateKey | Ed25519PrivateKey = field(repr=False)

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """
        Sign what is built.
        """
        builder = builder.issuer_name(_name(self.name))
        if isinstance(self.key, Ed25519PrivateKey):
            return builder.sign(self.key, None)
        return builder.sign(self.key, SHA256())


def make_authority(
    signer: Signer, *, now: float, lifetime: float, random: Random
) -> x509.Certificate:
    """
    The certificate of a CA that signs those of servers and clients alone.

    :param now: Seconds since the epoch.
    :param lifetime: In seconds.
    """
    usage = _usage(key_cert_sign=True)
    builder = _builder(signer.name, signer, now, lifetime, random)
    builder = builder.add_extension(x509.BasicConstraints(True, 0), True)
    return signer.sign(builder.add_extension(usage, True))


def make_certificate(
    subject: Signer,
    issuer: Signer,
    hosts: Sequence[str],
    *,
    now: float,
    lifetime: float,
    random: Random,
) -> x509.Certificate:
    """
    A certificate of a server that may be a client too.

    :param subject: Whose key it certifies; the issuer too when it is self-signed.
    :param hosts: Host names and IP addresses.
    :param now: Seconds since the epoch.
    :param lifetime: In seconds.
    """
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    builder = _builder(subject.name, subject, now, lifetime, random)
    builder = builder.add_extension(x509.BasicConstraints(False, None), True)
    builder = builder.add_extension(_usage(digital_signature=True), True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
    if hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(names, False)
    return issuer.sign(builder)


def _builder(
    name: str, subject: Signer, now: float, lifetime: float, random: Random
) -> x509.CertificateBuilder:
    made = datetime.fromtimestamp(int(now), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(subject.key.public_key())
        # RFC 5280, section 4.1.2.2: positive, and 20 bytes at most.
        .serial_number(int.from_bytes(b"\x01" + random(16), "big"))
        .not_valid_before(made - _SKEW)
        .not_valid_after(made + timedelta(seconds=lifetime))
    )


def _usage(digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
