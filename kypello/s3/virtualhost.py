# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Hosts that name a bucket: ``bucket.domain`` for each domain that is configured.
"""

from collections.abc import Sequence

#: Under a domain this name is the server itself, as it is in paths: no bucket has it.
_SERVER = "minio"


def bucket_of_host(host: str, domains: Sequence[str]) -> str:
    """
    The bucket that a host names; empty when the path names it.

    :param host: The header of that name, with or without a port.
    :param domains: In lower case; of several that fit the longest counts.
    """
    if not domains:
        return ""
    name = _without_port(host).lower().removesuffix(".")
    for domain in sorted(domains, key=len, reverse=True):
        if name == domain:
            return ""
        if name.endswith(f".{domain}"):
            bucket = name.removesuffix(f".{domain}")
            return "" if bucket == _SERVER else bucket
    return ""


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and (not port or (port.isascii() and port.isdigit())) else host
