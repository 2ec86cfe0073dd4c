"""A session with an RTSP camera (RFC 2326): opened, played, kept alive, and ended.

It gives packets of RTP and RTCP as they come; what is in them is others' concern.
"""

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from types import TracebackType
from typing import Self

from framesrv.camera.sources.address import address_of
from framesrv.camera.sources.experience import Experience
from framesrv.camera.sources.reasons import CANNOT
from framesrv.camera.sources.rtsp.connection import EndedError
from framesrv.camera.sources.rtsp.description import Track
from framesrv.camera.sources.rtsp.message import Request, Response
from framesrv.camera.sources.rtsp.opening import Opening, TransportRefusedError
from framesrv.errors import SourceError
from framesrv.settings import Camera

TURN = 1.0  # s without a packet after which whoever asks for them has his turn
SLACK = 50_000_000  # ns by which a turn may end early
NO_SUCH_SESSION = 454
_ENDS = ("TEARDOWN", "REDIRECT")


class Session:
    """A session; as a context manager it plays while the block lasts.

    Args:
        camera: which one; raises SourceUsageError if its source is no address.
        experience: with it from earlier sessions.

    Attributes:
        track: what is played.
        transport: ``tcp``, ``udp``, ``multicast`` or ``http``.
    """

    track: Track
    transport: str

    def __init__(self, camera: Camera, experience: Experience | None = None) -> None:
        self._camera = camera
        self._address = address_of(camera.source)
        self._experience = experience or Experience(camera)
        self._things = ExitStack()
        self._opening: Opening

    @property
    def sequence(self) -> int | None:
        """Of the first packet, as the camera says; None where it does not."""
        return self._of_info("seq")

    @property
    def rtp_time(self) -> int | None:
        """The time stamp of the first packet, as the camera says; None where it does not."""
        return self._of_info("rtptime")

    @property
    def offered(self) -> tuple[str, ...]:
        """The ways to give a password that the camera has asked for, as ``Digest MD5``."""
        return self._opening.offered

    def __enter__(self) -> Self:
        """Opens it.

        Raises:
            SourceError: it cannot be opened.
        """
        refusals: list[str] = []
        for way in self._experience.ways:
            try:
                self._open(way)
            except TransportRefusedError as error:
                refusals.append(str(error) if not refusals else str(error).removeprefix(CANNOT))
            else:
                self._experience.agreed(way)
                self.track, self.transport = self._opening.track, way
                return self
        raise SourceError("; ".join(refusals), "refused")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gather(None)  # nobody waits for a camera's goodbye longer than he must
        self._things.close()

    def packets(self) -> Iterator[tuple[bool, list[memoryview], int] | None]:
        """What comes: whether it is RTCP, packets, valid until more is asked for, monotonic nanoseconds of arrival.

        None stands for a turn without packets; there is at least one turn a second.

        Raises:
            SourceError: the stream has ended or is lost.
        """
        timeout, carrier = self._camera.timeout, self._opening.carrier
        carrier.patience(timeout / math.ceil(timeout / TURN))
        rtp, rtcp = carrier.rtp, carrier.rtcp
        newest = time.monotonic_ns()
        every, silence = int(self._opening.every * 1e9), int(timeout * 1e9) - SLACK
        due = newest + every
        came = False
        first, self._opening.first = self._opening.first, []
        with _lost():
            for one in chain(first, carrier.incoming()):
                if isinstance(one, tuple):
                    channel, packets, now = one
                    if channel == rtp:
                        newest = now
                        if not came:
                            came = True
                            self._experience.came()
                        yield False, packets, now
                        if now < due:
                            continue
                    elif channel == rtcp:
                        yield True, packets, now
                else:
                    self._heard(one)
                    yield None
                    now = time.monotonic_ns()
                if now >= due:
                    due = now + every
                    self._sign_of_life()
                if now - newest >= silence:
                    raise self._silent()

    @property
    def newest(self) -> int:
        """When the newest of what has been taken in arrived, in monotonic ns; 0 where nothing waits."""
        return self._opening.carrier.newest

    def gather(self, may_wait: Callable[[], bool] | None) -> None:
        """Lets what comes wait for more while that says that it may; see `Connection.gather`."""
        self._opening.carrier.gather(may_wait)

    def report(self, data: bytes) -> None:
        """Sends a packet of RTCP to the camera.

        Raises:
            SourceError: the connection is lost.
        """
        with _lost():
            self._opening.carrier.report(data)

    def missed(self) -> None:
        """Packets are missing between those that came.

        Raises:
            SourceError: so many that another transport is to be tried.
        """
        if self._experience.missed():
            raise SourceError("lost: packets are lost over UDP, TCP is tried", "lost")

    def _open(self, way: str) -> None:
        with ExitStack() as things:
            self._opening = Opening(self._camera, self._address, self._experience, way, things)
            try:
                self._opening.run()
            except SourceError as error:
                if error.cause == "timeout" and self._opening.connected:
                    self._experience.late()
                raise
            self._things = things.pop_all()

    def _heard(self, one: Response | Request | None) -> None:
        """Sees to what comes between packets."""
        dialogue = self._opening.dialogue
        if isinstance(one, Request):
            dialogue.reply(one)
            if one.method in _ENDS:
                raise SourceError("the camera ended the stream", "ended")
        elif one is None:
            return
        elif self._opening.asked is not None and one.sequence == self._opening.asked:
            self._opening.played(one)
        elif dialogue.settled(one) and not one.ok:
            if one.status == NO_SUCH_SESSION:
                raise SourceError("the camera ended the session (454 Session Not Found)", "ended")
            self._opening.methods.reverse()  # it takes this one ill

    def _sign_of_life(self) -> None:
        self._opening.dialogue.offer(self._opening.methods[0], self._opening.control)

    def _silent(self) -> SourceError:
        advice = self._experience.fruitless(self._opening.choice)
        words = f"lost: no packet for {self._camera.timeout:g} s"
        return SourceError(f"{words}; {advice}" if advice else words, "timeout")

    def _of_info(self, name: str) -> int | None:
        match = re.search(rf"[;,]\s*{name}\s*=\s*(\d{{1,10}})", self._opening.info)
        return int(match[1]) if match else None


@contextmanager
def _lost() -> Iterator[None]:
    """Says of a connection that breaks while the stream is played that it is lost."""
    try:
        yield
    except EndedError as error:
        raise SourceError("the camera ended the stream", "ended") from error
    except OSError as error:
        raise SourceError(f"lost: {error.strerror or error}", "lost") from error
