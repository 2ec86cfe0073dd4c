"""Requests to an RTSP camera and what it answers: numbered, with user and password, within a time."""

import logging
import time
from collections.abc import Mapping

from framesrv import __version__
from framesrv.camera.sources.authentication import Authentication
from framesrv.camera.sources.rtsp import message
from framesrv.camera.sources.rtsp.connection import Connection, Packets
from framesrv.camera.sources.rtsp.message import Request, Response
from framesrv.errors import SourceLimitError

GOODBYE = 0.5  # s that ending a session may take
TRIES = 4  # of one request, each with another Authorization
UNAUTHORIZED = 401
NOT_IMPLEMENTED = "501 Not Implemented"
ALIVE = ("OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE", "REDIRECT", "TEARDOWN")  # what we say 200 to

logger = logging.getLogger(__name__)


class Dialogue:
    """With one camera, over one connection.

    Attributes:
        connection: the one.
        session: the camera's name of it, empty before there is one.
        answered: whether the camera has answered anything.
        asked: the method of the newest request.
    """

    def __init__(self, connection: Connection, authentication: Authentication) -> None:
        self.connection = connection
        self.session = self.asked = ""
        self.answered = False
        self._authentication = authentication
        self._number = 0

    def ask(self, method: str, url: str, headers: Mapping[str, str], deadline: float) -> Response:
        """What the camera answers; another 401 where user and password are of no use.

        Args:
            method: of the request.
            url: the same.
            headers: its own.
            deadline: by the monotonic clock.

        Raises:
            TimeoutError: it does not answer until then.
            OSError: the connection is lost.
        """
        for _ in range(TRIES):
            number = self.say(method, url, headers)
            response = self.answer(number, deadline)
            if self.settled(response):
                break
        return response

    def settled(self, response: Response) -> bool:
        """Whether it is no 401, or one against which nothing can be done."""
        if response.status != UNAUTHORIZED:
            self._authentication.accepted()
            return True
        return not self._authentication.challenged(response.headers.get("www-authenticate", []))

    def say(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> int:
        """Sends a request; gives its number."""
        self.connection.send(self._request(method, url, headers or {}))
        return self._number

    def offer(self, method: str, url: str) -> None:
        """Sends a request, unless the camera takes nothing now."""
        self.connection.offer(self._request(method, url, {}))

    def _request(self, method: str, url: str, headers: Mapping[str, str]) -> bytes:
        self._number += 1
        self.asked = method
        all_headers = {"CSeq": str(self._number), "User-Agent": f"framesrv/{__version__}"}
        if authorization := self._authentication.header(method, url):
            all_headers["Authorization"] = authorization
        if self.session:
            all_headers["Session"] = self.session
        return message.request(method, url, all_headers | dict(headers))

    def answer(self, number: int, deadline: float) -> Response:
        """The response to that request; packets before it are dropped.

        Raises:
            TimeoutError: it does not come until the deadline.
            OSError: the connection is lost.
        """
        while True:
            one = self.answer_or_packet(number, deadline)
            if isinstance(one, Response):
                return one

    def answer_or_packet(self, number: int, deadline: float) -> Response | Packets:
        """The response to that request, or the packets that come before it; raises as `answer`."""
        while (left := deadline - time.monotonic()) > 0:
            self.connection.patience(left)
            one = next(self.connection.incoming)
            if isinstance(one, Response):
                self.answered = True
                if one.sequence in (number, None) and one.status >= 200:
                    return one
            elif isinstance(one, Request):
                self.reply(one)
            elif one is not None:
                return one
        raise TimeoutError("no answer")

    def tear_down(self, url: str) -> None:
        """Ends the session, so that the camera has room for another; waits `GOODBYE` seconds at most."""
        try:
            self.answer(self.say("TEARDOWN", url), time.monotonic() + GOODBYE)
        except (OSError, StopIteration, SourceLimitError) as error:
            logger.debug("the session was not ended: %s", error or "its connection was lost before")

    def reply(self, request: Request) -> None:
        """Answers what the camera asks."""
        status = "200 OK" if request.method in ALIVE else NOT_IMPLEMENTED
        headers = {"CSeq": request.header("cseq")}
        if self.session:
            headers["Session"] = self.session
        self.connection.send(message.response(status, headers))
