# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Randomness that tests choose.
"""

from random import Random as Generator

from kypello.crypto.randomness import Random


def given_random(*values: bytes) -> Random:
    """
    A source that gives *values* in turn, each asked for by its own length.
    """
    left = list(values)

    def random(size: int) -> bytes:
        """
        Give the next value.
        """
        value = left.pop(0)
        assert len(value) == size
        return value

    return random


def seeded_random(seed: int) -> Random:
    """
    A source that gives the same bytes for the same *seed*.
    """
    return Generator(seed).randbytes
