"""The bytes of a history: what the docstring promises to readers in other languages is what the code does."""

from typing import Any

import numpy as np
import pytest

from framesrv.history import layout
from framesrv.history.layout import DESCRIPTION, HEADER, RECORD, Extent
from framesrv.segment import layout as segment
from framesrv.segment.layout import PAGE
from tests.segment.test_layout import Row, rows_of, size

TABLES = {
    "header": ("Header page, 4096 bytes", "Record, ", layout.HEADER_ROWS, HEADER, PAGE),
    "record": ("Record, 96 bytes", "Description, ", layout.RECORD_ROWS, RECORD, 96),
    "description": ("Description, 64 bytes", "Without extradata", layout.DESCRIPTION_ROWS, DESCRIPTION, 64),
}


@pytest.mark.parametrize("name", TABLES)
def test_table_of_the_docstring_is_that_of_the_code_and_its_structure(name: str) -> None:
    begin, end, rows, dtype, nbytes = TABLES[name]
    written: list[Row] = rows_of(layout, begin, end)
    assert [row[:3] for row in written] == list(rows)
    fields: Any = dtype.fields
    assert {name: (field[1], field[0].itemsize) for name, field in fields.items()} == {
        name: (offset, size(kind)) for name, kind, offset, _ in written
    }
    assert dtype.itemsize == nbytes
    last = 0
    for name, kind, offset, _ in written:
        assert offset >= last, name
        assert offset % min(size(kind) & -size(kind), 8) == 0, name
        last = offset + size(kind)
    assert last <= nbytes


@pytest.mark.parametrize(
    ("packing", "dtype", "rows"),
    [
        (layout.RECORD_FORMAT, RECORD, layout.RECORD_ROWS),
        (layout.DESCRIPTION_FORMAT, DESCRIPTION, layout.DESCRIPTION_ROWS),
    ],
    ids=["record", "description"],
)
def test_structures_are_packed_as_they_are_described(packing: Any, dtype: Any, rows: segment.Rows) -> None:
    found = np.zeros(1, dtype)
    values = [b"x" if kind.startswith("char") else number for number, (_, kind, _) in enumerate(rows, 1)]
    packing.pack_into(found.data.cast("B"), 0, *values)
    assert list(found[0]) == values


def test_a_history_begins_as_a_segment_does() -> None:
    assert layout.HEADER_ROWS[:4] == segment.HEADER_ROWS[:4]
    assert layout.MAGIC.to_bytes(8, "little") == b"FRAMEHIS"
    meaning = {name: what for name, _, _, what in rows_of(layout, *TABLES["header"][:2])}
    assert meaning["version"].startswith(f"{layout.VERSION};")


def test_no_segment_has_the_name_of_a_history() -> None:
    name = layout.history_name("framesrv", "cam.history")
    assert name == "framesrv+history.cam.history"
    assert segment.code_of(f"/dev/shm/{name}") == "cam.history"
    with pytest.raises(ValueError, match="prefix"):
        segment.segment_name("framesrv+history", "cam")


@pytest.mark.parametrize("nbytes", [layout.LEAST, 1_000_001, 14_000_000, layout.MOST])
@pytest.mark.parametrize("seconds", [0.5, 10.0, 300.0])
def test_a_history_is_never_larger_than_it_may_be(seconds: float, nbytes: int) -> None:
    extent = Extent.of(seconds, nbytes)
    assert nbytes - PAGE < extent.nbytes <= nbytes
    assert extent.data_size > nbytes // 2
    assert extent.data_offset % PAGE == 0


@pytest.mark.parametrize(("seconds", "nbytes"), [(0.0, 10**6), (301.0, 10**6), (1.0, 1000), (1.0, 2**30)])
def test_extents_out_of_range_are_refused(seconds: float, nbytes: int) -> None:
    with pytest.raises(ValueError, match="expected up to"):
        Extent.of(seconds, nbytes)
