"""Cameras that answer WS-Discovery on the loopback interface, in this process: that of ONVIF, no more."""

import re
import select
import socket
from collections.abc import Callable

from tests.support.background import Background

GROUP, PORT = "239.255.255.250", 3702

_ANSWER = """<?xml version="1.0" encoding="UTF-8"?>
<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://www.w3.org/2003/05/soap-envelope"
 xmlns:wsa="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"
 xmlns:dn="http://www.onvif.org/ver10/network/wsdl">
<SOAP-ENV:Header><wsa:MessageID>uuid:1</wsa:MessageID><wsa:RelatesTo>{asked}</wsa:RelatesTo></SOAP-ENV:Header>
<SOAP-ENV:Body><d:ProbeMatches><d:ProbeMatch>
<wsa:EndpointReference><wsa:Address>urn:uuid:{number}</wsa:Address></wsa:EndpointReference>
<d:Types>dn:NetworkVideoTransmitter</d:Types><d:Scopes>{scopes}</d:Scopes><d:XAddrs>{services}</d:XAddrs>
<d:MetadataVersion>1</d:MetadataVersion></d:ProbeMatch></d:ProbeMatches></SOAP-ENV:Body></SOAP-ENV:Envelope>"""


def answer(asked: str, host: str = "127.0.0.1", scopes: str = "", services: str = "") -> bytes:
    """As a camera gives it to the question of that number."""
    return _ANSWER.format(
        asked=asked, number=host, scopes=scopes, services=services or f"http://{host}/onvif/device_service"
    ).encode()


class Responder(Background):
    """Answers each question, while a block lasts.

    Args:
        answers: by the address that each is sent from, of 127.0.0.0/8: what is answered to a question's number.
        kind: of device that it answers to alone.

    Attributes:
        asked: the questions so far.
    """

    def __init__(self, answers: dict[str, Callable[[str], bytes]], kind: str = "dn:NetworkVideoTransmitter") -> None:
        super().__init__()
        self._answers, self._kind = answers, kind
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((GROUP, PORT))
        member = socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1")
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        self._stop = socket.socketpair()

    def end(self) -> None:
        """See `Background.end`."""
        self._stop[0].send(b"x")

    def run(self) -> None:
        """See `Background.run`."""
        with self._socket, self._stop[0], self._stop[1]:
            self._serve()

    def _serve(self) -> None:
        while self._stop[1] not in select.select([self._socket, self._stop[1]], [], [])[0]:
            data, asker = self._socket.recvfrom(65536)
            question = data.decode()
            self.asked.append(question)
            number = re.search(r"MessageID>([^<]+)<", question)
            if number is None or self._kind not in question:
                continue
            for host, said in self._answers.items():
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                    one.bind((host, 0))
                    one.sendto(said(number[1]), asker)
