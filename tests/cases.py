# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The two base classes of all tests.
"""

from inspect import iscoroutinefunction

from twisted.trial.unittest import SynchronousTestCase, TestCase


class SyncCase(SynchronousTestCase):
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


class AsyncCase(TestCase):
    """
    A test that may await.
    """

    timeout = 60
