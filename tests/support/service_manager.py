"""The service manager's end of sd_notify(3): a real datagram socket, and what came to it."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.background import Background
from tests.support.processes import wait_for


@dataclass(frozen=True)
class Message:
    """One datagram: its fields, and the monotonic time at which it came."""

    at: float
    fields: dict[str, str] = field(default_factory=dict)


class Manager(Background):
    """Listens as systemd does; `environment` is for the process that is to notify it."""

    def __init__(self, address: str | Path, watchdog: float | None = None) -> None:
        super().__init__()
        self._address = str(address)
        self.messages: list[Message] = []
        self._looked_at = 0
        self.environment = {"NOTIFY_SOCKET": self._address}
        if watchdog is not None:
            self.environment["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self._address[1:] if self._address.startswith("@") else self._address)

    def run(self) -> None:
        """See `Background.run`."""
        with self._socket:
            self._listen()

    def end(self) -> None:
        """See `Background.end`."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while datagram := self._socket.recv(65536):
            fields = dict(line.split("=", 1) for line in datagram.decode().splitlines())
            self.messages.append(Message(time.monotonic(), fields))

    def named(self, name: str) -> list[Message]:
        """Those that have this field."""
        return [message for message in self.messages if name in message.fields]

    def count(self, name: str) -> int:
        return len(self.named(name))

    @property
    def statuses(self) -> list[str]:
        return [message.fields["STATUS"] for message in self.named("STATUS")]

    def wait(self, name: str, number: int = 1, timeout: float = 60.0) -> Message:
        """The `number`-th message with this field."""
        wait_for(lambda: self.count(name) >= number, f"{number} {name}; statuses {self.statuses}", timeout)
        return self.named(name)[number - 1]

    def wait_status(self, condition: Callable[[str], object], what: str, timeout: float = 60.0) -> str:
        """The next such status after the one that was last waited for."""

        def look() -> bool:
            for number, status in enumerate(self.statuses[self._looked_at :], self._looked_at + 1):
                if condition(status):
                    self._looked_at = number
                    return True
            return False

        wait_for(look, f"{what}; statuses {self.statuses}", timeout)
        return self.statuses[self._looked_at - 1]

    def silent_for(self, name: str) -> float:
        """Seconds since such a message came."""
        return time.monotonic() - self.named(name)[-1].at


def abstract(name: str) -> str:
    """An address in the abstract namespace."""
    return f"@{name}-{os.getpid()}"
