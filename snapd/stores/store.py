"""Where pictures go: the interface of a store, and which one the configuration means."""

from collections.abc import Mapping
from typing import Protocol

from framesrv.settings import StoreSettings
from snapd.stores.facts import JPEG, StoreFacts
from snapd.telemetry.counters import Counters


class Store(Protocol):
    """Keeps pictures; used by several threads at once. Errors are StoreError."""

    def put(self, key: str, content: bytes, content_type: str = JPEG, about: Mapping[str, str] | None = None) -> str:
        """Stores `content` under `key` and gives the URL to fetch it by.

        Args:
            key: a path.
            content: a picture, say.
            content_type: what it is.
            about: names and values, in ASCII, that a store keeps with it if it can.
        """

    def check(self) -> str:
        """Says in a sentence that the store can be reached, or raises StoreError."""

    def begin(self) -> None:
        """Does from now on what is to be done beside."""

    def close(self) -> None:
        """Does that no longer; uploads go on."""

    @property
    def facts(self) -> StoreFacts:
        """What it knows of itself without asking anybody."""


def open_store(settings: StoreSettings, *, connections: int, counters: Counters | None = None) -> Store:
    """The store of the configuration.

    Args:
        settings: the section ``[store]``.
        connections: how many threads will use it at once.
        counters: counts pictures that are removed.

    Raises:
        ConfigError: keys are missing, or have values that cannot be.
    """
    settings.check()
    if settings.kind == "dir":
        from snapd.stores.directory import DirectoryStore

        return DirectoryStore(
            settings.path, settings.base_url, keep=settings.keep, min_free=settings.min_free, counters=counters
        )
    from snapd.stores.cos import CosStore

    return CosStore(settings, connections=connections)
