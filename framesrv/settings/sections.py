"""What the configuration says: every section as a frozen struct, whose attributes are the TOML keys.

The defaults are the values in force. Validation is msgspec's; pydantic would cost each decoder process 16 MB.
"""

import ipaddress
import re
import socket
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from framesrv.codec.presentation import Presentation
from framesrv.errors import ConfigError
from framesrv.history.layout import LEAST, LONGEST, MOST, usual_bytes
from framesrv.masking import password_of
from framesrv.segment.layout import CODE, CODE_RULE, MAX_SIDE, MAX_SLOTS, PREFIX, PREFIX_RULE
from framesrv.segment.owner import SUB
from framesrv.settings.ffmpeg_options import FFmpegOptions

MAX_PORT = 65535
HOST_RULE = "1 to 64 of A-Z a-z 0-9 _ . -, a letter or digit first"
HIDDEN = "-"  # in the place of a source, for who has no business with it
NOBODY = "-"  # the name of no host: routers themselves are called so
OWN_GROUP = "edge_snap_group"  # on the stream of a host to which requests are routed

# What snapd keeps until it is started again, its connections, threads and place on the stream being made by it. All
# else it takes up when it loads its configuration again.
FIXED = {
    "redis": ("url",),
    "stream": ("name", "group", "consumer", "routed", "host", "dead"),
    "snapshot": ("workers", "processes"),
    "shm": ("prefix", "owner"),
    "http": ("listen", "token", "insecure"),
}

# The keys that are secret, besides passwords in URLs.
SECRETS = {
    "store": ("secret_key", "token"),
    "result": ("signing_secret",),
    "http": ("token",),
    "camera_defaults": ("password",),
}

Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
Days = Annotated[float, Meta(ge=0, le=36500)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Rate = Annotated[float, Meta(gt=0, le=100)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Code = Annotated[str, Meta(pattern=rf"^{CODE}\Z", description=CODE_RULE)]
Prefix = Annotated[str, Meta(pattern=rf"^{PREFIX}\Z", description=PREFIX_RULE)]
Decode = Annotated[
    str,
    Meta(
        pattern=r"^(all|keyframes|demand|fps:(?!0+(\.0*)?\Z)[0-9]{1,3}(\.[0-9]{1,3})?)\Z",
        description='"all", "keyframes", "demand" or "fps:N" with N above 0',
    ),
]
Mode = Annotated[str, Meta(pattern=r"^0?6[0-7]{2}\Z", description='an octal mode such as "0640"')]
RedisUrl = Annotated[
    str,
    Meta(
        pattern=r"^(rediss?|unix|rediss?\+(sentinel|cluster))://",
        description="a redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// URL",
    ),
]
HttpOrigin = Annotated[
    str,
    Meta(pattern=r"^https?://[^/?#@\s]+\Z", description='an origin such as "https://wvp.example:18080"'),
]
Token = Annotated[
    str,
    Meta(pattern=r"^([!-~]{16,200})?\Z", description='16 to 200 characters of ASCII without spaces, or "" for none'),
]
Aspect = Annotated[
    str, Meta(pattern=r"^(auto|[1-9][0-9]{0,3}:[1-9][0-9]{0,3})\Z", description='"auto" or a ratio such as "16:9"')
]
HostName = Annotated[
    str,
    Meta(
        pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63}|-)?\Z",
        description=HOST_RULE,
    ),
]
Listen = Annotated[str, Meta(pattern=r"^(.+:[0-9]{1,5})?\Z", description='"HOST:PORT", or "" to turn it off')]


class Section(Struct, frozen=True, kw_only=True):
    """What every section is: immutable, and silent about its values, some of which are secrets."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class RedisSettings(Section, frozen=True, kw_only=True):
    """Where requests come from."""

    url: RedisUrl = "redis://127.0.0.1:6379/0"


class StreamSettings(Section, frozen=True, kw_only=True):
    """The request stream and this host's place on it."""

    name: Text = "edge_snap_request"
    group: Text = "edge_snap_group"
    consumer: Text = "edge_snap_worker"
    routed: bool = False
    host: HostName = ""
    unknown_camera: Literal["error", "ignore"] = "error"
    max_deliveries: Count = 5
    dead: Text = "edge_snap_dead"

    @property
    def source(self) -> str:
        """The stream that is read: `name`, or the host's own where requests are routed to it."""
        return f"{self.name}:{self.own_host}" if self.routed else self.name

    @property
    def source_group(self) -> str:
        """The consumer group there: `group`, or on a host's own stream always the same."""
        return OWN_GROUP if self.routed else self.group

    @property
    def own_host(self) -> str:
        """`host`, or else what the system says that this one is called."""
        return self.host or re.sub(r"[^A-Za-z0-9_.-]|^[_.-]+", "", socket.gethostname())[:64] or "localhost"


class SnapshotSettings(Section, frozen=True, kw_only=True):
    """How a picture is taken; times in seconds."""

    quality: Annotated[int, Meta(ge=1, le=100)] = 85
    encoder: Literal["simplejpeg", "turbojpeg"] = "simplejpeg"
    max_age: Seconds = 2.0
    wait: Seconds = 2.0
    deadline: Seconds = 60.0
    workers: Annotated[int, Meta(ge=1, le=256)] = 8
    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    exif: bool = True
    overlay: bool = False


class ResultSettings(Section, frozen=True, kw_only=True):
    """How the answer goes back; times in seconds."""

    callback_path: Annotated[str, Meta(pattern=r"^/", description='a path that begins with "/"')] = (
        "/api/ai/roi/snap/callback"
    )
    callback_timeout: Seconds = 5.0
    allowed_callbacks: tuple[HttpOrigin, ...] = ()
    signing_secret: str = ""
    key_prefix: Text = "snap:result:"
    key_ttl: Count = 60
    reason: bool = False


class StoreSettings(Section, frozen=True, kw_only=True):
    """Where pictures go."""

    kind: Literal["cos", "dir"] = "cos"
    region: str = ""
    bucket: str = ""
    secret_id: str = ""
    secret_key: str = ""
    token: str = ""
    credentials_file: str = ""
    scheme: Literal["https", "http"] = "https"
    domain: str = ""
    url_ttl: Count = 3600
    key_prefix: str = ""
    path: str = ""
    base_url: str = ""
    keep: Days = 0.0
    min_free: Share = 0.0

    def check(self) -> None:
        """Raises ConfigError for every key that this kind of store lacks.

        Only the programs that use the store call this: a decoder is never given the store's secrets.
        """
        if self.kind == "dir":
            missing = [] if self.path else ["path"]
        else:
            secrets = [] if self.credentials_file else ["secret_id", "secret_key"]
            wanted = ["bucket", *secrets] + ([] if self.domain else ["region"])
            missing = [key for key in wanted if not getattr(self, key)]
        if missing:
            raise ConfigError([f'store.{key}: expected a value, for kind "{self.kind}"' for key in missing])


class ShmSettings(Section, frozen=True, kw_only=True):
    """How segments are named, who may read them, and whose are read."""

    prefix: Prefix = "framesrv"
    mode: Mode = "0640"
    group: str = ""
    owner: str = ""

    @property
    def permissions(self) -> int:
        """The mode as a number."""
        return int(self.mode, 8)


class HttpSettings(Section, frozen=True, kw_only=True):
    """The address of snapd's pages, and who may see them."""

    listen: Listen = "127.0.0.1:8390"
    token: Token = ""
    insecure: bool = False

    @property
    def host(self) -> str:
        """Of `listen`, without the brackets of an IPv6 address."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Of `listen`; 0 lets the system choose one."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_local(self) -> bool:
        """Whether only this host reaches the pages."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def check(self) -> None:
        """Raises ConfigError where there is no such port, or others reach the pages and no token keeps them out."""
        if self.listen and self.port > MAX_PORT:
            raise ConfigError([f"http.listen: expected a port of at most {MAX_PORT}, not {self.port}"])
        if self.listen and not (self.is_local or self.token or self.insecure):
            raise ConfigError(
                [
                    f"http.listen: others than this host reach {self.listen}: expected a value of http.token, "
                    "or http.insecure = true to show the cameras to everybody"
                ]
            )


class RouteSettings(Section, frozen=True, kw_only=True):
    """The router, where one runs on this host; who may see its page is said by ``[http]``."""

    listen: Listen = "127.0.0.1:8391"


class CameraDefaults(Section, frozen=True, kw_only=True):
    """Any camera key but code, source and substream; ``timeout`` in seconds, ``max_pixels`` of one picture.

    ``user``, ``password`` and ``password_file`` are empty once loaded: the source has them then, see `login`.
    """

    user: str = ""
    password: str = ""
    password_file: str = ""

    decode: Decode = "all"
    substream_decode: Decode = "all"
    pixel_format: Literal["yuv420p", "bgr24"] = "yuv420p"
    slots: Annotated[int, Meta(ge=2, le=MAX_SLOTS)] = 2
    transport: Literal["auto", "tcp", "udp", "multicast", "http"] = "auto"
    track: Annotated[int, Meta(ge=0, le=64)] = 0
    tls_verify: bool = False
    tls_ca: str = ""
    timeout: Seconds = 10.0
    fps: Rate = 1.0
    aspect: Aspect = "auto"
    rotate: Literal["auto", 0, 90, 180, 270] = "auto"
    deinterlace: Literal["auto", "never"] = "auto"
    history: Annotated[float, Meta(ge=0, le=LONGEST)] = 0.0
    history_bytes: Literal["auto"] | Annotated[int, Meta(ge=LEAST, le=MOST)] = "auto"
    hwaccel: str = ""
    ffmpeg_options: FFmpegOptions = {}
    max_pixels: Annotated[int, Meta(ge=1, le=MAX_SIDE * MAX_SIDE)] = 8192 * 4352


class Camera(CameraDefaults, frozen=True, kw_only=True):
    """One camera; its ``substream`` is a second, smaller stream of it, empty where it has none."""

    code: Code
    source: Text
    substream: str = ""
    enabled: bool = True

    @property
    def streams(self) -> tuple["Camera", ...]:
        """Its streams, each as a camera that has one alone: its own, and that of `substream` as ``CODE.sub``."""
        if not self.substream:
            return (self,)
        second = {
            "code": self.code + SUB,
            "source": self.substream,
            "decode": self.substream_decode,
            "history": 0.0,
        }
        return replace(self, substream=""), replace(self, substream="", **second)

    @property
    def history_room(self) -> int:
        """Bytes that its history takes at most; 0 where it keeps none."""
        if not self.history:
            return 0
        return usual_bytes(self.history) if self.history_bytes == "auto" else self.history_bytes

    @property
    def presentation(self) -> Presentation:
        """How its pictures are to be given."""
        return Presentation(
            self.pixel_format,
            self.deinterlace == "auto",
            None if self.aspect == "auto" else Fraction(*map(int, self.aspect.split(":"))),
            None if self.rotate == "auto" else self.rotate,
        )

    @property
    def hidden(self) -> "Camera":
        """The same without where it is: there may be passwords in that."""
        return replace(self, source=HIDDEN, substream=HIDDEN if self.substream else "")


class Settings(Struct, frozen=True, kw_only=True):
    """The whole configuration.

    Attributes:
        file: the file that was read, None if there was none.
        cameras: in the order of the file, without those that are out of service.
        disabled: the codes of those.
        exposed: the files with passwords that everybody on this host may read.
    """

    file: Path | None = None
    redis: RedisSettings = RedisSettings()
    stream: StreamSettings = StreamSettings()
    snapshot: SnapshotSettings = SnapshotSettings()
    result: ResultSettings = ResultSettings()
    store: StoreSettings = StoreSettings()
    shm: ShmSettings = ShmSettings()
    http: HttpSettings = HttpSettings()
    route: RouteSettings = RouteSettings()
    cameras: tuple[Camera, ...] = ()
    disabled: tuple[str, ...] = ()
    exposed: tuple[Path, ...] = ()

    @property
    def streams(self) -> tuple[Camera, ...]:
        """All that is decoded, and has a segment, see `Camera.streams`."""
        return tuple(stream for camera in self.cameras for stream in camera.streams)

    @property
    def policies(self) -> dict[str, str]:
        """What is decoded of each stream, by its code."""
        return {stream.code: stream.decode for stream in self.streams}

    @property
    def secrets(self) -> list[str]:
        """Every value that nobody is to be shown."""
        urls = [self.redis.url, *(stream.source for stream in self.streams)]
        own = [
            getattr(getattr(self, name), key) for name, keys in SECRETS.items() if hasattr(self, name) for key in keys
        ]
        return [secret for secret in (*map(password_of, urls), *sentinel_passwords(self.redis.url), *own) if secret]

    def camera(self, code: str) -> Camera | None:
        """The camera of that code, None if there is no such camera."""
        return next((camera for camera in self.cameras if camera.code == code), None)

    def stream_of(self, code: str) -> Camera | None:
        """The camera of that code, or the second stream of one, see `Camera.streams`; None if there is neither."""
        return self.camera(code) or next((stream for stream in self.streams if stream.code == code), None)


def sentinel_passwords(url: str) -> list[str]:
    """The passwords in the query of a Redis URL."""
    found: list[str] = re.findall(r"[?&]\w*password=([^&#]+)", url)
    return found


SECTIONS: dict[str, type[Section]] = {
    "redis": RedisSettings,
    "stream": StreamSettings,
    "snapshot": SnapshotSettings,
    "result": ResultSettings,
    "store": StoreSettings,
    "shm": ShmSettings,
    "http": HttpSettings,
    "route": RouteSettings,
    "camera_defaults": CameraDefaults,
}
