# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who guesses keys is slowed down: repeated failures of one source are answered late.
"""

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kypello.iam.slowing import Pace, network_of

#: How many failures of a source are answered at once, and how many in a second afterwards.
BURST, RATE = 20, 2.0

#: The longest that an answer is held back, in seconds.
LONGEST = 5.0

_log = Logger()


@define(eq=False)
class Failures:
    """
    Counts failures by where they come from.

    A source that goes on is told of in the log once, until it has been quiet for a while.
    """

    _clock: IReactorTime
    _sources: Pace = field(init=False, factory=lambda: Pace(BURST, RATE))

    async def failed(self, source: str) -> None:
        """
        Count a failure, and hold back its answer if there were many.

        :param source: The address of the client.
        """
        name, now = network_of(source), self._clock.seconds()
        before = self._sources.wait(name, now)
        self._sources.add(name, 1, now)
        delay = self._sources.wait(name, now)
        if delay and not before:
            _log.warn("{source} fails to authenticate again and again", source=source)
        if delay:
            await deferLater(self._clock, min(LONGEST, delay))
