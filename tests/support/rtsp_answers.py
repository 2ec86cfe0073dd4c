"""What stands in a camera's place and gives no picture, for a reason of its own."""

import socket
from collections.abc import Callable

from tests.support.tcp_server import TcpServer

Answer = Callable[[socket.socket], object]


class Answering(TcpServer):
    """Answers each connection as it is told."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def serve(self, connection: socket.socket) -> None:
        """By what it was given."""
        self._answer(connection)


def refusing(status: str) -> Answer:
    """An RTSP server that answers everything with that."""

    def answer(connection: socket.socket) -> None:
        while request := connection.recv(4096).decode():
            number = next(line for line in request.splitlines() if line.lower().startswith("cseq:"))
            connection.sendall(f"RTSP/1.0 {status}\r\n{number}\r\n\r\n".encode())

    return answer


def sound_alone(connection: socket.socket) -> None:
    """An RTSP server whose stream has no video."""
    description = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\na=control:t1\r\n"
    while request := connection.recv(4096).decode():
        number = next(line for line in request.splitlines() if line.lower().startswith("cseq:"))
        status, rest = "200 OK", ""
        if request.startswith("DESCRIBE"):
            rest = f"Content-Type: application/sdp\r\nContent-Length: {len(description)}\r\n\r\n{description}"
        elif request.startswith("PLAY"):
            status = "455 Method Not Valid in This State"
        connection.sendall(f"RTSP/1.0 {status}\r\n{number}\r\n{rest or chr(13) + chr(10)}".encode())


def saying_nothing(connection: socket.socket) -> None:
    """A server that says nothing until the other end gives up."""
    while connection.recv(4096):
        pass


def in_plain_words(connection: socket.socket) -> None:
    """An RTSP server to which what came is none of its words, as TLS is."""
    connection.recv(4096)
    connection.sendall(b"RTSP/1.0 400 Bad Request\r\nCSeq: 1\r\n\r\n")
