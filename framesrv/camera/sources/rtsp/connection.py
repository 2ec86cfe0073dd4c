"""The connection to an RTSP camera: what comes through it is read into one buffer, and given in place.

Packets of RTP come in it between responses, and requests of the camera's own (RFC 2326, 10.12). One call of the
kernel takes as many as have come, and those of one channel are given together. Where nobody looks at the pictures
what came may wait for more: to take it in is little work, and to look at all of it at once costs a fraction of what
it costs to come back for each picture.
"""

import base64
import re
import socket
import struct
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from framesrv.camera.sources.address import Address
from framesrv.camera.sources.rtsp import message
from framesrv.camera.sources.rtsp.message import Request, Response
from framesrv.camera.sources.sockets import SEND, SHORTEST, connected, is_plain, wait_at_most
from framesrv.errors import SourceLimitError

if TYPE_CHECKING:
    from ssl import SSLContext

BUFFER = 256 * 1024  # bytes
LONGEST_HEAD = 64 * 1024  # bytes of a message's lines
LONGEST_BODY = 128 * 1024  # bytes of what follows them
GATHER = 250_000_000  # ns that what has come may wait for more
DOLLAR = 0x24  # before a packet; its channel and its size follow
FRONT = struct.Struct(">HH")  # that and the channel, the size
MOST = 64  # packets that are given together

_START = re.compile(rb"RTSP/\d|[A-Z_]{3,20} ")
_BEGINNING = re.compile(rb"[A-Z_]{1,20}/?\Z")  # of that
_SPACE = re.compile(rb"[\r\n\0 ]+")
_END = re.compile(rb"\r?\n\r?\n")
_NEXT = re.compile(rb"\$[\x00-\x0f]|RTSP/\d")

# their channel, the bytes of each, which are valid until more is asked for, and monotonic ns of arrival
Packets = tuple[int, list[memoryview], int]
Incoming = Packets | Response | Request | None


class EndedError(OSError):
    """The camera has closed the connection."""


class StrangeError(OSError):
    """What came is not RTSP.

    Attributes:
        begin: its first bytes.
    """

    def __init__(self, begin: bytes) -> None:
        super().__init__("it is not RTSP")
        self.begin = begin


class Connection:
    """One connection.

    Args:
        one: connected, and through TLS where that is wanted.
        outgoing: the connection by which we speak, in base64, where it is another one.

    Attributes:
        incoming: what comes, without an end; None where nothing has come for as long as `patience` says, and at
            least that often. Raises OSError where the connection is lost, of which `EndedError` is one, and
            SourceLimitError for a message that is too large.
        newest: monotonic ns at which the newest of what has been taken in arrived.
    """

    def __init__(self, one: socket.socket, outgoing: socket.socket | None = None) -> None:
        self._socket = one
        self._outgoing = outgoing or one
        self._encoded = outgoing is not None
        self._kernel_waits = is_plain(one)
        self._patience = 0.0
        self._arrived = self._turn = self.newest = 0
        self._may_wait: Callable[[], bool] | None = None
        self._failure: OSError | None = None  # behind what has come
        self._searched = 0  # bytes of a message of which it is known that its lines do not end there
        self._head: tuple[Request | Response | None, int] | None = None  # those lines, and how many bytes they have
        self._in_step = False
        self._unsent = b""
        self._buffer = bytearray(BUFFER)
        self.incoming: Iterator[Incoming] = self._incoming()
        self.patience(SEND)

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    @property
    def local(self) -> Any:
        """The address of this host's end, as the socket module has it."""
        return self._socket.getsockname()

    @property
    def peer(self) -> Any:
        """The address of the camera's end."""
        return self._socket.getpeername()

    @property
    def family(self) -> socket.AddressFamily:
        """Of the addresses."""
        return socket.AddressFamily(self._socket.family)

    def patience(self, seconds: float) -> None:
        """The longest wait of one turn of `incoming`."""
        seconds = max(seconds, SHORTEST)
        self._turn = time.monotonic_ns() + int(seconds * 1e9)
        if seconds == self._patience:
            return
        self._patience = seconds
        self._set_wait()

    def gather(self, may_wait: Callable[[], bool] | None) -> None:
        """Lets what comes wait for more, `GATHER` at most, while that says that it may; None: nothing waits.

        There is a turn after what has waited.
        """
        self._may_wait = may_wait
        self._set_wait()

    def _set_wait(self) -> None:
        wait_at_most(self._socket, self._patience if self._may_wait is None else min(self._patience, GATHER / 1e9))

    def send(self, data: bytes) -> None:
        """Sends all of it.

        Raises:
            OSError: the connection is lost, or the camera takes nothing.
        """
        data = base64.b64encode(data) if self._encoded else data
        data, self._unsent = self._unsent + data, b""
        self._outgoing.sendall(data)

    def offer(self, data: bytes) -> None:
        """Sends all of it, or nothing where the camera takes nothing now; some never read what they are told.

        Raises:
            OSError: the connection is lost.
        """
        if not self._kernel_waits:
            self.send(data)
            return
        data = base64.b64encode(data) if self._encoded else data
        try:
            if self._unsent:
                sent = self._outgoing.send(self._unsent, socket.MSG_DONTWAIT)
                self._unsent = self._unsent[sent:]
            if not self._unsent:
                self._unsent = data[self._outgoing.send(data, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return

    def packet(self, channel: int, data: bytes) -> None:
        """Offers a packet; raises as `offer`."""
        self.offer(FRONT.pack(DOLLAR << 8 | channel, len(data)) + data)

    def close(self) -> None:
        """Closes it."""
        self._socket.close()
        self._outgoing.close()

    def _incoming(self) -> Iterator[Incoming]:
        view = memoryview(self._buffer)
        begin = end = 0
        pieces: list[tuple[int, int]] = []
        while True:
            for end, self._arrived in pieces:
                begin = yield from self._whole(view, begin, end)
            if BUFFER - begin < LONGEST_HEAD + LONGEST_BODY or begin == end:
                view[: end - begin] = view[begin:end]
                begin, end = 0, end - begin
            if self._arrived > self._turn:  # of what comes a byte at a time as well
                self._turn = self._arrived + int(self._patience * 1e9)
                yield None
            pieces = self._receive(view, end)

    def _whole(self, view: memoryview, begin: int, end: int) -> Generator[Incoming, None, int]:
        """What lies there and is whole; returns where the rest begins."""
        buffer = self._buffer
        while begin < end:
            if buffer[begin] == DOLLAR:
                packets, after = self._packets(view, begin, end)
                if not packets:
                    break
                self._in_step = True
                yield buffer[begin + 1], packets, self._arrived
            else:
                one, after = self._message(begin, end)
                if one is not None:
                    yield one
                elif after == begin:
                    break
            begin = after
        return begin

    def _packets(self, view: memoryview, begin: int, end: int) -> tuple[list[memoryview], int]:
        """The packets that lie there and are whole, up to one of another channel, and where the rest begins."""
        unpack, buffer = FRONT.unpack_from, self._buffer
        packets: list[memoryview] = []
        front = None  # the same for all of them
        for _ in range(MOST):
            payload = begin + FRONT.size
            if payload > end:
                break
            its, size = unpack(buffer, begin)
            after = payload + size
            if its != (front or its) or after > end:
                break
            front, begin = its, after
            packets.append(view[payload:after])
        return packets, begin

    def _receive(self, view: memoryview, end: int) -> list[tuple[int, int]]:
        """Reads what comes behind `end`; gives where each piece of it ends and when it arrived.

        None where nothing came; then, as after several of them, there is a turn.
        """
        pieces: list[tuple[int, int]] = []
        while True:
            size = self._read(view[end:], first=not pieces)
            now = time.monotonic_ns()
            if not size:
                self._turn, self._arrived = 0, now
                return pieces
            end += size
            self.newest = now
            pieces.append((end, now))
            if (
                self._may_wait is None
                or now - pieces[0][1] > GATHER
                or BUFFER - end < LONGEST_HEAD
                or not self._may_wait()
            ):
                if len(pieces) > 1:
                    self._turn = 0
                return pieces

    def _read(self, room: memoryview, *, first: bool) -> int:
        """How much came; 0 where nothing does, or no more, what has come before being `first` to be looked at."""
        if self._failure is not None:
            raise self._failure
        try:
            if size := self._socket.recv_into(room):
                return size
            raise EndedError("the camera has closed the connection")
        except (BlockingIOError, TimeoutError):
            return 0
        except OSError as error:
            if first:
                raise
            self._failure = error
            return 0

    def _message(self, begin: int, end: int) -> tuple[Response | Request | None, int]:
        """The message there, and where it ends; where it begins if not all of it has come yet."""
        buffer = self._buffer
        if space := _SPACE.match(buffer, begin, end):
            return None, space.end()
        if _START.match(buffer, begin, end) is None:
            if _BEGINNING.match(buffer, begin, end):
                return None, begin
            return None, self._out_of_step(begin, end)
        self._head = self._head or self._read_head(begin, end)
        if self._head is None:
            return None, begin
        one, size = self._head
        after = begin + size + (one.length if one else 0)
        if after > end:
            return None, begin
        self._head, self._searched, self._in_step = None, 0, True
        return replace(one, body=bytes(buffer[begin + size : after])) if one else None, after

    def _read_head(self, begin: int, end: int) -> tuple[Request | Response | None, int] | None:
        """The lines of the message there, and their size, once all have come; no byte is looked at twice."""
        found = _END.search(self._buffer, begin + max(self._searched - 3, 0), min(end, begin + LONGEST_HEAD))
        if found is None:
            self._searched = end - begin
            if self._searched >= LONGEST_HEAD:
                raise SourceLimitError(f"an answer of it has more than {LONGEST_HEAD} bytes of headers")
            return None
        one = message.parse(bytes(self._buffer[begin : found.start()]))
        if one is not None and one.length > LONGEST_BODY:
            raise SourceLimitError(f"its session description has {one.length} bytes, more than {LONGEST_BODY}")
        return one, found.end() - begin

    def _out_of_step(self, begin: int, end: int) -> int:
        """Where what can be understood goes on.

        Raises:
            StrangeError: nothing has been understood yet.
        """
        if not self._in_step:
            raise StrangeError(bytes(self._buffer[begin : min(end, begin + 64)]))
        found = _NEXT.search(self._buffer, begin + 1, end)
        return found.start() if found else end


def connect(address: Address, seconds: float, context: "SSLContext | None" = None) -> Connection:
    """A connection to the camera.

    Args:
        address: of it.
        seconds: that it may take.
        context: of TLS; None for none.

    Raises:
        OSError: there is none; socket.gaierror, TimeoutError and ssl.SSLError among them.
    """
    return Connection(connected((address.host, address.port), seconds, context))
