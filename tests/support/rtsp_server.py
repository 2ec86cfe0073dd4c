"""The RTSP server behind `rtsp.RtspServer`: it loops video files at their own pace, with faults to order.

`python -m tests.support.rtsp_server [--rtcp CLOCK] PORT CONTROL_FILE LOG_FILE name=file[,file] ...` runs it.
H.264, H.265 and JPEG, over TCP (interleaved) and UDP (unicast), any number of clients a path; every client starts
with the file's first frame. Test and server share two files: JSON of path to mode one way, a line for each
access unit sent the other way.

| mode   | what the path does |
|--------|--------------------|
| run    | plays its first file |
| switch | plays its second file on the same connection, from the next key frame, whatever its codec |
| stall  | sends nothing more, connections stay open |
| drop   | aborts its connections now, and each new one at PLAY |
| lose   | leaves out 2 % of the RTP packets |
| silent | accepts connections, answers nothing, sends nothing |
"""

import argparse
import asyncio
import json
import random
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, get_args
from urllib.parse import urlsplit

from tests.support.rtsp import Clock, Mode
from tests.support.rtsp_login import Login
from tests.support.rtsp_track import AccessUnit, Track

CONTROL_INTERVAL = 0.05  # s between looks at the control file
LOSS = 0.02
UDP_BURST = 8  # packets sent without a pause: a key frame at once overruns a default receive buffer
JUMP_AFTER = 100  # packets, after which a clock jumps into the past
NTP_EPOCH = 2_208_988_800  # 1970 in seconds since 1900


@dataclass
class Camera:
    """A path: its files, its mode, the file it plays and its clients' connections."""

    name: str
    tracks: list[Track]
    mode: Mode = "run"
    playing: int = 0
    clients: "set[Client]" = field(default_factory=set)

    def enter(self, mode: Mode) -> None:
        self.mode = mode
        if mode in ("run", "switch"):
            self.playing = min(mode == "switch", len(self.tracks) - 1)
        if mode == "drop":
            for client in list(self.clients):
                client.abort()


@dataclass
class Server:
    cameras: dict[str, Camera]
    log: TextIO
    rtcp: Clock | None
    login: Login | None = None
    clients_seen: int = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients_seen += 1
        await Client(self, reader, writer, self.clients_seen).serve()

    async def follow(self, control: Path) -> None:
        """Apply the control file whenever it has changed."""
        seen: tuple[int, int] | None = None
        while True:
            status = control.stat()
            if (status.st_ino, status.st_mtime_ns) != seen:
                seen = (status.st_ino, status.st_mtime_ns)
                for name, mode in json.loads(control.read_text()).items():
                    if self.cameras[name].mode != mode:
                        self.cameras[name].enter(mode)
            await asyncio.sleep(CONTROL_INTERVAL)


class TcpCarrier:
    """RTP and RTCP interleaved in the RTSP connection (RFC 2326, 10.12)."""

    def __init__(self, writer: asyncio.StreamWriter, channel: int) -> None:
        self._writer = writer
        self._channel = channel

    async def send(self, packets: list[bytes], *, rtcp: bool = False) -> None:
        channel = self._channel + rtcp
        self._writer.write(b"".join(struct.pack(">BBH", 36, channel, len(p)) + p for p in packets))
        await self._writer.drain()

    def close(self) -> None:
        """Nothing of its own to close."""


class UdpCarrier:
    """RTP from an even port, RTCP from the next, to the client's two ports."""

    def __init__(self, host: str, client_port: int) -> None:
        self._sockets = _port_pair("::1" if ":" in host else "127.0.0.1")
        self._targets = ((host, client_port), (host, client_port + 1))
        self.burst = UDP_BURST
        self.port: int = self._sockets[0].getsockname()[1]

    async def send(self, packets: list[bytes], *, rtcp: bool = False) -> None:
        for number, packet in enumerate(packets, 1):
            # Lost, as UDP does; or the client's port is not there (any more).
            with suppress(BlockingIOError, ConnectionRefusedError):
                self._sockets[rtcp].sendto(packet, self._targets[rtcp])
            if number % self.burst == 0:
                await asyncio.sleep(0.001)

    def close(self) -> None:
        for one in self._sockets:
            one.close()


def _port_pair(host: str) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(100):
        rtp, rtcp = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        try:
            rtp.bind((host, random.randrange(20_000, 30_000, 2)))
            rtcp.bind((host, rtp.getsockname()[1] + 1))
        except OSError:
            rtp.close()
            rtcp.close()
            continue
        rtp.setblocking(False)
        rtcp.setblocking(False)
        return rtp, rtcp
    raise OSError("no free pair of UDP ports")


class Playback:
    """One client's stream: sequence numbers, time stamps and reports are its own."""

    def __init__(self, server: Server, camera: Camera, carrier: TcpCarrier | UdpCarrier, client: int) -> None:
        self._server, self._camera, self._carrier, self._client = server, camera, carrier, client
        self._sequence = random.randrange(1 << 16)
        self._clock = random.randrange(1 << 31)
        self._source = random.randrange(1 << 32)
        self._packets = self._octets = 0

    def begin_anew(self) -> None:
        """As a relay does whose publisher is another: everything is numbered anew, here from before what has been."""
        self._sequence = self._sequence - 5000 & 0xFFFF
        self._clock, self._source = random.randrange(1 << 31), random.randrange(1 << 32)

    async def run(self) -> None:
        camera = self._camera
        track, index = camera.tracks[camera.playing], 0
        due, report_due = time.monotonic(), 0.0
        while True:
            if camera.mode in ("stall", "silent"):
                await asyncio.sleep(CONTROL_INTERVAL)
                due = time.monotonic()
                continue
            wanted = camera.tracks[camera.playing]
            if wanted is not track and track.units[index].key:
                track, index = wanted, 0
            if self._server.rtcp and time.monotonic() >= report_due:
                report_due = time.monotonic() + 1
                await self._carrier.send([self._sender_report()], rtcp=True)
            packets = self._packetize(track.units[index])
            if camera.mode == "lose":
                packets = [packet for packet in packets if random.random() > LOSS]
            self._server.log.write(f"{time.time():.4f} {camera.name} {index} {self._client}\n")
            await self._carrier.send(packets)
            index = (index + 1) % len(track.units)
            self._clock += track.step
            due += track.interval
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _packetize(self, unit: AccessUnit) -> list[bytes]:
        stamp = self._clock + unit.shift & 0xFFFFFFFF
        packets = []
        for payload, marker in unit.payloads:
            head = struct.pack(">BBHII", 0x80, 96 | marker << 7, self._sequence, stamp, self._source)
            packets.append(head + payload)
            self._sequence = self._sequence + 1 & 0xFFFF
            self._octets += len(payload)
        self._packets += len(packets)
        return packets

    def _sender_report(self) -> bytes:
        """RFC 3550, 6.4.1: the clock now is the next unit's time stamp."""
        now = time.monotonic() if self._server.rtcp == "uptime" else time.time() + NTP_EPOCH
        if self._server.rtcp == "past" or (self._server.rtcp == "jump" and self._packets > JUMP_AFTER):
            now -= 10 * 365 * 86_400
        seconds, fraction = divmod(now, 1)
        return struct.pack(
            ">BBHIIIIII",
            0x80,
            200,
            6,
            self._source,
            int(seconds),
            int(fraction * (1 << 32)),
            self._clock & 0xFFFFFFFF,
            self._packets & 0xFFFFFFFF,
            self._octets & 0xFFFFFFFF,
        )


@dataclass(frozen=True)
class RtspRequest:
    method: str
    url: str
    headers: dict[str, str]

    @property
    def name(self) -> str:
        """The first part of the URL's path: the camera's name."""
        return urlsplit(self.url).path.strip("/").partition("/")[0]


@dataclass(frozen=True)
class RtspResponse:
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


class Client:
    """One RTSP connection."""

    def __init__(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self._server, self._reader, self._writer, self._number = server, reader, writer, number
        self._camera: Camera | None = None
        self._carrier: TcpCarrier | UdpCarrier | None = None
        self._task: asyncio.Task[None] | None = None
        self.playback: Playback | None = None

    def abort(self) -> None:
        self._writer.transport.abort()

    async def serve(self) -> None:
        try:
            while (request := await self._request()) and await self._handle(request):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if self._task:
                self._task.cancel()
            if self._carrier:
                self._carrier.close()
            if self._camera:
                self._camera.clients.discard(self)
            self._writer.close()

    async def _request(self) -> RtspRequest:
        """The next request; the client's interleaved RTCP before it is skipped."""
        while (first := await self._reader.readexactly(1)) == b"$":
            _, size = struct.unpack(">BH", await self._reader.readexactly(3))
            await self._reader.readexactly(size)
        head = first + await self._reader.readuntil(b"\r\n\r\n")
        start, *lines = head.decode().strip().split("\r\n")
        method, url, _ = start.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
        await self._reader.readexactly(int(headers.get("content-length", 0)))
        return RtspRequest(method, url, headers)

    async def _handle(self, request: RtspRequest) -> bool:
        """Answer a request; False ends the connection."""
        camera = self._server.cameras.get(request.name)
        if camera is not None and self._camera is None:
            self._camera = camera
            camera.clients.add(self)
        mode = self._camera.mode if self._camera else "run"
        if mode == "silent":
            return True
        if mode == "drop" and request.method == "PLAY":
            self.abort()
            return False
        response = self._response(request)
        headers = {"CSeq": request.headers.get("cseq", "0"), **response.headers}
        headers["Content-Length"] = str(len(response.body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._writer.write(f"RTSP/1.0 {response.status}\r\n{lines}\r\n{response.body}".encode())
        await self._writer.drain()
        if request.method == "PLAY" and response.status == "200 OK" and self._task is None:
            assert self._camera is not None
            assert self._carrier is not None
            self.playback = Playback(self._server, self._camera, self._carrier, self._number)
            self._task = asyncio.create_task(self.playback.run())
        return request.method != "TEARDOWN"

    def _response(self, request: RtspRequest) -> RtspResponse:
        session = {"Session": f"{self._number};timeout=60"}
        if request.method == "OPTIONS":
            methods = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
            return RtspResponse(headers={"Public": methods})
        login = self._server.login
        if login and not login.admits(request.method, request.headers.get("authorization", "")):
            return RtspResponse("401 Unauthorized", {"WWW-Authenticate": login.challenge})
        if self._camera is None:
            return RtspResponse("404 Not Found")
        if request.method == "DESCRIBE":
            return self._describe(request, self._camera)
        if request.method == "SETUP":
            transport = self._set_up(request.headers.get("transport", ""))
            if transport is None:
                return RtspResponse("461 Unsupported Transport")
            return RtspResponse(headers={"Transport": transport, **session})
        if request.method == "PLAY":
            if self._carrier is None:
                return RtspResponse("455 Method Not Valid in This State")
            return RtspResponse(headers={"Range": "npt=0-", **session})
        return RtspResponse(headers=session)

    def _describe(self, request: RtspRequest, camera: Camera) -> RtspResponse:
        sdp = (
            f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns={camera.name}\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
            f"c=IN IP4 0.0.0.0\r\n{camera.tracks[camera.playing].sdp}a=control:track0\r\n"
        )
        base = request.url.rstrip("/") + "/"
        return RtspResponse(headers={"Content-Base": base, "Content-Type": "application/sdp"}, body=sdp)

    def _set_up(self, transport: str) -> str | None:
        """Make the carrier that a Transport header asks for, and say so in one."""
        wanted = dict(part.strip().partition("=")[::2] for part in transport.split(";"))
        if "interleaved" in wanted:
            channel = int(wanted["interleaved"].partition("-")[0])
            self._carrier = TcpCarrier(self._writer, channel)
            return f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
        if "client_port" in wanted and "multicast" not in wanted:
            port = int(wanted["client_port"].partition("-")[0])
            carrier = UdpCarrier(self._writer.get_extra_info("peername")[0], port)
            self._carrier = carrier
            ports = f"client_port={port}-{port + 1};server_port={carrier.port}-{carrier.port + 1}"
            return f"RTP/AVP;unicast;{ports}"
        return None


async def _serve(port: int, control: Path, server: Server) -> None:
    listener = await asyncio.start_server(server.connected, "127.0.0.1", port)
    following = asyncio.create_task(server.follow(control))
    print(f"ready {listener.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
    await following


def _camera(argument: str) -> Camera:
    name, _, files = argument.partition("=")
    return Camera(name, [Track(Path(file)) for file in files.split(",")])


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve looped video files over RTSP.")
    parser.add_argument("--rtcp", choices=get_args(Clock), help="send a sender report each second, by this clock")
    parser.add_argument("--login", nargs=3, metavar=("SCHEME", "USER", "PASSWORD"), help="that it asks for")
    parser.add_argument("port", type=int, help="0 for any that is free")
    parser.add_argument("control", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("cameras", nargs="+", metavar="name=file[,file]")
    arguments = parser.parse_args()
    cameras = {camera.name: camera for camera in map(_camera, arguments.cameras)}
    with arguments.log.open("a", buffering=1) as log:
        login = Login(*arguments.login) if arguments.login else None
        asyncio.run(_serve(arguments.port, arguments.control, Server(cameras, log, arguments.rtcp, login)))


if __name__ == "__main__":
    main()
