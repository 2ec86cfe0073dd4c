"""H.264 whose pictures are fields (PAFF), which no encoder at hand makes: its macroblocks are not compressed (I_PCM).

See ITU-T H.264, 7.3. Each frame is a field of the top lines and a field of the others, of I slices.
"""

import numpy as np
from numpy.typing import NDArray

from framesrv.segment.layout import Pixels

I_SLICES, I_PCM = 7, 25


class _Writer:
    """Bits, one after the other."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def put(self, value: int, count: int) -> None:
        self.bits += [value >> shift & 1 for shift in reversed(range(count))]

    def number(self, value: int) -> None:
        """ue(v)."""
        self.put(value + 1, 2 * (value + 1).bit_length() - 1)

    def align(self) -> None:
        self.bits += [0] * (-len(self.bits) % 8)

    def to_bytes(self) -> bytes:
        return np.packbits(np.array(self.bits, np.uint8)).tobytes()


def _nal(head: int, payload: bytes) -> bytes:
    """With what keeps the payload from looking like the beginning of another."""
    found = bytearray([head])
    zeros = 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            found.append(3)
            zeros = 0
        found.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(found)


def _ended(bits: _Writer) -> bytes:
    bits.put(1, 1)
    bits.align()
    return bits.to_bytes()


def parameter_sets(width: int, height: int) -> list[bytes]:
    """Of pictures of that size, sides of which are multiples of 16 and 32."""
    sps = _Writer()
    sps.put(77, 8)  # Main
    sps.put(0, 8)
    sps.put(40, 8)
    for value in (0, 0, 2, 1):  # its number, frame_num of 4 bits, order as decoded, one reference
        sps.number(value)
    sps.put(0, 1)
    sps.number(width // 16 - 1)
    sps.number(height // 32 - 1)
    sps.put(0b00100, 5)  # fields there may be, no macroblocks of fields; direct_8x8; no cropping, no VUI
    pps = _Writer()
    for value in (0, 0):
        pps.number(value)
    pps.put(0b00, 2)
    for value in (0, 0, 0):
        pps.number(value)
    pps.put(0b000, 3)
    for value in (0, 0, 0):
        pps.number(value)
    pps.put(0b100, 3)  # slices say whether they are deblocked
    return [_nal(0x67, _ended(sps)), _nal(0x68, _ended(pps))]


def coded(luma: Pixels, index: int, every: int = 1) -> list[bytes]:
    """The two fields of a picture, grey but for its luma; one in `every`, 16 at most, begins with an IDR field."""
    return [_field(luma[bottom::2], index, every, bottom=bool(bottom)) for bottom in (0, 1)]


def _field(luma: Pixels, index: int, every: int, *, bottom: bool) -> bytes:
    idr = not bottom and index % every == 0
    head = _Writer()
    for value in (0, I_SLICES, 0):
        head.number(value)
    head.put(index % every, 4)  # frame_num
    head.put(0b10 | bottom, 2)
    if idr:
        head.number(index // every % 2)  # idr_pic_id
        head.put(0, 2)
    else:
        head.put(0, 1)
    head.number(0)  # slice_qp_delta
    head.number(1)  # not deblocked
    head.number(I_PCM)
    head.align()
    between = _Writer()
    between.number(I_PCM)
    between.align()
    blocks: NDArray[np.uint8] = luma.reshape(luma.shape[0] // 16, 16, luma.shape[1] // 16, 16).transpose(0, 2, 1, 3)
    chroma = bytes([128]) * 128
    data = between.to_bytes().join(block.tobytes() + chroma for block in blocks.reshape(-1, 16, 16))
    return _nal(0x65 if idr else 0x61, head.to_bytes() + data + b"\x80")
