"""Opening a session with an RTSP camera: connecting, asking what it plays, setting one track up, and playing it."""

import re
import time
from contextlib import ExitStack
from urllib.parse import urljoin

from framesrv.camera.sources import reasons
from framesrv.camera.sources.address import Address, address_of
from framesrv.camera.sources.authentication import Authentication
from framesrv.camera.sources.experience import Experience
from framesrv.camera.sources.reasons import CANNOT, Reason, cannot
from framesrv.camera.sources.rtsp import connection, description
from framesrv.camera.sources.rtsp.carriers import Carrier, Interleaved
from framesrv.camera.sources.rtsp.connection import EndedError, Packets, StrangeError
from framesrv.camera.sources.rtsp.datagrams import Datagrams, Group
from framesrv.camera.sources.rtsp.description import Description, Track
from framesrv.camera.sources.rtsp.dialogue import UNAUTHORIZED, Dialogue
from framesrv.camera.sources.rtsp.message import Response
from framesrv.errors import SourceError, SourceUsageError
from framesrv.process import reaching
from framesrv.settings import Camera

REDIRECTS = 5
LASTS = 60  # s that a session lasts without a sign of life, if the camera does not say (RFC 2326, 12.37)
EARLY = 3  # times in one such time that it gets one
SHORTEST = 1.0  # s between signs of life, whatever the camera says
NO_OPTIONS = 0.25  # of the time of an opening, after which a camera that answers no OPTIONS is asked for more

_UNKNOWN_METHOD = (400, 405, 455, 501, 551)  # answers to OPTIONS of cameras that do not know it
_ELSEWHERE = (301, 302, 303, 307, 308)
_NOT_THE_WAY = (401, 403, 404, 453, 454, 503)  # answers to SETUP that another transport would get as well
_TIMEOUT = re.compile(r";\s*timeout\s*=\s*(\d{1,9})", re.IGNORECASE)


class TransportRefusedError(SourceError):
    """A camera that describes its stream does not send it the way that it was asked to."""


class Opening:
    """One attempt to open a session.

    Args:
        camera: which one.
        address: where it is.
        experience: with it.
        way: of packets, as ``transport`` in the configuration.
        things: gets what is to be undone at the end.

    Attributes:
        connected: whether somebody was there.
        dialogue: with the camera.
        carrier: of its packets.
        track: the one that is played.
        choice: among how many tracks it was chosen.
        control: the URL of the session.
        methods: of signs of life, the best first.
        every: seconds between those.
        first: packets that came before the answer to PLAY.
        asked: the number of the request to play, while it has no answer.
        info: the answer's ``RTP-Info``.
    """

    dialogue: Dialogue
    carrier: Carrier
    track: Track

    def __init__(self, camera: Camera, address: Address, experience: Experience, way: str, things: ExitStack) -> None:
        self._camera, self._experience, self._way, self._things = camera, experience, way, things
        self._address = address
        self._authentication = Authentication(self._address.user, self._address.password)
        self._deadline = time.monotonic() + experience.patience
        self.connected = False
        self.choice = 1
        self.control = self._address.url
        self.methods: list[str] = []
        self.every = LASTS / EARLY
        self.first: list[Packets] = []
        self.asked: int | None = None
        self.info = ""

    @property
    def offered(self) -> tuple[str, ...]:
        """The ways to give a password that the camera has asked for, as ``Digest MD5``."""
        return self._authentication.offered

    def run(self) -> None:
        """Opens it.

        Raises:
            TransportRefusedError: the camera takes another way, if any.
            SourceError: it cannot be opened.
        """
        try:
            described, base = self._describe()
            self._choose(described)
            self.control = description.absolute(described.control, base)
            self.carrier = self._carrier()
            self._things.callback(self.carrier.close)
            self._set_up(description.absolute(self.track.control, base))
            self._play()
        except OSError as error:
            raise self._explained(error) from error
        except StopIteration as error:  # of a connection that was lost before
            raise self._explained(EndedError()) from error

    def played(self, response: Response) -> None:
        """Takes the answer to PLAY."""
        self.asked = None
        if not response.ok:
            raise self._refused(response, "PLAY")
        self.info = response.header("rtp-info")

    def _describe(self) -> tuple[Description, str]:
        """The session, and what its controls are relative to."""
        for _ in range(REDIRECTS + 1):
            self._connect()
            response, method = self._greet(), "OPTIONS"
            if response is None:
                response, method = self._ask("DESCRIBE", self._address.url, {"Accept": "application/sdp"}), "DESCRIBE"
            if response.ok:
                base = response.header("content-base") or response.header("content-location")
                return description.parse(response.body), base if "://" in base else self._address.url
            if response.status not in _ELSEWHERE or not response.header("location"):
                raise self._refused(response, method)
            self._follow(response.header("location"))
        raise cannot(("protocol", f"it leads from one address to the next, {REDIRECTS} times"))

    def _connect(self) -> None:
        context = None
        if self._address.secure:
            from framesrv.camera.sources import tls  # and OpenSSL, which few cameras need

            context = tls.context_of(self._camera, self._experience.told)
        left = self._deadline - time.monotonic()
        if self._way == "http":
            from framesrv.camera.sources.rtsp import tunnel  # which few cameras need

            one = tunnel.connect(self._address, left, context)
        else:
            one = connection.connect(self._address, left, context)
        self.connected = True
        self._things.callback(one.close)
        self.dialogue = Dialogue(one, self._authentication)

    def _greet(self) -> Response | None:
        """Asks for the camera's methods; gives the answer where that ends the attempt."""
        self.methods = ["OPTIONS", "GET_PARAMETER"]
        soon = time.monotonic() + NO_OPTIONS * (self._deadline - time.monotonic())
        try:
            response = self.dialogue.ask("OPTIONS", self._address.url, {}, soon)
        except TimeoutError:
            return None
        if "GET_PARAMETER" in response.header("public").upper():
            self.methods.reverse()
        return None if response.ok or response.status in _UNKNOWN_METHOD else response

    def _follow(self, location: str) -> None:
        """Goes on at another address; never from TLS to none, and to RTSP alone."""
        try:
            url = urljoin(self._address.url, location)
        except ValueError as error:  # what is in brackets there is no number
            raise cannot(("protocol", f"it leads to {location!r}, which is no address")) from error
        scheme = url.partition(":")[0].lower()
        if scheme not in ("rtsp", "rtsps") or (self._address.secure and scheme == "rtsp"):
            raise cannot(reasons.leads_to(scheme))
        before = self._address
        try:
            self._address = address_of(url)
        except SourceUsageError as error:  # the camera's mistake, which it may mend
            raise cannot(("protocol", f"it leads to {url!r}, which is no address")) from error
        user, password = self._address.user or before.user, self._address.password or before.password
        self._authentication = Authentication(user, password)
        self.control = self._address.url

    def _choose(self, described: Description) -> None:
        number = self._camera.track
        known = [place for place, track in enumerate(described.tracks, 1) if track.known]
        if not number and len(known) > 1:
            self.choice = len(known)
            number = known[self._experience.track % len(known)]
        self.track = described.track(number)
        if self.track.encrypted:
            raise cannot(("protocol", "its video is encrypted (SRTP): turn that off in the camera's settings"))
        if not self.track.codec:
            raise cannot(("format", "its description does not say what its video is"))

    def _carrier(self) -> Carrier:
        one = self.dialogue.connection
        if self._way == "udp":
            return Datagrams(one, self._experience, self.track)
        if self._way == "multicast":
            return Group(one, self._experience, self.track)
        return Interleaved(one, self.track)

    def _set_up(self, url: str) -> None:
        response = self._ask("SETUP", url, {"Transport": self.carrier.wanted})
        if not response.ok:
            refused = self._refused(response, "SETUP")
            if response.status in _NOT_THE_WAY:
                raise refused
            raise self._another_way(f"it answers {response.words} to SETUP")
        name = response.header("session")
        self.dialogue.session = name.partition(";")[0].strip()
        self._things.callback(self.dialogue.tear_down, self.control)
        if not self.carrier.agreed(response.header("transport")):
            raise self._another_way("it answers with another transport")
        match = _TIMEOUT.search(name)
        self.every = max((int(match[1]) or LASTS) / EARLY, SHORTEST) if match else LASTS / EARLY

    def _another_way(self, words: str) -> TransportRefusedError:
        return TransportRefusedError(f"{CANNOT}over {self._way.upper()} {words}", "refused")

    def _play(self) -> None:
        for _ in range(2):  # a nonce may have become too old
            number = self.dialogue.say("PLAY", self.control, {"Range": "npt=0.000-"})
            one = self.dialogue.answer_or_packet(number, self._deadline)
            if not isinstance(one, Response):
                self.asked, self.first = number, [one]
                return
            if self.dialogue.settled(one):
                break
        else:
            raise cannot(self._authentication.refusal())
        self.played(one)

    def _ask(self, method: str, url: str, headers: dict[str, str]) -> Response:
        return self.dialogue.ask(method, url, headers, self._deadline)

    def _refused(self, response: Response, method: str) -> SourceError:
        """Of an answer that is no success."""
        known = {UNAUTHORIZED: self._authentication.refusal(), 403: reasons.FORBIDDEN, 404: reasons.NOT_FOUND}
        return cannot(known.get(response.status) or reasons.answers(response.words, method))

    def _explained(self, error: OSError) -> SourceError:
        """Of a connection that cannot be made, or breaks before anything is played."""
        if isinstance(error, TimeoutError):
            return cannot(reasons.no_answer(self._experience.patience, error, self._address.scheme))
        return cannot(self._reason(error))

    def _reason(self, error: OSError) -> Reason:
        at: Address = self._address
        if at.secure:
            from framesrv.camera.sources import tls

            if reason := tls.explain(error, at):
                return reason
        if isinstance(error, StrangeError):
            return reasons.strange(at.scheme, at.where, error.begin)
        if isinstance(error, EndedError | ConnectionResetError | BrokenPipeError):
            if self.connected and self.dialogue.answered:
                return "ended", f"the camera ends the connection when it is asked to {self.dialogue.asked}"
            return reasons.unanswered(at.scheme, at.host, at.port)
        cause, words = reaching.explain(error, at.host, at.port) or ("", error.strerror or str(error))
        if cause == "name_unknown" and "@" in at.url:
            words += "; if that is a part of a password, write its @ as %40 and its / # ? as %2F %23 %3F"
        return cause, words
