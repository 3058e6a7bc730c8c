# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``tests.cases``.
"""

from tests.cases import SyncCase


class SyncCaseTests(SyncCase):
    """
    ``SyncCase`` runs what it accepts.
    """

    def test_refuses_coroutines(self) -> None:
        """
        A class with a coroutine test cannot be defined.
        """
        with self.assertRaises(TypeError):

            class Wrong(SyncCase):
                async def test_never(self) -> None:
                    """
                    Never runs.
                    """
