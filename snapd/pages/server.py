"""uvicorn with bounds on what a connection may cost, and without its clock: nothing here wakes ten times a second.

A connection is cut off that sends no whole request for a while, or does not take what it is sent. Beyond so many
connections further ones are closed at once.
"""

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 256
REQUEST_TIMEOUT = 10.0  # s from the connection, or the last response, to the end of a request's headers
WRITE_TIMEOUT = 10.0  # s in which a viewer must have taken something of what waits for it
KEEP_ALIVE = 60  # s; longer than a page waits between two looks
HEADERS = 16384  # bytes


class Connection(H11Protocol):
    """One connection."""

    _request_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes it, or closes it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        else:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets it."""
        _cancel(self._request_timer)
        _cancel(self._write_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes a part of a request."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._request_timer)
        elif self._request_timer is None or self._request_timer.cancelled():
            self._await_request()

    def on_response_complete(self) -> None:
        """Waits for the next request, for as long as an idle connection is kept."""
        _cancel(self._request_timer)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Gives a viewer that does not read a while."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads."""
        _cancel(self._write_timer)
        super().resume_writing()

    def _await_request(self) -> None:
        self._request_timer = self.loop.call_later(REQUEST_TIMEOUT, self.transport.abort)


class Server(uvicorn.Server):
    """Serves `app` until `end` is set, and then ends every connection at once."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                backlog=CONNECTIONS // 2,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=1,
                h11_max_incomplete_event_size=HEADERS,
            )
        )
        self.end = asyncio.Event()

    async def run_on(self, listener: socket.socket) -> None:
        """Serves those who connect to `listener`."""
        await self._serve([listener])

    async def main_loop(self) -> None:
        """Waits for the end."""
        await self.end.wait()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
