"""Cameras for tests: an RTSP server that loops video files at their own pace, with faults to order.

`python -m tests.support.rtsp [--rtcp CLOCK] PORT CONTROL_FILE LOG_FILE name=file[,file] ...` is the server, a process
of its own, so that it can be killed and its timing is not the test's; `RtspServer` is a test's handle on it.
H.264 and H.265, over TCP (interleaved) and UDP (unicast), any number of clients a path; every client starts
with the file's first frame. Test and server share two files: JSON of path to mode one way, a line for each
access unit sent the other way.

| mode   | what the path does |
|--------|--------------------|
| run    | plays its first file |
| switch | plays its second file on the same connection, from the next key frame |
| stall  | sends nothing more, connections stay open |
| drop   | aborts its connections now, and each new one at PLAY |
| lose   | leaves out 2 % of the RTP packets |
| silent | accepts connections, answers nothing, sends nothing |
"""

import argparse
import asyncio
import base64
import ctypes
import json
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO, get_args
from urllib.parse import urlsplit

import av

Mode = Literal["run", "switch", "stall", "drop", "lose", "silent"]
Clock = Literal["wall", "uptime"]  # of sender reports; a camera that does not know the time counts from zero

START_TIMEOUT = 15.0
CONTROL_INTERVAL = 0.05  # s between looks at the control file
TICKS = 90_000  # RTP ticks a second
PAYLOAD = 1400  # bytes of a NAL unit in one RTP packet
LOSS = 0.02
UDP_BURST = 8  # packets sent without a pause: a key frame at once overruns a default receive buffer
NTP_EPOCH = 2_208_988_800  # 1970 in seconds since 1900


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills the child when the thread that started it ends (prctl(2))."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


@dataclass(frozen=True)
class Sent:
    """An access unit that left: at Unix `time`, from path `name`, frame `index` of its file, to `client`."""

    time: float
    name: str
    index: int
    client: int


class RtspServer:
    """The server process. `cameras`: a path's name to its file, or to two of them for `switch`."""

    def __init__(
        self,
        cameras: Mapping[str, Path | Sequence[Path]],
        directory: Path,
        *,
        port: int = 0,
        rtcp: Clock | None = None,
    ) -> None:
        self.port = port
        self.rtcp = rtcp
        self._files = {name: [f] if isinstance(f, Path) else list(f) for name, f in cameras.items()}
        self._modes: dict[str, Mode] = dict.fromkeys(cameras, "run")
        self._control = directory / "rtsp-control.json"
        self._log = directory / "rtsp-sent.log"
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Of the server's process, which runs."""
        assert self._process is not None
        return self._process.pid

    def url(self, name: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def fault(self, mode: Mode, name: str | None = None) -> None:
        """Put one path, or all of them, in a mode; in effect within 0.1 s."""
        if name is not None and name not in self._modes:
            raise KeyError(name)
        self._modes.update(dict.fromkeys([name] if name else self._modes, mode))
        draft = self._control.with_suffix(".new")
        draft.write_text(json.dumps(self._modes))
        draft.replace(self._control)

    def sent(self) -> list[Sent]:
        """Everything sent so far, over all starts of the server."""
        if not self._log.exists():
            return []
        lines = self._log.read_text().splitlines(keepends=True)
        return [_parse_sent(line) for line in lines if line.endswith("\n")]

    def start(self) -> None:
        """Start the server, on the same port as before if there was one; returns when it listens."""
        self._control.parent.mkdir(parents=True, exist_ok=True)
        self._control.write_text(json.dumps(self._modes))
        paths = [f"{name}={','.join(str(f.resolve()) for f in files)}" for name, files in self._files.items()]
        options = ["--rtcp", self.rtcp] if self.rtcp else []
        command = [sys.executable, "-m", "tests.support.rtsp", *options, str(self.port)]
        command += [str(self._control.resolve()), str(self._log.resolve()), *paths]
        self._process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
        self.port = self._wait_ready()

    def stop(self) -> None:
        """Kill the server; its clients see their connections end."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_ready(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        select.select([self._process.stdout], [], [], START_TIMEOUT)
        # Readable is a line, or the end of a process that failed; anything else is the deadline.
        if self._process.poll() is None and not select.select([self._process.stdout], [], [], 0)[0]:
            self.stop()
            raise RuntimeError(f"the RTSP server was not ready within {START_TIMEOUT} s")
        word, _, port = self._process.stdout.readline().partition(" ")
        if word != "ready":
            self.stop()
            raise RuntimeError("the RTSP server failed to start: see its standard error")
        return int(port)


def _parse_sent(line: str) -> Sent:
    moment, name, index, client = line.split()
    return Sent(float(moment), name, int(index), int(client))


# What follows runs in the server's process.


@dataclass(frozen=True)
class AccessUnit:
    """One coded picture as RTP payloads, each with whether it is the last (the marker bit).

    `shift`: its presentation after its decoding time, in RTP ticks.
    """

    payloads: list[tuple[bytes, bool]]
    key: bool
    shift: int


class Track:
    """A video file taken apart into access units, parameter sets in band before every key frame."""

    def __init__(self, path: Path) -> None:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context.name
            if codec not in ("h264", "hevc") or stream.average_rate is None:
                raise SystemExit(f"{path}: {codec} cannot be served, only h264 and hevc")
            self.hevc = codec == "hevc"
            self.step = round(TICKS / stream.average_rate)
            self.interval = float(1 / stream.average_rate)
            self.parameters: dict[int, bytes] = {}
            self.units = list(self._access_units(container, stream))

    def nal_type(self, nal: bytes) -> int:
        return nal[0] >> 1 & 63 if self.hevc else nal[0] & 31

    @cached_property
    def sdp(self) -> str:
        """The media's attributes (RFC 6184, RFC 7798)."""
        sets = {kind: base64.b64encode(nal).decode() for kind, nal in self.parameters.items()}
        if self.hevc:
            format_line = f"sprop-vps={sets[32]}; sprop-sps={sets[33]}; sprop-pps={sets[34]}"
        else:
            format_line = f"packetization-mode=1; sprop-parameter-sets={sets[7]},{sets[8]}"
        return f"a=rtpmap:96 {'H265' if self.hevc else 'H264'}/90000\r\na=fmtp:96 {format_line}\r\n"

    def _payloads(self, nals: list[bytes]) -> Iterator[tuple[bytes, bool]]:
        """The NAL units of an access unit, cut up; made once for all clients, of which there may be a hundred."""
        for number, nal in enumerate(nals, 1):
            last = number == len(nals)
            if len(nal) <= PAYLOAD:
                yield nal, last
                continue
            kind, header_size = self.nal_type(nal), 2 if self.hevc else 1
            # A fragmentation unit: type 49 in a two-byte header, or 28 in one byte.
            header = bytes([nal[0] & 0x81 | 49 << 1, nal[1]]) if self.hevc else bytes([nal[0] & 0xE0 | 28])
            for start in range(header_size, len(nal), PAYLOAD):
                end = start + PAYLOAD >= len(nal)
                flags = (0x80 if start == header_size else 0) | (0x40 if end else 0)
                yield header + bytes([flags | kind]) + nal[start : start + PAYLOAD], last and end

    def _access_units(self, container: Any, stream: Any) -> Iterator[AccessUnit]:
        annex_b = av.BitStreamFilterContext("hevc_mp4toannexb" if self.hevc else "h264_mp4toannexb", stream)
        parameter_types = (32, 33, 34) if self.hevc else (7, 8)
        key_types = range(16, 22) if self.hevc else (5,)
        for packet in container.demux(stream):
            if not packet.size:
                break
            shift = round(((packet.pts or 0) - (packet.dts or 0)) * packet.time_base * TICKS)
            for filtered in annex_b.filter(packet):
                nals = _split_nals(bytes(filtered))
                kinds = [self.nal_type(nal) for nal in nals]
                for kind, nal in zip(kinds, nals, strict=True):
                    if kind in parameter_types:
                        self.parameters.setdefault(kind, nal)
                key = any(kind in key_types for kind in kinds)
                if key and not set(parameter_types) & set(kinds):
                    nals = [*self.parameters.values(), *nals]
                yield AccessUnit(list(self._payloads(nals)), key, shift)


def _split_nals(annex_b: bytes) -> list[bytes]:
    return [nal for part in annex_b.split(b"\0\0\1") if (nal := part.rstrip(b"\0"))]


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
        self._sockets = _port_pair()
        self._targets = ((host, client_port), (host, client_port + 1))
        self.port: int = self._sockets[0].getsockname()[1]

    async def send(self, packets: list[bytes], *, rtcp: bool = False) -> None:
        for number, packet in enumerate(packets, 1):
            # Lost, as UDP does; or the client's port is not there (any more).
            with suppress(BlockingIOError, ConnectionRefusedError):
                self._sockets[rtcp].sendto(packet, self._targets[rtcp])
            if number % UDP_BURST == 0:
                await asyncio.sleep(0.001)

    def close(self) -> None:
        for one in self._sockets:
            one.close()


def _port_pair() -> tuple[socket.socket, socket.socket]:
    for _ in range(100):
        rtp, rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        try:
            rtp.bind(("127.0.0.1", random.randrange(20_000, 30_000, 2)))
            rtcp.bind(("127.0.0.1", rtp.getsockname()[1] + 1))
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
        now = time.time() + NTP_EPOCH if self._server.rtcp == "wall" else time.monotonic()
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
            playback = Playback(self._server, self._camera, self._carrier, self._number)
            self._task = asyncio.create_task(playback.run())
        return request.method != "TEARDOWN"

    def _response(self, request: RtspRequest) -> RtspResponse:
        session = {"Session": f"{self._number};timeout=60"}
        if request.method == "OPTIONS":
            methods = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
            return RtspResponse(headers={"Public": methods})
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
    tracks = [Track(Path(file)) for file in files.split(",")]
    if len({track.hevc for track in tracks}) > 1:
        raise SystemExit(f"{name}: its files must have the same codec, the session describes but one")
    return Camera(name, tracks)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve looped video files over RTSP.")
    parser.add_argument("--rtcp", choices=get_args(Clock), help="send a sender report each second, by this clock")
    parser.add_argument("port", type=int, help="0 for any that is free")
    parser.add_argument("control", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("cameras", nargs="+", metavar="name=file[,file]")
    arguments = parser.parse_args()
    cameras = {camera.name: camera for camera in map(_camera, arguments.cameras)}
    with arguments.log.open("a", buffering=1) as log:
        asyncio.run(_serve(arguments.port, arguments.control, Server(cameras, log, arguments.rtcp)))


if __name__ == "__main__":
    main()
