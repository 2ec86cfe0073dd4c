"""A session with an RTSP camera (RFC 2326): opened, played, kept alive, and ended.

It gives packets of RTP and RTCP as they come; what is in them is others' concern.
"""

import logging
import math
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from types import TracebackType
from typing import Self

from framesrv.camera.sources import reasons
from framesrv.camera.sources.reasons import cannot
from framesrv.camera.sources.rtsp import connection, description
from framesrv.camera.sources.rtsp.address import Address, address_of
from framesrv.camera.sources.rtsp.authentication import Authentication
from framesrv.camera.sources.rtsp.carriers import Carrier, Interleaved
from framesrv.camera.sources.rtsp.connection import EndedError, Packet, StrangeError
from framesrv.camera.sources.rtsp.description import Description, Track
from framesrv.camera.sources.rtsp.dialogue import UNAUTHORIZED, Dialogue
from framesrv.camera.sources.rtsp.message import Request, Response
from framesrv.errors import SourceError, SourceLimitError
from framesrv.process import reaching
from framesrv.settings import Camera

TURN = 1.0  # s without a packet after which whoever asks for them has his turn
GOODBYE = 0.5  # s that ending a session may take
LASTS = 60  # s that a session lasts without a sign of life, if the camera does not say (RFC 2326, 12.37)
EARLY = 3  # times in one such time that it gets one
SLACK = 50_000_000  # ns by which a turn may end early
SHORTEST = 1.0  # s between signs of life, whatever the camera says

NOT_KNOWN = (400, 405, 455, 501, 551)  # answers to OPTIONS of cameras that do not know it
_TIMEOUT = re.compile(r";\s*timeout\s*=\s*(\d+)", re.IGNORECASE)
_ENDS = ("TEARDOWN", "REDIRECT")

logger = logging.getLogger(__name__)


class Session:
    """A session; as a context manager it plays while the block lasts.

    Attributes:
        track: what is played.
        transport: ``tcp``, ``udp`` or ``multicast``.
        sequence: of the first packet, as the camera says; None where it does not.
        rtp_time: its time stamp, the same.
    """

    track: Track
    transport: str
    sequence: int | None = None
    rtp_time: int | None = None

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._address = address_of(camera.source)
        self._authentication = Authentication(self._address.user, self._address.password)
        self._open_things = ExitStack()
        self._dialogue: Dialogue
        self._carrier: Carrier
        self._first: list[Packet] = []  # that came before the answer to PLAY
        self._control = self._address.url
        self._deadline = 0.0
        self._methods: list[str] = []  # of signs of life, the first in use
        self._alive_every = 0.0
        self._played: int | None = None  # the number of the request, until it is answered

    def __enter__(self) -> Self:
        """Opens it.

        Raises:
            SourceError: it cannot be opened.
        """
        self._deadline = time.monotonic() + self._camera.timeout
        try:
            self._open()
        except OSError as error:
            self._open_things.close()
            raise self._explained(error) from error
        except BaseException:
            self._open_things.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_things.close()

    def packets(self) -> Iterator[tuple[bool, memoryview, int] | None]:
        """What comes: whether it is RTCP, bytes that are valid until the next, monotonic nanoseconds of arrival.

        None stands for a turn without a packet; there is at least one turn a second.

        Raises:
            SourceError: the stream has ended or is lost.
        """
        timeout, carrier = self._camera.timeout, self._carrier
        carrier.patience(timeout / math.ceil(timeout / TURN))
        rtp, rtcp = carrier.rtp, carrier.rtcp
        newest = time.monotonic_ns()
        every = int(self._alive_every * 1e9)
        due = newest + every
        silence = int(timeout * 1e9)
        first, self._first = self._first, []
        with _lost():
            for one in chain(first, carrier.incoming()):
                if isinstance(one, tuple):
                    channel, data, now = one
                    if channel == rtp:
                        newest = now
                        yield False, data, now
                        if now < due:
                            continue
                    elif channel == rtcp:
                        yield True, data, now
                else:
                    if one is None:
                        yield None
                    else:
                        self._heard(one)
                    now = time.monotonic_ns()
                if now >= due:
                    due = now + every
                    self._sign_of_life()
                if now - newest >= silence - SLACK:
                    raise SourceError(f"lost: no packet for {timeout:g} s", "timeout")

    def report(self, data: bytes) -> None:
        """Sends a packet of RTCP to the camera.

        Raises:
            SourceError: the connection is lost.
        """
        with _lost():
            self._carrier.report(data)

    def _open(self) -> None:
        address = self._address
        one = connection.connect(address, self._camera.timeout)
        self._open_things.callback(one.close)
        self._dialogue = Dialogue(one, self._authentication)
        options = self._ask("OPTIONS", address.url)
        if not options.ok and options.status not in NOT_KNOWN:
            raise self._refused(options, "OPTIONS")
        public = options.header("public").upper()
        self._methods = ["GET_PARAMETER", "OPTIONS"] if "GET_PARAMETER" in public else ["OPTIONS", "GET_PARAMETER"]
        described, base = self._describe()
        self.track = described.track(0)
        self._control = description.absolute(described.control, base)
        self._carrier = Interleaved(one)
        self._set_up(self._carrier, description.absolute(self.track.control, base))
        self._play()

    def _describe(self) -> tuple[Description, str]:
        """The session, and what its controls are relative to."""
        response = self._ask("DESCRIBE", self._address.url, {"Accept": "application/sdp"})
        if not response.ok:
            raise self._refused(response, "DESCRIBE")
        base = response.header("content-base") or response.header("content-location")
        return description.parse(response.body), base if "://" in base else self._address.url

    def _set_up(self, carrier: Carrier, url: str) -> None:
        response = self._ask("SETUP", url, {"Transport": carrier.wanted})
        if not response.ok:
            raise self._refused(response, "SETUP")
        if not carrier.agreed(response.header("transport")):
            raise cannot(("protocol", f"the camera answers {response.header('transport')} to {carrier.wanted}"))
        self._open_things.callback(self._carrier.close)
        name = response.header("session")
        self._dialogue.session = name.partition(";")[0].strip()
        match = _TIMEOUT.search(name)
        lasts = int(match[1]) if match and int(match[1]) else LASTS
        self._alive_every = max(lasts / EARLY, SHORTEST)
        self.transport = carrier.name
        self._open_things.callback(self._tear_down)

    def _play(self) -> None:
        for _ in range(2):  # a nonce may have become too old
            number = self._dialogue.say("PLAY", self._control, {"Range": "npt=0.000-"})
            one = self._dialogue.answer_or_packet(number, self._deadline)
            if not isinstance(one, Response):
                self._played, self._first = number, [one]
                return
            if self._dialogue.settled(one):
                break
        else:
            raise cannot(self._authentication.refusal())
        self._plays(one)

    def _plays(self, response: Response) -> None:
        """Takes the answer to PLAY."""
        self._played = None
        if not response.ok:
            raise self._refused(response, "PLAY")
        info = response.header("rtp-info")
        for name, attribute in (("seq", "sequence"), ("rtptime", "rtp_time")):
            if match := re.search(rf"[;,]\s*{name}\s*=\s*(\d+)", info):
                setattr(self, attribute, int(match[1]))

    def _ask(self, method: str, url: str, headers: dict[str, str] | None = None) -> Response:
        return self._dialogue.ask(method, url, headers or {}, self._deadline)

    def _heard(self, one: Response | Request) -> None:
        """Sees to what comes between packets."""
        if isinstance(one, Request):
            self._dialogue.reply(one)
            if one.method in _ENDS:
                raise SourceError("the camera ended the stream", "ended")
        elif self._played is not None and one.number == self._played:
            self._plays(one)
        elif self._dialogue.settled(one) and not one.ok:
            if one.status == 454:
                raise SourceError("lost: the camera has ended the session (454 Session Not Found)", "ended")
            self._methods = [*self._methods[1:], self._methods[0]]

    def _sign_of_life(self) -> None:
        self._dialogue.say(self._methods[0], self._control)

    def _tear_down(self) -> None:
        try:
            number = self._dialogue.say("TEARDOWN", self._control)
            self._dialogue.answer(number, time.monotonic() + GOODBYE)
        except (OSError, StopIteration, SourceLimitError) as error:
            logger.debug("the session was not ended: %s", error or "its connection was lost before")

    def _refused(self, response: Response, method: str) -> SourceError:
        """Of an answer that is no success."""
        known = {UNAUTHORIZED: self._authentication.refusal(), 403: reasons.FORBIDDEN, 404: reasons.NOT_FOUND}
        return cannot(known.get(response.status) or reasons.answers(response.words, method))

    def _explained(self, error: OSError) -> SourceError:
        """Of a connection that cannot be made, or breaks before anything is played."""
        at: Address = self._address
        if reason := reaching.explain(error, at.host, at.port):
            return cannot(reason)
        if isinstance(error, TimeoutError):
            return reasons.no_answer(self._camera.timeout)
        if isinstance(error, StrangeError):
            return cannot(reasons.strange(at.scheme, at.where, error.begin))
        if isinstance(error, EndedError | ConnectionError):
            if self._dialogue.answered:
                return cannot(("ended", f"the camera ends the connection when it is asked to {self._dialogue.asked}"))
            return cannot(reasons.unanswered(at.scheme, at.host, at.port))
        return cannot(("", error.strerror or str(error)))


@contextmanager
def _lost() -> Iterator[None]:
    """Says of a connection that breaks while the stream is played that it is lost."""
    try:
        yield
    except EndedError as error:
        raise SourceError("the camera ended the stream", "ended") from error
    except OSError as error:
        raise SourceError(f"lost: {error.strerror or error}", "lost") from error
