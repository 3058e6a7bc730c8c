# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A brake that one process pulls and all obey: what comes meanwhile waits.
"""

import mmap

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from kypello.sharedmemory import make_shared_memory

#: How often those who wait look, in seconds.
LOOK = 0.25

#: Bytes of the number that tells whether it is pulled.
_SIZE = 8


def shared_brake(_workers: int) -> int:
    """
    Make a brake, not pulled.

    :return: A file descriptor for all processes to inherit.
    :raises OSError: The system has no memory for it.
    """
    return make_shared_memory("brake", _SIZE)


@define(eq=False)
class Brake:
    """
    The brake, as one process sees it.

    It is released by whoever says so, and by the end of the server.

    :ivar _descriptor: ``-1`` when this process is the only one.
    :ivar _ending: Whether this process ends, in which nobody waits any more.
    """

    _clock: IReactorTime
    _descriptor: int = -1
    _number: memoryview = field(init=False, repr=False)
    _ending: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Map it.
        """
        self._number = memoryview(mmap.mmap(self._descriptor, _SIZE)).cast("Q")

    @property
    def pulled(self) -> bool:
        """
        Whether what comes now has to wait.
        """
        return bool(self._number[0])

    def pull(self) -> None:
        """
        Have all processes let what comes wait.
        """
        self._number[0] = 1

    def release(self) -> None:
        """
        Have all go on.
        """
        self._number[0] = 0

    def end(self) -> None:
        """
        Let nobody wait here any more: the process ends.
        """
        self._ending = True

    async def released(self) -> bool:
        """
        Wait as long as it is pulled.

        :return: Whether it was released; otherwise this process ends.
        """
        while self.pulled and not self._ending:
            await deferLater(self._clock, LOOK)
        return not self.pulled
