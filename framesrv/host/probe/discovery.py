"""ONVIF cameras of the local network, by WS-Discovery: one question to a multicast group, and whoever answers.

It needs no password: a camera tells its address, name and model to everybody. Whatever answers is a stranger, so
there are limits to how much is read, and XML that defines anything of its own is no answer.
"""

import re
import select
import socket
import struct
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from xml.parsers import expat

from framesrv.errors import FramesrvError

GROUP, PORT = "239.255.255.250", 3702  # OASIS WS-Discovery, 2.4
KINDS = ("dn:NetworkVideoTransmitter", "tds:Device")  # ONVIF Core, 7.3: cameras answer to one or the other
REPEATS = 3  # times that it is asked: UDP may lose any
INTERFACES = 32  # that are asked at most
ANSWERS = 4096  # that are read at most
DEEPEST, LONGEST = 32, 4096  # elements within one another, and characters of one of them
SHOWN = 80  # characters of a name

_WANTED = ("Address", "XAddrs", "Scopes")
_SCOPE = re.compile(r"onvif://www\.onvif\.org/(name|hardware|location)/(\S+)", re.IGNORECASE)

_QUESTION = """<?xml version="1.0" encoding="UTF-8"?>
<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"
 xmlns:w="http://schemas.xmlsoap.org/ws/2004/08/addressing"
 xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"
 xmlns:dn="http://www.onvif.org/ver10/network/wsdl" xmlns:tds="http://www.onvif.org/ver10/device/wsdl">
<e:Header><w:MessageID>uuid:{number}</w:MessageID>
<w:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To>
<w:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</w:Action></e:Header>
<e:Body><d:Probe><d:Types>{kind}</d:Types></d:Probe></e:Body></e:Envelope>"""


@dataclass(frozen=True, slots=True)
class Device:
    """A camera that has answered.

    Attributes:
        host: the address that it has answered from.
        name: as it calls itself; may be empty, as may the next two.
        hardware: its model.
        location: where it is said to be.
        service: the URL of its ONVIF service.
    """

    host: str
    name: str = ""
    hardware: str = ""
    location: str = ""
    service: str = ""


def discover(seconds: float, interface: str = "") -> list[Device]:
    """Asks the local network for cameras.

    Args:
        seconds: to wait for answers.
        interface: of the network, by its name; all of them, if empty.

    Returns:
        One for each address that has answered, in order of those.

    Raises:
        FramesrvError: there is no such interface, or none that can be asked.
    """
    found: dict[str, Device] = {}
    with ExitStack() as stack:
        sockets = list(_sockets(interface, stack))
        if not sockets:
            raise FramesrvError("no network interface takes multicast over IPv4")
        for data, host in _answers(sockets, seconds):
            for device in devices(data, host):
                found.setdefault(host, device)
    return sorted(found.values(), key=lambda device: socket.inet_aton(device.host))


def devices(data: bytes, host: str) -> list[Device]:
    """The cameras that an answer tells of; none, if it is no answer.

    Args:
        data: the answer.
        host: who sent it.
    """
    try:
        return [_device(match, host) for match in _Reading(data).matches]
    except (expat.ExpatError, ValueError, LookupError):
        return []


def _sockets(interface: str, stack: ExitStack) -> Iterator[socket.socket]:
    """One for each interface that can be asked."""
    known = {name: index for index, name in socket.if_nameindex()}
    if interface and interface not in known:
        raise FramesrvError(f"there is no network interface {interface}: expected one of {', '.join(known)}")
    for index in [known[interface]] if interface else list(known.values())[:INTERFACES]:
        one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        one.setblocking(False)
        try:
            one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            # ip_mreqn of ip(7): an interface by its number needs no address
            one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", b"", b"", index))
            one.sendto(_question(KINDS[0]), (GROUP, PORT))
        except OSError:  # one that is down, or has no IPv4
            continue
        yield one


def _question(kind: str) -> bytes:
    return _QUESTION.format(number=uuid.uuid4(), kind=kind).encode()


def _answers(sockets: list[socket.socket], seconds: float) -> Iterator[tuple[bytes, str]]:
    """What comes within that time, and from where; meanwhile it is asked again."""
    deadline = time.monotonic() + seconds
    due = [time.monotonic() + share * seconds / (2 * REPEATS) for share in range(REPEATS)]
    read = 0
    while (now := time.monotonic()) < deadline and read < ANSWERS:
        if due and now >= due[0]:
            due.pop(0)
            _ask(sockets)
        until = min([deadline, *due[:1]])
        for one in select.select(sockets, [], [], max(0.0, until - now))[0]:
            try:
                data, place = one.recvfrom(65536)
            except OSError:  # what an earlier question met with, as that nobody is there
                continue
            read += 1
            yield data, str(place[0])


def _ask(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        for kind in KINDS:
            try:
                one.sendto(_question(kind), (GROUP, PORT))
            except OSError:  # it has gone down
                break


@dataclass
class _Match:
    texts: dict[str, str] = field(default_factory=dict)


class _Reading:
    """An answer, read element by element.

    Attributes:
        matches: what it tells of each device.
    """

    def __init__(self, data: bytes) -> None:
        self.matches: list[_Match] = []
        self._names: list[str] = []
        self._text, self._length = [""], 0
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._add
        parser.StartDoctypeDeclHandler = self._refuse  # no entities: what they stand for may have no end
        parser.Parse(data, True)

    def _begin(self, name: str, _attributes: dict[str, str]) -> None:
        self._names.append(name.rpartition(" ")[2])
        self._text, self._length = [], 0
        if len(self._names) > DEEPEST:
            raise ValueError("too deep")
        if self._names[-1] == "ProbeMatch":
            self.matches.append(_Match())

    def _end(self, _name: str) -> None:
        name = self._names.pop()
        if name in _WANTED and self.matches and "ProbeMatch" in self._names:
            self.matches[-1].texts.setdefault(name, "".join(self._text).strip())
        self._text, self._length = [], 0

    def _add(self, text: str) -> None:
        self._text.append(text)
        self._length += len(text)
        if self._length > LONGEST:
            raise ValueError("too long")

    @staticmethod
    def _refuse(*_: object) -> None:
        raise ValueError("it defines a type of document")


def _device(match: _Match, host: str) -> Device:
    scopes = {key.lower(): unquote(value) for key, value in _SCOPE.findall(match.texts.get("Scopes", ""))}
    name, hardware, location = (
        scopes.get(key, "").replace("_", " ").strip()[:SHOWN] for key in ("name", "hardware", "location")
    )
    urls = [url for url in match.texts.get("XAddrs", "").split() if urlsplit(url).scheme in ("http", "https")]
    own = [url for url in urls if urlsplit(url).hostname == host]
    return Device(host, name, hardware, location, (own or urls or [""])[0][: 4 * SHOWN])
