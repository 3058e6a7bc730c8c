# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes_hook``.
"""

from typing import Any

from attrs import define
from twisted.internet import reactor

from kypello.kes.auditconfig import HookSettings
from kypello.kes_hook import WAITING, Hook
from kypello.testing.fakes import InlineLanes
from tests.cases import AsyncCase
from tests.integration.emulators import Asked, Served, Told


@define
class Later:
    """
    The reactor, some time later.
    """

    _reactor: Any
    ahead: float = 0.0

    def seconds(self) -> float:
        """
        What the clock says.
        """
        now: float = self._reactor.seconds()
        return now + self.ahead

    def __getattr__(self, name: str) -> Any:
        """
        Everything else is the reactor's.
        """
        return getattr(self._reactor, name)


class HookTests(AsyncCase):
    """
    ``Hook`` sends lines.
    """

    def setUp(self) -> None:
        """
        A webhook, and what sends to it.
        """
        self.status = 200
        self.served = Served(self.answer)
        self.served.start()
        self.addCleanup(self.served.stop)
        self.later = Later(reactor)
        self.hook = Hook(self.later, InlineLanes())
        self.hook.use(HookSettings(f"{self.served.url}/kes", "opensesame"))

    def answer(self, _asked: Asked) -> Told:
        """
        What the webhook says.
        """
        return Told(None, self.status)

    def bodies(self) -> list[bytes]:
        """
        What was sent to it.
        """
        return [asked.body for asked in self.served.asked]

    async def test_order(self) -> None:
        """
        Lines go in order, together, once, with the token.
        """
        self.hook.tell(b"{1}")
        self.hook.tell(b"{2}")
        await self.hook.flush()
        await self.hook.flush()
        self.assertEqual(self.bodies(), [b"{1}\n{2}\n"])
        (asked,) = self.served.asked
        self.assertEqual((asked.method, asked.path), ("POST", "/kes"))
        self.assertEqual(asked.headers["authorization"], "Bearer opensesame")
        self.assertEqual(asked.headers["content-type"], "application/x-ndjson")
        self.assertNotIn("opensesame", repr(self.hook))

    async def test_again(self) -> None:
        """
        What is not taken is sent again after a pause, before what came later.
        """
        self.status = 503
        self.hook.tell(b"{1}")
        await self.hook.flush()
        self.hook.tell(b"{2}")
        await self.hook.flush()
        self.assertEqual(self.bodies(), [b"{1}\n"])
        self.later.ahead += 1.5
        await self.hook.flush()
        self.status = 204
        self.later.ahead += 1.5
        await self.hook.flush()
        self.assertEqual(len(self.served.asked), 2)
        self.later.ahead += 1.0
        await self.hook.flush()
        self.assertEqual(self.bodies()[1:], [b"{1}\n{2}\n"] * 2)

    async def test_bounded(self) -> None:
        """
        What waits is bounded; what finds no room is lost, and the rest comes in requests of
        some size.
        """
        line = b"x" * (WAITING // 1000)
        for _ in range(1100):
            self.hook.tell(line)
        await self.hook.flush()
        self.assertEqual([body.count(b"\n") for body in self.bodies()], [500, 500])
        self.hook.tell(b"{9}")
        await self.hook.flush()
        self.assertEqual(self.bodies()[-1], b"{9}\n")

    async def test_elsewhere(self) -> None:
        """
        What waits goes where the configuration says by then, and nowhere when it says so.
        """
        self.hook.tell(b"{1}")
        self.hook.use(HookSettings(f"{self.served.url}/other"))
        await self.hook.flush()
        (asked,) = self.served.asked
        self.assertEqual((asked.path, asked.body), ("/other", b"{1}\n"))
        self.assertNotIn("authorization", asked.headers)
        self.hook.tell(b"{2}")
        self.hook.use(None)
        self.hook.tell(b"{3}")
        await self.hook.flush()
        self.assertEqual(len(self.served.asked), 1)

    async def test_close(self) -> None:
        """
        The end tries once more, whatever failed before.
        """
        self.status = 500
        self.hook.tell(b"{1}")
        await self.hook.flush()
        self.status = 200
        await self.hook.close()
        self.assertEqual(self.bodies(), [b"{1}\n"] * 2)
