"""The connection to an RTSP camera: what comes through it is read into one buffer, and given in place.

Packets of RTP come in it between responses, and requests of the camera's own (RFC 2326, 10.12). One call of the
kernel takes as many as have come.
"""

import re
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace

from framesrv.camera.sources.rtsp import message
from framesrv.camera.sources.rtsp.address import Address
from framesrv.camera.sources.rtsp.message import Request, Response
from framesrv.errors import SourceLimitError

BUFFER = 256 * 1024  # bytes
LONGEST_HEAD = 64 * 1024  # bytes of a message's lines
LONGEST_BODY = 128 * 1024  # bytes of what follows them
DOLLAR = 0x24  # before a packet; its channel and its size follow
SEND = 1.0  # s that the camera may take to take what we say

_START = re.compile(rb"RTSP/\d|[A-Z_]{3,20} ")
_BEGINNING = re.compile(rb"[A-Z_]{1,20}/?\Z")  # of that
_SPACE = re.compile(rb"[\r\n\0 ]+")
_END = re.compile(rb"\r?\n\r?\n")
_NEXT = re.compile(rb"\$[\x00-\x0f]|RTSP/\d")

Packet = tuple[int, memoryview, int]  # its channel, bytes that are valid until the next, monotonic ns of arrival
Incoming = Packet | Response | Request | None


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

    Attributes:
        incoming: what comes, without an end; None each time that nothing has come for as long as `patience` says.
            Raises OSError where the connection is lost, of which `EndedError` is one, and SourceLimitError for a
            message that is too large.
    """

    def __init__(self, one: socket.socket) -> None:
        self._socket = one
        self._kernel_waits = type(one) is socket.socket  # TLS has waits of its own
        self._patience = 0.0
        self._arrived = 0
        self._in_step = False
        self._unsent = b""
        self._buffer = bytearray(BUFFER)
        self.incoming: Iterator[Incoming] = self._incoming()
        self.patience(SEND)

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    @property
    def names(self) -> tuple[str, str]:
        """The addresses of this host and of the camera, as numbers."""
        return self._socket.getsockname()[0], self._socket.getpeername()[0]

    @property
    def family(self) -> socket.AddressFamily:
        """Of the addresses."""
        return socket.AddressFamily(self._socket.family)

    def patience(self, seconds: float) -> None:
        """The longest wait of one turn of `incoming`."""
        seconds = max(seconds, 0.001)
        if seconds == self._patience:
            return
        self._patience = seconds
        if self._kernel_waits:  # one call for each turn in place of two, see socket(7)
            _set_timeout(self._socket, socket.SO_RCVTIMEO, seconds)
        else:
            self._socket.settimeout(seconds)

    def send(self, data: bytes) -> None:
        """Sends all of it.

        Raises:
            OSError: the connection is lost, or the camera takes nothing.
        """
        data, self._unsent = self._unsent + data, b""
        self._socket.sendall(data)

    def packet(self, channel: int, data: bytes) -> None:
        """Sends a packet, or none where the camera takes nothing now.

        Raises:
            OSError: the connection is lost.
        """
        data = struct.pack(">BBH", DOLLAR, channel, len(data)) + data
        if not self._kernel_waits:
            self.send(data)
            return
        try:
            if self._unsent:
                sent = self._socket.send(self._unsent, socket.MSG_DONTWAIT)
                self._unsent = self._unsent[sent:]
            if not self._unsent:
                self._unsent = data[self._socket.send(data, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return

    def close(self) -> None:
        """Closes it."""
        self._socket.close()

    def _incoming(self) -> Iterator[Incoming]:
        buffer, view = self._buffer, memoryview(self._buffer)
        begin = end = 0
        while True:
            while begin < end:
                if buffer[begin] == DOLLAR:
                    if end - begin < 4:
                        break
                    after = begin + 4 + (buffer[begin + 2] << 8 | buffer[begin + 3])
                    if after > end:
                        break
                    self._in_step = True
                    yield buffer[begin + 1], view[begin + 4 : after], self._arrived
                else:
                    one, after = self._message(begin, end)
                    if one is not None:
                        yield one
                    elif after == begin:
                        break
                begin = after
            if BUFFER - begin < LONGEST_HEAD + LONGEST_BODY or begin == end:
                view[: end - begin] = view[begin:end]
                begin, end = 0, end - begin
            if size := self._receive(view[end:]):
                end += size
            else:
                yield None

    def _receive(self, room: memoryview) -> int:
        """Reads into it; gives how much came, 0 where nothing did for as long as `patience` says."""
        try:
            size = self._socket.recv_into(room)
        except (BlockingIOError, TimeoutError):
            return 0
        if not size:
            raise EndedError("the camera has closed the connection")
        self._arrived = time.monotonic_ns()
        return size

    def _message(self, begin: int, end: int) -> tuple[Response | Request | None, int]:
        """The message there, and where it ends; where it begins if not all of it has come yet."""
        buffer = self._buffer
        if space := _SPACE.match(buffer, begin, end):
            return None, space.end()
        if _START.match(buffer, begin, end) is None:
            if _BEGINNING.match(buffer, begin, end):
                return None, begin
            return None, self._out_of_step(begin, end)
        head = _END.search(buffer, begin, min(end, begin + LONGEST_HEAD))
        if head is None:
            if end - begin >= LONGEST_HEAD:
                raise SourceLimitError(f"an answer of it has more than {LONGEST_HEAD} bytes of headers")
            return None, begin
        one = message.parse(bytes(buffer[begin : head.start()]))
        if one is None:
            return None, head.end()
        if one.length > LONGEST_BODY:
            raise SourceLimitError(f"its session description has {one.length} bytes, more than {LONGEST_BODY}")
        after = head.end() + one.length
        if after > end:
            return None, begin
        self._in_step = True
        return replace(one, body=bytes(buffer[head.end() : after])), after

    def _out_of_step(self, begin: int, end: int) -> int:
        """Where what can be understood goes on.

        Raises:
            StrangeError: nothing has been understood yet.
        """
        if not self._in_step:
            raise StrangeError(bytes(self._buffer[begin : min(end, begin + 64)]))
        found = _NEXT.search(self._buffer, begin + 1, end)
        return found.start() if found else end


def connect(address: Address, seconds: float) -> Connection:
    """A connection to the camera.

    Raises:
        OSError: there is none; socket.gaierror, TimeoutError and ssl.SSLError among them.
    """
    one = socket.create_connection((address.host, address.port), seconds)
    try:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.settimeout(None)
        _set_timeout(one, socket.SO_SNDTIMEO, SEND)
        return Connection(one)
    except BaseException:
        one.close()
        raise


def _set_timeout(one: socket.socket, option: int, seconds: float) -> None:
    whole = int(seconds)
    one.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, int((seconds - whole) * 1e6)))
