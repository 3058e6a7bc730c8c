# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What every ``IEventSink`` must do.
"""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from kypello.interfaces import IEventSink
from kypello.model import Event


def event(name: str = "s3:ObjectCreated:Put", key: str = "key", **values: Any) -> Event:
    """
    Something that has happened in a bucket ``bucket``.
    """
    return Event(name, "bucket", 1_700_000_000_123_456_789, key, **values)


class EventSinkContract:
    """
    Subclasses provide ``make_sink``, ``wanting`` and ``told``.
    """

    # Those of trial's TestCase, which the subclass brings.
    assertEqual: Any
    assertFalse: Any
    assertTrue: Any
    successResultOf: Any

    #: Settings of a bucket of whose objects somebody wants to hear.
    wanting: Mapping[str, bytes]

    def make_sink(self) -> IEventSink:
        """
        A sink that nobody has told anything.
        """
        raise NotImplementedError

    def told(self) -> list[str]:
        """
        The names of the events that arrived, in order.
        """
        raise NotImplementedError

    def test_interface(self) -> None:
        """
        It provides the interface.
        """
        self.assertTrue(verifyObject(IEventSink, self.make_sink()))

    def test_told(self) -> None:
        """
        What is wanted has arrived, in order, when the call returns.
        """
        sink = self.make_sink()
        self.assertTrue(sink.wanted(self.wanting))
        names = ["s3:ObjectCreated:Put", "s3:ObjectRemoved:Delete"]
        for name in names:
            self.successResultOf(Deferred.fromCoroutine(sink.tell(event(name), self.wanting)))
        self.assertEqual(self.told(), names)

    def test_unwanted(self) -> None:
        """
        A bucket that says nothing of events wants none, and telling one is no mistake.
        """
        sink = self.make_sink()
        self.assertFalse(sink.wanted({}))
        self.successResultOf(Deferred.fromCoroutine(sink.tell(event(), {})))
        self.assertEqual(self.told(), [])
