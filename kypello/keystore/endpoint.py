# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The address of a service in a configuration.
"""

from urllib.parse import urlsplit

from kypello.document import Value


def read_endpoint(value: Value, example: str) -> str:
    """
    Read a URL; ``https`` is what is meant without a scheme.

    :param example: A host, for who wrote the file.
    :return: Without a slash at the end.
    """
    text = value.required(f"a URL, such as https://{example}").rstrip("/")
    url = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if text and (not good or parts.path or parts.query or parts.fragment or "@" in parts.netloc):
        value.mistake("must be a URL of http or https with a host, and nothing behind its port")
    return url
