# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of the fakes.
"""

from zope.interface.verify import verifyObject

from kypello.errors import BodyTimeout
from kypello.interfaces import IBodySource, ILane, ILanes
from kypello.testing.fakes import BytesSource, InlineLanes
from tests.cases import AsyncCase


class InlineLanesTests(AsyncCase):
    """
    Lanes that run their calls at once.
    """

    def test_interfaces(self) -> None:
        """
        They provide the seams.
        """
        lanes = InlineLanes()
        verifyObject(ILanes, lanes)
        verifyObject(ILane, lanes.lane())

    async def test_run(self) -> None:
        """
        A lane gives results, raises what its call raises and counts both.
        """
        lanes = InlineLanes()
        lane = lanes.lane()
        self.assertEqual(await lane.run(divmod, 7, 2), (3, 1))
        with self.assertRaises(ZeroDivisionError):
            await lane.run(divmod, 7, 0)
        self.assertEqual([made.calls for made in lanes.made], [2])


class BytesSourceTests(AsyncCase):
    """
    A body from memory.
    """

    def test_interface(self) -> None:
        """
        It provides the seam.
        """
        verifyObject(IBodySource, BytesSource([]))

    async def test_blocks(self) -> None:
        """
        Blocks come in order without the empty ones, then the end for ever.
        """
        source = BytesSource([b"one", b"", b"two"])
        self.assertEqual(source.size, 6)
        self.assertEqual([await source.read() for _ in range(4)], [b"one", b"two", b"", b""])
        self.assertEqual(source.reads, 4)

    async def test_failure(self) -> None:
        """
        A failure comes in place of the end, and the size is unknown.
        """
        source = BytesSource([b"one"], BodyTimeout())
        self.assertIsNone(source.size)
        self.assertEqual(await source.read(), b"one")
        with self.assertRaises(BodyTimeout):
            await source.read()

    async def test_close(self) -> None:
        """
        Nothing follows once it is closed.
        """
        source = BytesSource([b"one"])
        source.close()
        source.close()
        self.assertTrue(source.closed)
        self.assertEqual(await source.read(), b"")
