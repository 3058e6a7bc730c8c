# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.textlog``.
"""

from io import StringIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)
from zope.interface.verify import verifyObject

from kypello.textlog import LINE, TextLog
from tests.cases import SyncCase


class TextLogTests(SyncCase):
    """
    ``TextLog`` writes what Twisted's own observers write.
    """

    def setUp(self) -> None:
        """
        Log to both.
        """
        self.ours, self.theirs = StringIO(), StringIO()
        ours = TextLog(self.ours)
        theirs = FilteringLogObserver(textFileLogObserver(self.theirs), [LogLevelFilterPredicate()])
        verifyObject(ILogObserver, ours)

        def both(event: LogEvent) -> None:
            """
            Give an event to both.
            """
            ours(event)
            theirs(event)

        self.log = Logger("some.name", observer=both)
        self.observe = both

    def assert_same(self, lines: int) -> None:
        """
        Both have written the same number of lines, and the same.
        """
        self.assertEqual(self.ours.getvalue(), self.theirs.getvalue())
        self.assertEqual(self.ours.getvalue().count("\n"), lines)

    def test_events(self) -> None:
        """
        Events of all levels but the lowest are told, with what they format.
        """
        self.log.debug("not told")
        self.log.info("{a} and {b!r}", a=1, b="2")
        self.log.warn("a\nb")
        self.log.error("")
        self.assert_same(3)

    def test_line(self) -> None:
        """
        An event that is nothing but a line is written as any other.
        """
        self.log.info(LINE, line="a {b}")
        self.log.warn(LINE, line="a\nb")
        self.assert_same(3)

    def test_failure(self) -> None:
        """
        A failure brings its traceback.
        """
        try:
            raise ValueError("wrong")
        except ValueError:
            self.log.failure("it went {how}", how="badly")
        self.assertIn("ValueError: wrong", self.ours.getvalue())
        self.assertEqual(self.ours.getvalue(), self.theirs.getvalue())

    def test_time(self) -> None:
        """
        The time is told to the second, whatever its fraction, and as of each event.
        """
        for when in (1e9, 1e9 + 0.9, 1e9 + 1, 1e9 - 86400 * 180, None):
            self.log.info("{line}", line="a")
            event = {
                "log_level": LogLevel.info,
                "log_namespace": "n",
                "log_format": "at {when}",
                "log_time": when,
                "when": when,
            }
            self.observe(event)
        self.assert_same(10)

    def test_old_events(self) -> None:
        """
        What comes from Twisted's old logging names its system.
        """
        self.log.info("b", log_system="HTTP")
        self.observe({"log_format": "no level"})
        self.assert_same(1)
