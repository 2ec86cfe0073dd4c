"""The bytes of a segment: what the docstring promises to readers in other languages is what the code does."""

import re
import struct

import numpy as np
import pytest

from framesrv import SegmentFormatError
from framesrv.segment import layout
from framesrv.segment.layout import HEADER, MAX_SLOTS, NO_SLOT, PAGE, PLANE, PixelFormat

_ROW = re.compile(r"^ +(\d+) +(\d+) +(\w+)  +(\S.*)$", re.MULTILINE)
_ITEM_SIZES = {"long": 8, "word": 4}
EVERY_SIZE = [(1, 1), (2, 2), (64, 48), (321, 241), (322, 242), (1920, 1080), (16384, 16384)]


def table(begin: str, end: str) -> list[tuple[int, int, str, str]]:
    """Offset, size, name and meaning of each row of a table of the docstring."""
    assert layout.__doc__ is not None
    text = layout.__doc__.split(begin, 1)[1].split(end, 1)[0]
    rows = [(int(offset), int(size), name, what) for offset, size, name, what in _ROW.findall(text)]
    assert len(rows) > 5
    return rows


HEADER_TABLE = table("Header page", "Frame record")
RECORD_TABLE = table("Frame record", "Coordination")


def test_header_is_as_its_table_says() -> None:
    assert HEADER.fields is not None
    written = {name: (offset, size) for offset, size, name, _ in HEADER_TABLE if name != "records"}
    assert written == {name: (field[1], field[0].itemsize) for name, field in HEADER.fields.items()}
    assert HEADER.itemsize == PAGE == 4096


@pytest.mark.parametrize("rows", [HEADER_TABLE, RECORD_TABLE], ids=["header", "record"])
def test_rows_are_in_order_aligned_and_do_not_overlap(rows: list[tuple[int, int, str, str]]) -> None:
    end = 0
    for offset, size, name, _ in rows:
        assert offset >= end, name
        assert offset % min(size & -size, 8) == 0, name
        end = offset + size
    assert end <= (PAGE if rows is HEADER_TABLE else 128)


def test_records_are_as_their_table_says() -> None:
    assert HEADER_TABLE[-1][:3] == (layout.RECORDS_OFFSET, layout.RECORD_SIZE * MAX_SLOTS, "records")
    assert "128 bytes" in (layout.__doc__ or "").split("Frame record", 1)[1][:20]
    assert layout.RECORD_SIZE == 128
    sizes = [struct.calcsize("<" + letter) for letter in "Q" + layout.RECORD.lstrip("<")]
    assert [size for _, size, _, _ in RECORD_TABLE] == sizes
    assert [offset for offset, _, _, _ in RECORD_TABLE] == [sum(sizes[:index]) for index in range(len(sizes))]
    offsets = {name: offset for offset, _, name, _ in RECORD_TABLE}
    assert (offsets["pts"], offsets["arrived"]) == (layout.RECORD_BODY, layout.RECORD_ARRIVED)


def test_planes_are_as_their_row_says() -> None:
    """The row counts the words: offset in the slot (long), stride, rows, bytes used in a row, 0 (words)."""
    row = next(row for row in HEADER_TABLE if row[2] == "planes")
    assert row[3] == "3 of: offset in the slot (long), stride, rows, bytes used in a row, 0 (words)"
    assert PLANE.names == ("offset", "stride", "rows", "used", "zero")
    assert [PLANE[name].itemsize for name in PLANE.names] == [8, 4, 4, 4, 4]
    assert 3 * PLANE.itemsize == row[1]


def test_values_are_as_the_table_says() -> None:
    meaning = {name: what for _, _, name, what in (*HEADER_TABLE, *RECORD_TABLE) if name != "seq"}
    assert meaning["magic"].startswith('b"FRAMESRV"')
    assert layout.MAGIC.to_bytes(8, "little") == b"FRAMESRV"
    assert meaning["version"].startswith(f"{layout.VERSION};")
    assert f"{NO_SLOT:#x}: none" in meaning["newest"]
    assert meaning["slots"].startswith(f"number of slots, at most {MAX_SLOTS}")
    assert meaning["pixel_format"] == ", ".join(f"{n} {name}" for n, name in layout.PIXEL_FORMATS.items())
    assert meaning["state"] == f"{layout.CONNECTING} connecting, {layout.LIVE} live"
    assert meaning["pts"].endswith("-2**63: unknown")
    assert layout.NO_PTS == -(2**63)
    matrices = {"bt709": "BT.709", "bt601": "BT.601", "bt2020": "BT.2020"}
    assert all(f"{number} {matrices[name]}" in meaning["matrix"] for number, name in layout.MATRICES.items())


def test_lock_bytes_are_as_the_docstring_says() -> None:
    text = layout.__doc__ or ""
    assert re.search(rf"^ +byte {layout.WRITER_BYTE} +writer ", text, re.MULTILINE)
    assert re.search(rf"^ +byte {layout.DEMAND_BYTE} +demand ", text, re.MULTILINE)
    assert re.search(rf"^ +byte {layout.SLOT_BYTE} \+ i +slot i ", text, re.MULTILINE)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
@pytest.mark.parametrize(("width", "height"), EVERY_SIZE)
def test_planes_lie_in_their_slot_one_after_the_other(width: int, height: int, pixel_format: PixelFormat) -> None:
    geometry = layout.Geometry(width, height, pixel_format, 3)
    end = 0
    for plane in geometry.planes:
        assert plane.offset >= end
        assert plane.offset % 32 == 0
        assert plane.stride % 32 == 0
        assert plane.stride >= plane.used
        end = plane.offset + plane.stride * plane.rows
    assert end <= geometry.slot_size
    assert geometry.slot_size % PAGE == 0
    assert geometry.nbytes == PAGE + 3 * geometry.slot_size
    assert geometry.planes[0].rows == height


@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
@pytest.mark.parametrize(("width", "height"), EVERY_SIZE)
def test_geometry_comes_back_from_the_header(width: int, height: int, pixel_format: PixelFormat) -> None:
    geometry = layout.Geometry(width, height, pixel_format, 2)
    header = np.zeros(1, HEADER)
    layout.describe(header, geometry)
    with pytest.raises(SegmentFormatError, match="magic"):
        layout.geometry_of(header, geometry.nbytes)
    header["magic"] = layout.MAGIC
    with pytest.raises(SegmentFormatError, match="version 0"):
        layout.geometry_of(header, geometry.nbytes)
    header["version"] = layout.VERSION
    assert layout.geometry_of(header, geometry.nbytes) == geometry
    with pytest.raises(SegmentFormatError, match="bytes long"):
        layout.geometry_of(header, geometry.nbytes - 1)
