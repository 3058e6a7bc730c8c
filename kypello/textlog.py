# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The log as lines of text.

They look as those of Twisted's own observer, which finds out the time zone for each of them; a
line for each request makes that count.
"""

from typing import TextIO

from attrs import define
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, formatTime
from zope.interface import implementer

#: What is worth telling.
_TOLD = frozenset((LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.critical))

#: The format of an event whose field ``line`` is all of its text, and that names no system.
LINE = "{line}"


@implementer(ILogObserver)
@define(eq=False)
class TextLog:
    """
    Writes each event to a file, but for debugging and what has no level.

    :ivar _second: Of which :attr:`_stamp` is the time, in seconds since the epoch.
    """

    _file: TextIO
    _second: int = -1
    _stamp: str = ""

    def __call__(self, event: LogEvent) -> None:
        """
        Called by Twisted: write an event.
        """
        level = event.get("log_level")
        if level is None or level not in _TOLD:
            return
        if event.get("log_format") == LINE:
            stamp = self._time(event["log_time"])
            text = f"{stamp} [{event['log_namespace']}#{level.name}] {event['line']}"
        else:
            text = eventAsText(event, formatTime=self._time)
        if text:
            self._file.write(text.replace("\n", "\n\t") + "\n")
            self._file.flush()

    def _time(self, when: float | None) -> str:
        """
        The local time as in RFC 3339, to the second.
        """
        if when is None:
            return formatTime(when)
        second = int(when)
        if second != self._second:
            self._second, self._stamp = second, formatTime(when)
        return self._stamp
