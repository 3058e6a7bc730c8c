# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who guesses keys is slowed down: repeated failures of one source are answered late.
"""

from collections import OrderedDict

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kypello.iam.slowing import MOST, Pace, network_of

#: How many failures of a source are answered at once, and how many in a second afterwards.
BURST, RATE = 20, 2.0

#: The longest that an answer is held back, in seconds.
LONGEST = 5.0

#: How long a source has to be quiet until it is told of again, in seconds.
QUIET = 60.0

_log = Logger()


@define(eq=False)
class Failures:
    """
    Counts failures by where they come from.

    A source that goes on is told of in the log once, until it has been quiet for a while.

    :ivar _told: When an answer to a source that was told of was held back last.
    """

    _clock: IReactorTime
    _sources: Pace = field(init=False, factory=lambda: Pace(BURST, RATE))
    _told: "OrderedDict[str, float]" = field(init=False, factory=OrderedDict)

    async def failed(self, source: str) -> None:
        """
        Count a failure, and hold back its answer if there were many.

        :param source: The address of the client.
        """
        name, now = network_of(source), self._clock.seconds()
        self._sources.add(name, 1, now)
        delay = self._sources.wait(name, now)
        if delay:
            self._tell(name, source, now)
            await deferLater(self._clock, min(LONGEST, delay))

    def _tell(self, name: str, source: str, now: float) -> None:
        # Who waits for each answer is held back a little, again and again.
        last = self._told.pop(name, None)
        if last is None or now - last > QUIET:
            _log.warn("{source} fails to authenticate again and again", source=source)
        self._told[name] = now
        if len(self._told) > MOST:
            self._told.popitem(last=False)
