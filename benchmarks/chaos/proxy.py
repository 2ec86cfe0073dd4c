"""A TCP proxy that can be told to misbehave: the network between two programs, as far as they can tell.

Each link has a port of its own and one place it leads to. It runs in a thread; what it is told takes effect at
once, for the connections there are and for those that come.
"""

import asyncio
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Literal

from tests.support.background import Background

Mode = Literal["open", "cut", "stall", "delay"]

CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)  # no lingering turns close() into RST (socket(7))


class Link:
    """One port that leads to another.

    | mode  | what happens to what is sent |
    |-------|------------------------------|
    | open  | it arrives |
    | cut   | every connection is reset, and each new one |
    | stall | nothing arrives until the mode changes; then all of it, even if the sender has long given up |
    | delay | every chunk arrives `delay` seconds later |
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._mode: Mode = "open"
        self._delay = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def set(self, mode: Mode, delay: float) -> None:
        self._mode, self._delay = mode, delay if mode == "delay" else 0.0
        if mode == "stall":
            self._flows.clear()
        else:
            self._flows.set()
        if mode == "cut":
            for writer in self._writers:
                _reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "cut":
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # nobody is there: the caller meets what he would meet without a proxy, only later
            _reset(writer)
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one direction to its end, and then closes the other side."""
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                await self._flows.wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                writer.write(chunk)
                await writer.drain()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


class Proxy(Background):
    """Links, in a thread that ends with the block."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._links: dict[str, Link] = {}

    def run(self) -> None:
        """See `Background.run`."""
        self._loop.run_forever()

    def end(self) -> None:
        """See `Background.end`."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def link(self, name: str, target: int) -> int:
        """Makes a link to a port of this machine; the port it is reached by."""
        link = self._links[name] = Link(target)
        self._do(link.open())
        return link.port

    def set(self, name: str, mode: Mode, delay: float = 0.0) -> None:
        """Tells one link how to behave from now on."""
        self._do(self._links[name].set(mode, delay))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(5)
