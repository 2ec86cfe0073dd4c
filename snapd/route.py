"""The service of a router: it moves requests to the hosts that have their cameras, and answers what no host can.

For that it is a host itself, without cameras, that reads a stream of the routers' own.
"""

import logging
import socket
from collections.abc import Callable

import msgspec

from framesrv.process.report import Report
from framesrv.settings import NOBODY, Settings, SnapshotSettings, StoreSettings
from snapd.configured import Configured
from snapd.requests import fleet
from snapd.requests.cluster import RedisClient
from snapd.routing.router import Router
from snapd.service import Service
from snapd.stores.none import NoStore
from snapd.telemetry.counters import Counters
from snapd.telemetry.trace import Listener

logger = logging.getLogger(__name__)


class RouteService(Service):
    """Routes and answers until `stop` is called."""

    def __init__(
        self,
        configured: Configured,
        client: RedisClient,
        on_change: Callable[[], object] = lambda: None,
        on_answered: Listener = lambda _: None,
        counters: Counters | None = None,
    ) -> None:
        super().__init__(configured, client, on_change, on_answered, counters)
        self._router = Router(configured.settings, client, self._counters, self._refusals, on_change)

    @classmethod
    def own_store(cls) -> NoStore:
        """See `Service.own_store`."""
        return NoStore()

    @classmethod
    def own(cls, settings: Settings) -> Settings:
        """A configuration as a router has it: no cameras, no store, its own place on the stream and for its pages."""
        return msgspec.structs.replace(
            settings,
            cameras=(),
            stream=fleet.of_host(settings.stream, NOBODY, f"route-{socket.gethostname()}"),
            store=StoreSettings(),
            snapshot=SnapshotSettings(deadline=settings.snapshot.deadline, workers=settings.snapshot.workers),
            http=msgspec.structs.replace(settings.http, listen=settings.route.listen),
        )

    @property
    def away(self) -> str:
        """Why Redis cannot be read; empty if it can, as far as is known."""
        return self._router.away or super().away

    @property
    def status(self) -> str:
        """How it does, in words."""
        words = super().status
        if self._stopped.is_set() or not self.joined or self.away:
            return words
        routing = f"routing to {self._router.words}"
        strangers = (
            f"; not routers, and reading with them: {self._router.strangers}" if self._router.strangers else ""
        )
        return f"{words}; {routing}{strangers}"

    @property
    def report(self) -> Report:
        """How it does, for everybody on this host."""
        return msgspec.structs.replace(
            super().report, status=self.status, strangers=self._router.strangers, away=self.away, hang=self.hang
        )

    @property
    def hang(self) -> str:
        """What hangs; empty if nothing does."""
        return super().hang or self._router.hang

    def run(self) -> None:
        """Serves until what was in hand at `stop` is done."""
        self._router.start()
        try:
            super().run()
        finally:
            self._router.stop()
            self._router.end()

    def stop(self) -> None:
        """Takes no more requests. For any thread, but not for a signal handler."""
        self._router.stop()
        super().stop()
