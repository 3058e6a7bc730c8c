# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Certificates of clients and authorities: made, and found in files.
"""

import re
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kypello.crypto.apikey import APIKey

_CERTIFICATE = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----\r?\n.*?-----END \1-----", re.DOTALL
)
_LIFETIME = timedelta(days=90)
_SKEW = timedelta(hours=1)  # the clock of the key server may be behind ours


def make_certificate(api_key: APIKey, now: datetime) -> x509.Certificate:
    """
    A certificate that shows who holds an API key.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, api_key.identity)])
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    key = api_key.private_key
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .sign(key, None)
    )


def certificates(content: bytes) -> tuple[list[x509.Certificate], bool]:
    """
    The certificates in PEM, and whether some are broken.
    """
    found, broken = [], False
    for block in _CERTIFICATE.finditer(content):
        try:
            certificate = x509.load_pem_x509_certificate(block.group())
            certificate.public_key()
        except (ValueError, UnsupportedAlgorithm):
            broken = True
        else:
            found.append(certificate)
    return found, broken


def public_key(keyed: Any) -> bytes:
    """
    What a private key and its certificate have in common.
    """
    encoded: bytes = keyed.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def is_authority(certificate: x509.Certificate) -> bool:
    """
    Whether it is the certificate of a CA.
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return found.value.ca
