# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A proxy in front of a server that can be told to break.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from enum import Enum
from typing import Any

from attrs import define, field

_BLOCK = 65536

#: Makes the system send a reset when a socket is closed.
_RESET = struct.pack("ii", 1, 0)


class Fault(Enum):
    """
    What a proxy does.
    """

    NONE = "pass everything on"
    REFUSE = "refuse connections, and break off those that are open"
    HANG = "pass nothing on, on connections old and new"
    RESET = "break off when something comes"
    SLOW = "pass everything on a while later"


@define(eq=False)
class BreakingProxy:
    """
    A proxy on loopback, in a thread of its own.

    :ivar target: The port to pass everything on to.
    """

    port: int
    target: int
    pause: float = 1.5
    _fault: Fault = Fault.NONE
    _loop: asyncio.AbstractEventLoop = field(init=False, factory=asyncio.new_event_loop)
    _server: asyncio.Server | None = field(init=False, default=None)
    _writers: set[asyncio.StreamWriter] = field(init=False, factory=set)
    _tasks: set["asyncio.Task[None]"] = field(init=False, factory=set)
    _going: asyncio.Event = field(init=False, factory=asyncio.Event)
    _thread: threading.Thread = field(init=False)

    def start(self) -> None:
        """
        Listen.
        """
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._going.set()
        self._do(self._listen())

    def set(self, fault: Fault) -> None:
        """
        Behave so from now on.
        """
        self._do(self._set(fault))

    def stop(self) -> None:
        """
        Break off everything, and end.
        """
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _set(self, fault: Fault) -> None:
        before, self._fault = self._fault, fault
        if fault is Fault.HANG:
            self._going.clear()
        else:
            self._going.set()
        if fault is Fault.REFUSE:
            await self._close()
        elif before is Fault.REFUSE:
            await self._listen()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.update((writer, back))
        for one, other in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass(one, other, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
    ) -> None:
        try:
            while block := await reader.read(_BLOCK):
                if self._fault is Fault.RESET:
                    raw = client.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    client.transport.abort()
                    return
                if self._fault is Fault.SLOW:
                    await asyncio.sleep(self.pause)
                await self._going.wait()
                writer.write(block)
                await writer.drain()
        except OSError:
            # Either end may break off at any time.
            writer.transport.abort()
        finally:
            writer.close()
            self._writers.discard(writer)
