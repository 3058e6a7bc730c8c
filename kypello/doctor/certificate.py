# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The certificates on both ends of a connection to a key server: how long they are valid, for whom.
"""

import socket
import ssl
from datetime import UTC, datetime, timedelta

from attrs import frozen
from cryptography import x509

from kypello.crypto.apikey import APIKey, identity_of_spki
from kypello.doctor.findings import Chart
from kypello.kms.certificates import certificates, public_key
from kypello.kms.tls import Loaded
from kypello.kmsconfig import KESSettings

#: From when on before its end a certificate is to be renewed.
_SOON = timedelta(days=7)


@frozen
class Shown:
    """
    The certificate that a server shows.

    :ivar names: For whom it is.
    """

    expires: datetime
    names: str


def shown_by(host: str, port: int, seconds: float) -> Shown | None:
    """
    Look at the certificate of a server, without a judgement; blocking.

    :param seconds: How long each step may take.
    :return: ``None`` when it shows none to somebody without a certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), seconds) as connection,
            context.wrap_socket(connection, server_hostname=host) as secured,
        ):
            found = secured.getpeercert(binary_form=True)
    except OSError:
        # Whether it can be used was seen before this; what is not told here is no fault.
        return None
    if found is None:
        return None
    certificate = x509.load_der_x509_certificate(found)
    return Shown(certificate.not_valid_after_utc, _names(certificate))


def check_server(chart: Chart, shown: Shown | None, now: float) -> None:
    """
    Judge how long the certificate of a server that is trusted will do.

    :param now: Seconds since the epoch.
    """
    if shown is None:
        chart.ok("tls", "its certificate is trusted")
        return
    until = f"{shown.expires:%Y-%m-%d %H:%M} UTC"
    if shown.expires - datetime.fromtimestamp(now, UTC) < _SOON:
        chart.warning(
            "tls",
            f"its certificate is trusted, but expires on {until}",
            "renew the certificate of the key server (tls.cert in its configuration)",
        )
    else:
        chart.ok("tls", f"its certificate is trusted, for {shown.names}, until {until}")


def check_client(chart: Chart, settings: KESSettings, loaded: Loaded, now: float) -> str:
    """
    Judge our own certificate; blocking.

    :param now: Seconds since the epoch.
    :return: Our identity, as policies of key servers name it.
    """
    for warning in loaded.warnings:
        chart.warning("certificate", warning.rstrip("."), "see docs/kms-guide.md")
    identity = identity_of(settings)
    until = f"{loaded.expires:%Y-%m-%d %H:%M} UTC"
    if settings.api_key is not None:
        chart.ok("identity", f"{identity}, by the API key")
        return identity
    chart.ok("identity", f"{identity}, by {settings.cert_file}")
    left = loaded.expires - datetime.fromtimestamp(now, UTC)
    if left < _SOON:
        word = "expired" if left <= timedelta() else "expires"
        chart.warning(
            "certificate",
            f"our certificate {word} on {until}; key servers that check dates refuse it then",
            f"renew {settings.cert_file} (MINIO_KMS_KES_CERT_FILE) for the same private key, so"
            " that our identity stays the same",
        )
    else:
        chart.ok("certificate", f"ours is valid until {until}")
    return identity


def identity_of(settings: KESSettings) -> str:
    """
    Our identity, which key servers know us by; blocking.

    :param settings: That were loaded before.
    """
    if settings.api_key is not None:
        return APIKey.parse(settings.api_key).identity
    assert settings.cert_file is not None
    (first, *_), _ = certificates(settings.cert_file.read_bytes())
    return identity_of_spki(public_key(first))


def _names(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return "nobody"
    known = [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]
    return ", ".join(known[:8]) or "nobody"
