"""Servers that others wrote, each as a process that plays a video file, on one port as often as it is started.

What is not installed is said by `missing`: Debian's nginx, libnginx-mod-rtmp and motion, PyPI's rtsp-rs and
aio-rtsp-toolkit, and live555, which `live555` builds. They are no dependencies of ours; tests that need them are
skipped without.
"""

import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import av

from tests.support import live555
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.rtsp import RtspServer, die_with_parent
from tests.support.sender import Sender

RTMP_MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")


class OtherServer:
    """One, while a block lasts.

    Args:
        directory: for its files.

    Attributes:
        needs: what is to be installed for it.
        codecs: that it serves.
        ways: transports that it knows, where it speaks RTSP.
        relays: what a camera of ours sends, at a rate of its own and after a picture of its own.
    """

    needs: ClassVar[str]
    codecs: ClassVar[tuple[str, ...]] = ("h264",)
    ways: ClassVar[tuple[str, ...]] = ()
    relays: ClassVar[bool] = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._beside = ExitStack()

    @classmethod
    def missing(cls) -> str:
        """What of it is not installed; empty if nothing."""
        raise NotImplementedError

    @property
    def source(self) -> str:
        """What a camera's source is."""
        raise NotImplementedError

    def command(self, video: Path) -> list[str]:
        """That runs it; prepares what it needs."""
        raise NotImplementedError

    def beside(self, things: ExitStack, video: Path) -> None:
        """Starts what it needs once it runs."""

    def start(self, video: Path) -> None:
        """Has it play that."""
        command = self.command(video)
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )
        self.beside(self._beside, video)

    def pause(self) -> None:
        """It does nothing any more, and its connections stay open."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `pause`."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._beside.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class NginxRtmp(OtherServer):
    """nginx with its RTMP module, to which a video is published."""

    needs = "nginx and libnginx-mod-rtmp"

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("nginx") and RTMP_MODULE.exists() else cls.needs

    @property
    def source(self) -> str:
        return f"rtmp://127.0.0.1:{self.port}/live/cam"

    def command(self, video: Path) -> list[str]:
        file = self.directory / "nginx.conf"
        file.write_text(
            f"load_module {RTMP_MODULE}; pid {self.directory}/nginx.pid;\n"
            "daemon off; master_process off; events {}\n"
            f"rtmp {{ server {{ listen 127.0.0.1:{self.port}; application live {{ live on; }} }} }}\n"
        )
        return ["nginx", "-e", "stderr", "-c", str(file)]

    def beside(self, things: ExitStack, video: Path) -> None:
        things.enter_context(Sender(self.directory, video, self.source, "flv")).wait()


class Motion(OtherServer):
    """Motion, which looks at a camera of ours and serves motion JPEG over HTTP."""

    needs = "motion"
    relays = True

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("motion") else cls.needs

    @property
    def source(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def command(self, video: Path) -> list[str]:
        camera = self._beside.enter_context(RtspServer({"cam": video}, self.directory))
        file = self.directory / "motion.conf"
        keys = {"netcam_url": camera.url("cam"), "stream_port": self.port, "target_dir": self.directory}
        with av.open(str(video)) as container:
            track = container.streams.video[0]
            keys |= {"width": track.width, "height": track.height}  # which it would change to these
        keys |= {"framerate": 20, "stream_maxrate": 20, "stream_quality": 90}
        keys |= {"webcontrol_port": 0, "log_file": self.directory / "motion.log", "text_right": "", "text_left": ""}
        keys |= {"stream_localhost": "on", "picture_output": "off", "movie_output": "off", "daemon": "off"}
        file.write_text("".join(f"{name} {value}\n" for name, value in keys.items()))
        return ["motion", "-n", "-m", "-c", str(file)]


class RtspRs(OtherServer):
    """PyPI's rtsp-rs, which sends what it is given."""

    needs = "rtsp-rs"
    ways = ("udp",)

    @classmethod
    def missing(cls) -> str:
        return "" if find_spec("rtsp") else cls.needs

    @property
    def source(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def command(self, video: Path) -> list[str]:
        return [sys.executable, "-m", "tests.support.rtsp_rs_server", str(self.port), str(video)]


class AioRtsp(OtherServer):
    """PyPI's aio-rtsp-toolkit, which plays files."""

    needs = "aio-rtsp-toolkit"
    codecs = ("h264", "hevc")
    ways = ("tcp",)

    @classmethod
    def missing(cls) -> str:
        return "" if find_spec("aio_rtsp_toolkit") else cls.needs

    @property
    def source(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam.mp4?play_count=0"

    def command(self, video: Path) -> list[str]:
        shutil.copy(video, self.directory / "cam.mp4")
        program = "import asyncio, sys; from aio_rtsp_toolkit.server import serve; "
        program += "asyncio.run(serve(sys.argv[1], host='127.0.0.1', port=int(sys.argv[2])))"
        return [sys.executable, "-c", program, str(self.directory), str(self.port)]


class Live555(OtherServer):
    """live555, which plays a stream once for each who looks."""

    needs = "python -m tests.support.live555"
    codecs = ("h264", "hevc")
    ways = ("tcp", "udp")
    times = 25  # that it has the video, one after the other

    @classmethod
    def missing(cls) -> str:
        return "" if live555.SERVER.exists() else cls.needs

    @property
    def source(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def command(self, video: Path) -> list[str]:
        return [str(live555.SERVER), str(self.port), str(self.stream(video))]

    def stream(self, video: Path) -> Path:
        """The file that it plays."""
        with av.open(str(video)) as container:
            track = container.streams.video[0]
            name = track.codec_context.name
            annex_b = av.BitStreamFilterContext(f"{name}_mp4toannexb", track)
            units = [b"".join(map(bytes, annex_b.filter(one))) for one in container.demux(track) if one.size]
        file = self.directory / f"cam.{name}"
        file.write_bytes(b"".join(units) * self.times)
        return file


ALL: tuple[type[OtherServer], ...] = (NginxRtmp, Motion, RtspRs, AioRtsp, Live555)
