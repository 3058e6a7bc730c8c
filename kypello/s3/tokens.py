# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Continuation tokens: where a listing goes on, in a form that nobody takes for a name.

A token holds the last name that was given, so that it stays good whatever is written meanwhile.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode

from kypello.s3.errors import invalid_argument


def write_token(name: str) -> str:
    """
    The token to go on after *name*.
    """
    return urlsafe_b64encode(name.encode()).decode("ascii")


def read_token(token: str) -> str:
    """
    The name to go on after; empty for an empty token.

    :raises Refused: ``InvalidArgument``: not one of ours.
    """
    try:
        name = urlsafe_b64decode(token.encode("ascii")).decode()
    except ValueError:
        name = ""
    if write_token(name) != token:
        raise invalid_argument(
            "continuation-token", token, "The continuation token provided is incorrect"
        )
    return name
