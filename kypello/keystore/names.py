# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Which names can be those of keys.
"""

from kypello.errors import InvalidKeyName


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
