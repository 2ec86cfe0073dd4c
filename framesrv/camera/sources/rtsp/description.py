"""What a camera plays (SDP, RFC 8866): its video tracks, whatever else is in it, and however it is written."""

import re
from dataclasses import dataclass, field

from framesrv.camera.sources import reasons
from framesrv.camera.sources.reasons import Reason, cannot
from framesrv.camera.sources.rtsp import message

# by the encoding names of RTP (https://www.iana.org/assignments/rtp-parameters)
CODECS = {"h264": "h264", "h265": "hevc", "hevc": "hevc", "jpeg": "mjpeg"}
STATIC = {26: ("jpeg", 90_000), 31: ("h261", 90_000), 32: ("mpv", 90_000), 33: ("mp2t", 90_000), 34: ("h263", 90_000)}
CLOCK = 90_000  # ticks a second, of all video
_KEY_FRAMES = re.compile(r"nack\s+pli|ccm\s+fir", re.IGNORECASE)
_SIZE = re.compile(r"([1-9]\d{0,4})[,-]([1-9]\d{0,4})")
_SESSION: Reason = ("format", "what the camera describes is no session: there is no medium in it")


@dataclass(frozen=True, slots=True)
class Track:
    """One video track.

    Attributes:
        codec: FFmpeg's name of those that we take apart, ``h264``, ``hevc`` or ``mjpeg``; of others RTP's, in small
            letters; empty where nothing says what it is.
        payload_type: of its packets.
        clock_rate: ticks a second of its time stamps.
        parameters: of the codec, by their names in small letters.
        control: what it is set up by, absolute or relative; may be empty.
        feedback: whether the camera takes requests for key frames.
        group: the address it is sent to where that is a multicast group, else empty.
        port: of that.
        profile: of RTP, as ``RTP/AVP``.
        size: width and height in pixels, where an attribute says them.
    """

    codec: str
    payload_type: int
    clock_rate: int = CLOCK
    parameters: dict[str, str] = field(default_factory=dict)
    control: str = ""
    feedback: bool = False
    group: str = ""
    port: int = 0
    profile: str = "RTP/AVP"
    size: tuple[int, int] | None = None

    @property
    def encrypted(self) -> bool:
        """Whether it comes as SRTP."""
        return "SAVP" in self.profile

    @property
    def known(self) -> bool:
        """Whether we take it apart."""
        return self.codec in CODECS.values()


@dataclass(frozen=True, slots=True)
class Description:
    """A session.

    Attributes:
        control: what it is played by, absolute or relative; may be empty.
        tracks: those of video.
        kinds: of all media, as ``audio``.
    """

    control: str
    tracks: list[Track]
    kinds: list[str]

    def track(self, number: int) -> Track:
        """The track of that number among those of video, from 1; 0 for the first that we take apart.

        Raises:
            SourceError: there is no such track.
        """
        if not self.kinds:
            raise cannot(_SESSION)
        if not self.tracks:
            sound = set(self.kinds) == {"audio"}
            raise cannot(reasons.ONLY_SOUND if sound else ("no_video", "there is no video in it"))
        if number > len(self.tracks):
            raise cannot(("no_video", f"there is no video track {number} in it, only {len(self.tracks)}"))
        if number:
            return self.tracks[number - 1]
        return next((track for track in self.tracks if track.known), self.tracks[0])


@dataclass(slots=True)
class _Medium:
    kind: str
    port: int
    profile: str
    formats: list[int]
    attributes: list[tuple[str, str]] = field(default_factory=list)
    connection: str = ""


def parse(text: bytes) -> Description:
    """The session that is described there; it has no tracks where that is none."""
    attributes: list[tuple[str, str]] = []  # of the session
    connection = ""
    media: list[_Medium] = []
    for line in text.decode("utf-8", "replace").splitlines():
        key, equals, value = line.strip().partition("=")
        value = value.strip()
        if not equals:
            continue
        if key == "m":
            if medium := _medium(value):
                media.append(medium)
        elif key == "a":
            name, _, rest = value.partition(":")
            (media[-1].attributes if media else attributes).append((name.strip().lower(), rest.strip()))
        elif key == "c" and media:
            media[-1].connection = value
        elif key == "c":
            connection = value
    tracks = [_track(medium, medium.connection or connection) for medium in media if medium.kind == "video"]
    return Description(_first(attributes, "control"), tracks, [medium.kind for medium in media])


def _medium(value: str) -> _Medium | None:
    """Of ``m=KIND PORT[/PORTS] PROFILE NUMBER ...``; None where it is not even that."""
    parts = value.split()
    if len(parts) < 3:
        return None
    numbers = [message.number(one, None) for one in parts[3:]]
    port = message.number(parts[1].partition("/")[0])
    return _Medium(parts[0].lower(), port, parts[2].upper(), [one for one in numbers if one is not None])


def _track(medium: _Medium, connection: str) -> Track:
    maps = _numbered(medium.attributes, "rtpmap")
    formats = _numbered(medium.attributes, "fmtp")
    numbers = medium.formats or list(maps) or [96]
    candidates = [_format(number, maps.get(number, ""), formats.get(number, "")) for number in numbers]
    known = [one for one in candidates if one[0] in CODECS.values()]
    codec, number, clock, parameters = (known or [one for one in candidates if one[0]] or candidates)[0]
    feedback = [
        rest for name, rest in medium.attributes if name == "rtcp-fb" and rest.split()[:1] in ([str(number)], ["*"])
    ]
    return Track(
        codec,
        number,
        clock,
        parameters,
        _first(medium.attributes, "control"),
        any(_KEY_FRAMES.search(rest) for rest in feedback),
        _group(connection),
        medium.port,
        medium.profile.partition("/UDP")[0].partition("/TCP")[0],
        _size(medium.attributes),
    )


def _format(number: int, mapped: str, written: str) -> tuple[str, int, int, dict[str, str]]:
    """Codec, number, clock and parameters of one payload type."""
    name, clock = STATIC.get(number, ("", CLOCK))
    parameters = _parameters(written)
    if mapped:
        name, _, rest = mapped.partition("/")
        clock = message.number(rest.partition("/")[0]) or CLOCK
    elif not name and "sprop-vps" in parameters:
        name = "h265"
    elif not name and ("sprop-parameter-sets" in parameters or "packetization-mode" in parameters):
        name = "h264"
    name = name.strip().lower()
    return CODECS.get(name, name), number, clock, parameters


def _parameters(written: str) -> dict[str, str]:
    found = {}
    for part in written.split(";"):
        name, _, value = part.strip().partition("=")
        if name:
            found[name.strip().lower()] = value.strip()
    return found


def _numbered(attributes: list[tuple[str, str]], wanted: str) -> dict[int, str]:
    """The attributes of that name, by the payload type that each begins with."""
    found: dict[int, str] = {}
    for name, value in attributes:
        first, _, rest = value.partition(" ")
        number = message.number(first, None)
        if name == wanted and number is not None:
            found.setdefault(number, rest.strip())
    return found


def _first(attributes: list[tuple[str, str]], wanted: str) -> str:
    return next((value for name, value in attributes if name == wanted), "")


def _size(attributes: list[tuple[str, str]]) -> tuple[int, int] | None:
    """Of ``x-dimensions:WIDTH,HEIGHT``, as GStreamer has it, or ``framesize:NUMBER WIDTH-HEIGHT`` (TS 26.234)."""
    written = _first(attributes, "x-dimensions") or _first(attributes, "framesize").partition(" ")[2]
    match = _SIZE.fullmatch(written.strip())
    return (int(match[1]), int(match[2])) if match else None


def _group(connection: str) -> str:
    """The multicast group in ``IN IP4 ADDRESS/TTL``; empty where there is none."""
    import ipaddress  # which few cameras need

    words = connection.split()
    try:
        address = ipaddress.ip_address(words[2].partition("/")[0])
    except (IndexError, ValueError):
        return ""
    return str(address) if address.is_multicast else ""


def absolute(control: str, base: str) -> str:
    """The URL of a control attribute.

    Cameras mean a relative one to be appended, whatever the rules of URLs say, behind a query too.
    """
    if control in ("", "*"):
        return base
    if re.match(r"rtsps?://", control, re.IGNORECASE):
        return control
    return f"{base.rstrip('/')}/{control.lstrip('/')}"
