"""A server of bare TCP, a thread for each connection: what those stand on that mean no good."""

import socket
import threading
from contextlib import suppress

from tests.support.background import Background


class TcpServer(Background):
    """On 127.0.0.1, at a port that the system chooses, while a block lasts.

    Attributes:
        port: its port.
        connections: how many came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def serve(self, connection: socket.socket) -> None:
        """Answers one connection; that it ends under this is no error."""
        raise NotImplementedError

    def run(self) -> None:
        """See `Background.run`."""
        with self._listener:
            self._accept()

    def end(self) -> None:
        """See `Background.end`."""
        self._listener.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener's end
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:  # the client's end
            self.serve(connection)
