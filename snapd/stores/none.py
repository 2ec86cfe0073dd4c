"""No store: of those who take no pictures."""

from collections.abc import Mapping

from snapd.errors import StoreError
from snapd.stores.facts import StoreFacts


class NoStore:
    """Stands where a `Store` does."""

    facts = StoreFacts()

    def put(self, key: str, content: bytes, content_type: str = "", about: Mapping[str, str] | None = None) -> str:
        """Raises StoreError."""
        raise StoreError(f"there is no store for {key} ({len(content)} bytes of {content_type}, {about})", "refused")

    def check(self) -> str:
        """Says that none is needed."""
        return "no store is needed"

    def begin(self) -> None:
        """There is nothing to be done."""

    def close(self) -> None:
        """There is nothing to be done."""
