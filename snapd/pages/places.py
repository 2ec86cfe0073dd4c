"""Places for those who want what lasts: so many and no more, however many come at the same instant."""

from snapd.pages.pictures import BusyError


class Place:
    """One that is taken, until `leave` is called."""

    def __init__(self, places: "Places") -> None:
        self._places: Places | None = places

    def leave(self) -> None:
        """Gives it back; safe to call again."""
        if self._places is not None:
            self._places.taken -= 1
            self._places = None


class Places:
    """For the event loop's thread.

    Args:
        number: how many there are.
        what: is done by those who have one.

    Attributes:
        taken: how many are.
    """

    def __init__(self, number: int, what: str) -> None:
        self.taken = 0
        self._number, self._what = number, what

    def take(self) -> Place:
        """One of them. Raises BusyError if there is none left."""
        if self.taken >= self._number:
            raise BusyError(f"{self._number} {self._what} at once, and no more; try again when one has ended.")
        self.taken += 1
        return Place(self)
