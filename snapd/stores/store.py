"""Where pictures go: the interface of a store, and which one the configuration means."""

from typing import Protocol

from framesrv.settings import StoreSettings
from snapd.stores.facts import StoreFacts


class Store(Protocol):
    """Keeps pictures; used by several threads at once. Errors are StoreError."""

    def put(self, key: str, jpeg: bytes) -> str:
        """Stores `jpeg` under `key` and gives the URL to fetch it by."""

    def check(self) -> str:
        """Says in a sentence that the store can be reached, or raises StoreError."""

    @property
    def facts(self) -> StoreFacts:
        """What it knows of itself without asking anybody."""


def open_store(settings: StoreSettings, *, connections: int) -> Store:
    """The store of the configuration.

    Args:
        settings: the section ``[store]``.
        connections: how many threads will use it at once.

    Raises:
        ConfigError: keys are missing, or have values that cannot be.
    """
    settings.check()
    if settings.kind == "dir":
        from snapd.stores.directory import DirectoryStore

        return DirectoryStore(settings.path, settings.base_url)
    from snapd.stores.cos import CosStore

    return CosStore(settings, connections=connections)
