"""What of a stream is decoded: ``all``, ``keyframes`` or ``fps:N``."""

SLACK = 0.1  # of the interval: a camera's own jitter must not cost every other frame


class Policy:
    """A decode policy as the configuration writes it.

    Attributes:
        keyframes: only key frames are decoded.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.keyframes = text == "keyframes"
        self._interval = int(1e9 / float(text.removeprefix("fps:"))) if text.startswith("fps:") else 0
        self._due = 0

    def wants(self, arrived: int) -> bool:
        """Whether a frame that arrived at this monotonic time, in nanoseconds, is to be published."""
        if not self._interval:
            return True
        if arrived + self._interval * SLACK < self._due:
            return False
        # counted from when it was due, so that the rate holds over time; from now, after a pause
        late = arrived - self._due
        self._due = (arrived if late > self._interval else self._due) + self._interval
        return True
