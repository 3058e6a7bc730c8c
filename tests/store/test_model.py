# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The layout against a model: one process and two, which go on step by step and die at any step.

A usual run tries the same examples each time; ``KYPELLO_MODEL_EXAMPLES=10000`` tries so many
others.
"""

from tests.cases import SyncCase
from tests.store.machine import try_machine
from tests.store.operations import StoreMachine


class MemoryTests(SyncCase):
    """
    Both seams in memory.
    """

    def test_two(self) -> None:
        """
        Two processes over the same data.
        """
        try_machine(StoreMachine, 150)

    def test_one(self) -> None:
        """
        One process.
        """

        class Machine(StoreMachine):
            """
            One process.
            """

            COUNT = 1

        try_machine(Machine, 100)
