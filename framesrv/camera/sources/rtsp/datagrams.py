"""Packets as datagrams, from the camera to this host alone or to a group of many."""

import ipaddress
import logging
import random
import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from framesrv.camera.sources.experience import Experience
from framesrv.camera.sources.rtsp.carriers import RTCP, RTP
from framesrv.camera.sources.rtsp.connection import Connection, Incoming, Packets
from framesrv.camera.sources.rtsp.description import Track
from framesrv.camera.sources.rtsp.message import number

BUFFER = 4 * 2**20  # bytes to receive into: a key frame of 8192x4352 and some more
LARGEST = 65536  # bytes of a datagram
BATCH = 64  # datagrams of one socket before the others have their turn
PORTS = range(16384, 65534, 2)  # for RTP; RTCP has the next
TRIES = 64
SOON = 0.001  # s to wait for the rest of a message

_ITEM = re.compile(r"\s*([\w-]+)\s*=\s*\"?([^;,\"]*)")

logger = logging.getLogger(__name__)


class Datagrams:
    """Packets to two ports of this host.

    Args:
        connection: on which they are asked for, and which stays.
        experience: with the camera.
        track: whose they are.
    """

    def __init__(self, connection: Connection, experience: Experience, track: Track) -> None:
        self._track = track
        self.newest = 0
        self.rtp, self.rtcp = RTP, RTCP
        self._connection = connection
        self._experience = experience
        self._patience = 1.0
        self._sources: set[str] | None = {connection.peer[0]}  # of packets; None for anybody
        self._sockets: list[socket.socket] = []
        self._known = [False, False]  # whether a socket takes packets of one sender alone
        self._reports_to: Any = None
        self._bind()

    @property
    def wanted(self) -> str:
        """See `Carrier`."""
        port = self._sockets[RTP].getsockname()[1]
        return f"{self._track.profile};unicast;client_port={port}-{port + 1}"

    def agreed(self, transport: str) -> bool:
        """See `Carrier`."""
        items = _items(transport)
        if "interleaved" in items or "/tcp" in transport.lower() or "multicast" in transport.lower():
            return False
        source = items.get("source", "")
        if self._sources is not None and _is_address(source):
            self._sources.add(source)
        ports = _ports(items.get("server_port", ""))
        if ports is not None:
            host = source if _is_address(source) else self._connection.peer[0]
            self._reports_to = _at(self._connection, host, ports[1])
            self._open_the_way(_at(self._connection, host, ports[0]))
        return True

    def incoming(self) -> Iterator[Incoming]:
        """See `Carrier`."""
        watched = select.poll()
        for descriptor in (*(one.fileno() for one in self._sockets), self._connection.fileno()):
            watched.register(descriptor, select.POLLIN)
        self._connection.patience(SOON)
        channels = {one.fileno(): channel for channel, one in enumerate(self._sockets)}
        while True:
            ready = watched.poll(self._patience * 1000)
            if not ready:
                yield None
            for descriptor, _ in ready:
                channel = channels.get(descriptor)
                if channel is not None:
                    yield from self._packets(channel)
                elif (one := next(self._connection.incoming)) is not None and not isinstance(one, tuple):
                    yield one

    def patience(self, seconds: float) -> None:
        """See `Carrier`."""
        self._patience = seconds

    def gather(self, may_wait: Callable[[], bool] | None) -> None:
        """See `Carrier`; the kernel may have no room for datagrams that wait, so none does."""

    def report(self, data: bytes) -> None:
        """See `Carrier`; a report that cannot be sent is lost, as any datagram may be."""
        with suppress(BlockingIOError, ConnectionRefusedError):
            if self._known[RTCP]:
                self._sockets[RTCP].send(data, socket.MSG_DONTWAIT)
            elif self._reports_to is not None:
                self._sockets[RTCP].sendto(data, socket.MSG_DONTWAIT, self._reports_to)

    def close(self) -> None:
        """See `Carrier`."""
        for one in self._sockets:
            one.close()
        self._sockets.clear()

    def _bind(self) -> None:
        """Two ports of this host, an even one and the next (RFC 3550, 11)."""
        local = self._connection.local
        for port in random.sample(PORTS, TRIES):
            try:
                for own in (port, port + 1):
                    one = socket.socket(self._connection.family, socket.SOCK_DGRAM)
                    self._sockets.append(one)
                    one.bind((local[0], own, *local[2:]))
            except OSError:
                self.close()
            else:
                self._enlarge(self._sockets[RTP])
                return
        raise OSError(f"no pair of free ports of UDP in {TRIES} tries")

    def _packets(self, channel: int) -> Iterator[Packets | None]:
        """Those that have come to one socket."""
        one = self._sockets[channel]
        if not self._known[channel]:
            self._meet(channel)
            yield None
            return
        buffer = self._buffer
        for _ in range(BATCH):
            try:
                size = one.recv_into(buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionRefusedError:  # of a report: the camera does not want it
                continue
            yield channel, [buffer[:size]], time.monotonic_ns()

    def _meet(self, channel: int) -> None:
        """Takes packets of the first sender alone that may be the camera, from now on."""
        one = self._sockets[channel]
        try:
            _, sender = one.recvfrom(0, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionRefusedError):
            return
        if self._sources is None or sender[0] in self._sources:
            one.connect(sender)
            self._known[channel] = True
        else:
            one.recv(1, socket.MSG_DONTWAIT)
            self._say(f"Packets of {sender[0]} are not the camera's, and left out")

    def _open_the_way(self, camera: Any) -> None:
        """Lets a router on the way know that packets are wanted here, as others do."""
        with suppress(OSError):
            self._sockets[RTP].sendto(struct.pack(">BBHII", 0x80, 0, 0, 0, 0), camera)
            self._sockets[RTCP].sendto(struct.pack(">BBHI", 0x80, 201, 1, 0), self._reports_to)

    def _enlarge(self, one: socket.socket) -> None:
        """Has the kernel keep as much as a key frame, or says what to do where it does not."""
        self._buffer = memoryview(bytearray(LARGEST))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        allowed = one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # it doubles what it is told, socket(7)
        if allowed < BUFFER:
            self._say(
                f"The kernel lets a socket keep {allowed} bytes, so key frames may be lost over UDP: "
                f"sysctl net.core.rmem_max={BUFFER}"
            )

    def _say(self, words: str) -> None:
        if words not in self._experience.told:
            self._experience.told.add(words)
            logger.warning("%s", words)


class Group(Datagrams):
    """Packets to a multicast group, which this host joins.

    Args:
        connection: see `Datagrams`.
        experience: see `Datagrams`.
        track: whose they are; its description may name the group.
    """

    @property
    def wanted(self) -> str:
        """See `Carrier`."""
        return f"{self._track.profile};multicast"

    def agreed(self, transport: str) -> bool:
        """See `Carrier`."""
        items = _items(transport)
        group = items.get("destination", "")
        group = group if _is_address(group) else self._track.group
        ports = _ports(items.get("port", "")) or (self._track.port, self._track.port + 1)
        if not group or not ipaddress.ip_address(group).is_multicast or not ports[0]:
            return False
        self._sources = None  # it may be sent by another host
        self._reports_to = _at(self._connection, group, ports[1])
        for port in ports:
            self._join(group, port)
        self._enlarge(self._sockets[RTP])
        return True

    def _bind(self) -> None:
        """It is the camera who says which ports."""

    def _join(self, group: str, port: int) -> None:
        local = self._connection.local
        one = socket.socket(self._connection.family, socket.SOCK_DGRAM)
        self._sockets.append(one)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # others of this host may be in it, by either
            one.setsockopt(socket.SOL_SOCKET, option, 1)
        one.bind(_at(self._connection, group, port))
        if one.family == socket.AF_INET6:
            member = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", local[3])
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
            return
        interface = socket.inet_aton(local[0])
        one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + interface)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)


def _items(transport: str) -> dict[str, str]:
    return {match[1].lower(): match[2].strip() for match in _ITEM.finditer(transport)}


def _ports(text: str) -> tuple[int, int] | None:
    """Of ``5000-5001`` or ``5000``; None where there are none."""
    first, _, second = text.partition("-")
    port = number(first)
    following = number(second, port + 1)
    return (port, following) if 0 < port < 1 << 16 and 0 < following < 1 << 16 else None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _at(connection: Connection, host: str, port: int) -> Any:
    """An address of the same family and, of link-local ones, on the same link as the connection."""
    return (host, port, *connection.peer[2:])
