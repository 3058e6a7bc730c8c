# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The two base classes of all tests.
"""

import shutil
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from twisted.python.components import proxyForInterface
from twisted.trial.itrial import IReporter
from twisted.trial.unittest import SynchronousTestCase, TestCase


class _Outcome(proxyForInterface(IReporter)):  # type: ignore[misc]
    """
    A reporter that remembers whether the test has passed.
    """

    passed = False

    def addSuccess(self, test: Any) -> None:
        """
        It has.
        """
        self.passed = True
        super().addSuccess(test)


class TemporaryFiles:
    """
    What a test wrote below :meth:`mktemp` goes away when it has passed: all of them together write
    more than a disk may have room for.  That of a test that failed stays, for who looks why.

    A mixin for cases of trial.
    """

    def run(self, result: Any = None) -> None:
        """
        Run the test.
        """
        self._written: list[Path] = []
        outcome = _Outcome(IReporter(result))
        super().run(outcome)  # type: ignore[misc]
        if outcome.passed:
            for directory in self._written:
                # A process that was killed may have some of it open, and write, for a moment more.
                shutil.rmtree(directory, ignore_errors=True)

    def mktemp(self) -> str:
        """
        A path, not yet taken, in a directory of its own.
        """
        path: str = super().mktemp()  # type: ignore[misc]
        self._written.append(Path(path).resolve().parent)
        return path


class SyncCase(TemporaryFiles, SynchronousTestCase):
    """
    A test of pure code.

    Trial passes an ``async def`` test of a synchronous case without running it; this class
    refuses to be defined with one.
    """

    def __init_subclass__(cls) -> None:
        """
        Refuse coroutine tests, inherited ones too.
        """
        super().__init_subclass__()
        for name in dir(cls):
            if name.startswith("test") and iscoroutinefunction(getattr(cls, name)):
                raise TypeError(f"{cls.__name__}.{name} would never run: use AsyncCase")


class AsyncCase(TemporaryFiles, TestCase):
    """
    A test that may await.
    """

    timeout = 60
