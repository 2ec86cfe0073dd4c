"""The bytes of a segment: what the docstring promises to readers in other languages is what the code does."""

import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from framesrv import SegmentFormatError
from framesrv.segment import layout
from framesrv.segment.layout import HEADER, MAX_SLOTS, NO_SLOT, PAGE, PixelFormat

_ROW = re.compile(r"^ +(\d+)  (\S+) +(\w+) +(\S.*)$", re.MULTILINE)
_SIZES = {"u32": 4, "u64": 8, "i64": 8, "char": 1, "plane": 24, "record": 128}
EVERY_SIZE = [(1, 1), (2, 2), (64, 48), (321, 241), (322, 242), (1920, 1080), (16384, 16384)]

Row = tuple[str, str, int, str]  # name, type, offset, meaning


def rows_of(module: ModuleType, begin: str, end: str) -> list[Row]:
    """The rows of a table of a module's docstring."""
    assert module.__doc__ is not None
    text = module.__doc__.split(begin, 1)[1].split(end, 1)[0]
    return [(name, kind, int(offset), what) for offset, kind, name, what in _ROW.findall(text)]


def table(begin: str, end: str) -> list[Row]:
    return rows_of(layout, begin, end)


def size(kind: str) -> int:
    """Bytes of a type as the docstring names it."""
    name, _, count = kind.rstrip("]").partition("[")
    return _SIZES[name] * int(count or 1)


TABLES = {
    "header": (table("Header page, 4096 bytes", "Plane, "), layout.HEADER_ROWS, HEADER, 4096),
    "plane": (table("Plane, 24 bytes", "Frame record"), layout.PLANE_ROWS, layout.PLANE, 24),
    "record": (table("Frame record, 128 bytes", "Coordination"), layout.RECORD_ROWS, layout.RECORD, 128),
}
HEADER_TABLE, RECORD_TABLE = TABLES["header"][0], TABLES["record"][0]
every_table = pytest.mark.parametrize(
    ("written", "rows", "dtype", "nbytes"), [pytest.param(*tables, id=name) for name, tables in TABLES.items()]
)


@every_table
def test_table_of_code_is_that_of_the_docstring(
    written: list[Row], rows: layout.Rows, dtype: np.dtype[Any], nbytes: int
) -> None:
    assert [row[:3] for row in written] == list(rows)


@every_table
def test_structure_is_as_its_table_says(
    written: list[Row], rows: layout.Rows, dtype: np.dtype[Any], nbytes: int
) -> None:
    assert dtype.fields is not None
    assert {name: (field[1], field[0].itemsize) for name, field in dtype.fields.items()} == {
        name: (offset, size(kind)) for name, kind, offset, _ in written
    }
    assert dtype.itemsize == nbytes


@every_table
def test_rows_are_in_order_aligned_and_do_not_overlap(
    written: list[Row], rows: layout.Rows, dtype: np.dtype[Any], nbytes: int
) -> None:
    end = 0
    for name, kind, offset, _ in written:
        assert offset >= end, name
        assert offset % min(size(kind) & -size(kind), 8) == 0, name
        end = offset + size(kind)
    assert end <= nbytes


def test_records_are_packed_as_their_structure_says() -> None:
    record = np.zeros(1, layout.RECORD)
    values = range(1, len(layout.RECORD_ROWS) + 1)
    layout.RECORD_FORMAT.pack_into(record.data.cast("B"), 0, *values)
    assert list(record[0]) == list(values)
    layout.RECORD_BODY.pack_into(record.data.cast("B"), layout.RECORD_OFFSETS["pts"], *[0] * (len(values) - 1))
    assert list(record[0]) == [1, *[0] * (len(values) - 1)]
    assert layout.record_offset(1) == 2048 + 128


def test_values_are_as_the_table_says() -> None:
    meaning = {name: what for name, _, _, what in (*HEADER_TABLE, *RECORD_TABLE) if name != "seq"}
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
