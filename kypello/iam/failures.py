# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who guesses is slowed down: repeated failures of one source are answered late.
"""

from collections import OrderedDict

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

#: How many failures of a source are answered at once.
FREE = 20

#: After how long without one a failure is forgotten, in seconds: each such time halves them.
MEMORY = 60.0

#: The longest that an answer is held back, in seconds.
LONGEST = 5.0

_FIRST = 0.05
_SOURCES = 10_000

_log = Logger()


@define(eq=False)
class _Source:
    """
    Failures of one source.

    :ivar count: As of *since*.
    """

    count: float
    since: float


@define(eq=False)
class Failures:
    """
    Counts failures by where they come from.  The sources that failed last are remembered, a
    bounded number of them.
    """

    _clock: IReactorTime
    _sources: "OrderedDict[str, _Source]" = field(init=False, factory=OrderedDict)

    async def failed(self, source: str) -> None:
        """
        Count a failure, and hold back its answer if there were many.

        :param source: An address, or whatever else tells guessers apart.
        """
        delay = self._count(source)
        if delay:
            await deferLater(self._clock, delay)

    def _count(self, source: str) -> float:
        now = self._clock.seconds()
        found = self._sources.pop(source, None) or _Source(0.0, now)
        count = found.count * 0.5 ** ((now - found.since) / MEMORY) + 1
        self._sources[source] = _Source(count, now)
        if len(self._sources) > _SOURCES:
            self._sources.popitem(last=False)
        excess = int(count) - FREE
        if excess < 1:
            return 0.0
        if excess == 1:
            _log.warn("{source} fails to authenticate again and again", source=source)
        return min(LONGEST, _FIRST * 2.0 ** min(excess, 32))
