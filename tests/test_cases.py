# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``tests.cases``.
"""

from pathlib import Path

from twisted.trial.reporter import TestResult

from tests.cases import AsyncCase, SyncCase


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


class TemporaryFilesTests(SyncCase):
    """
    ``mktemp`` of both classes.
    """

    def test_removed(self) -> None:
        """
        A test that passes leaves nothing behind, one that fails what it wrote.
        """
        written = []

        class Synchronous(SyncCase):
            """
            Passes and fails.
            """

            def write(self) -> None:
                """
                Write something.
                """
                path = Path(self.mktemp()).resolve()
                path.mkdir()
                (path / "file").write_bytes(b"x")
                written.append(path.parent)

            def passes(self) -> None:
                """
                Pass.
                """
                self.write()
                self.write()

            def fails(self) -> None:
                """
                Fail.
                """
                self.write()
                self.fail("as it should")

            def breaks(self) -> None:
                """
                Raise.
                """
                self.write()
                raise ValueError

        class Asynchronous(Synchronous, AsyncCase):
            """
            The same.
            """

        for case in (Synchronous, Asynchronous):
            result = TestResult()
            for method, there in (("passes", 0), ("fails", 1), ("breaks", 1), ("passes", 0)):
                written.clear()
                case(method).run(result)
                left = [path for path in written if path.exists()]
                self.assertEqual(len(left), there, method)
            self.assertEqual((len(result.failures), len(result.errors)), (1, 1))
            self.flushLoggedErrors(ValueError)
