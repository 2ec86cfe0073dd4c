"""How large pictures may be: a stream with larger ones is refused, whoever notices that first."""

from framesrv.errors import SourceLimitError
from framesrv.settings import Camera


class SizeLimit:
    """That of one camera.

    Args:
        camera: whose ``max_pixels`` counts.
    """

    def __init__(self, camera: Camera) -> None:
        self._pixels = camera.max_pixels

    @property
    def options(self) -> dict[str, str]:
        """Of a codec's, which refuses larger pictures too."""
        return {"max_pixels": str(self._pixels)}

    def checked(self, width: int, height: int) -> tuple[int, int]:
        """The size, if it may be. Raises SourceLimitError if not."""
        if width * height > self._pixels:
            raise self.exceeded(f"{width}x{height}")
        return width, height

    def exceeded(self, size: str) -> SourceLimitError:
        """That pictures have that size, as ``16384x8192``."""
        return SourceLimitError(f"its pictures of {size} are larger than max_pixels = {self._pixels} allows")
