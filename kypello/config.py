# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Configuration: a mapping of environment variables in, a frozen :class:`Config` out.
"""

from pathlib import Path

from attrs import field, frozen


@frozen
class KESSettings:
    """
    How to reach KES servers.

    Either *api_key*, or *key_file* with *cert_file*, authenticates us.

    :ivar endpoints: URLs such as ``https://kes.example:7373``, patterns expanded.
    :ivar key_name: The default master key.
    :ivar api_key: ``kes:v1:...``.
    :ivar key_password: For an encrypted *key_file*.
    :ivar ca_path: A file or a directory of CA certificates in PEM, trusted in addition to
        those of the system; ``None`` for the system's alone.
    """

    endpoints: tuple[str, ...]
    key_name: str
    api_key: str | None = field(default=None, repr=False)
    key_file: Path | None = None
    cert_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    ca_path: Path | None = None


@frozen
class StaticKeySettings:
    """
    One master key given in the environment (``MINIO_KMS_SECRET_KEY``).

    :ivar key: 32 bytes.
    """

    name: str
    key: bytes = field(repr=False)
