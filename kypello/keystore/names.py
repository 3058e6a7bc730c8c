# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What key stores can keep: names of keys, and values that are text.
"""

from kypello.errors import InvalidKeyName, KeyStoreFailed


def is_name(name: str) -> bool:
    """
    Whether a name means one place in a key store: it leads nowhere else, and hides nothing.
    """
    # Narrower than what most stores take: the rule of the original.
    return bool(name) and not set(name) & set("/\\.\0")


def check(name: str) -> None:
    """
    Refuse what is no name.

    :raises InvalidKeyName:
    """
    if not is_name(name):
        raise InvalidKeyName(name)


def text_of(value: bytes) -> str:
    """
    A value as text, for services that keep nothing else.

    :raises KeyStoreFailed: It is none.
    """
    try:
        return value.decode()
    except UnicodeDecodeError:
        # The cause is dropped: it holds the value.
        raise KeyStoreFailed("only text can be stored") from None
