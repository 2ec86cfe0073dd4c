"""`framesrv.h` says what the layout says, compiles without a warning, is installed, and its examples run."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from framesrv import FrameWriter, cli
from framesrv.errors import Reason
from framesrv.segment import layout, mapping, owner, pace, search
from tests.segment.observing import wait_until
from tests.segment.test_layout import EVERY_SIZE
from tests.support import c_programs as c
from tests.support.segment_programs import HEIGHT, WIDTH, put

ROOT = Path(__file__).parents[2]
HEADER_TEXT = (c.INCLUDE / "framesrv.h").read_text("utf-8")
PAGE_TEXT = (ROOT / "docs" / "reading-frames-c.md").read_text("utf-8")
TYPES = {"u32": "uint32_t", "u64": "uint64_t", "i64": "int64_t", "char": "char"}
TYPES |= {"plane": "struct framesrv_plane_", "record": "struct framesrv_record_"}
STRUCTURES = {
    "framesrv_header_": (layout.HEADER_ROWS, layout.HEADER.itemsize),
    "framesrv_record_": (layout.RECORD_ROWS, layout.RECORD.itemsize),
    "framesrv_plane_": (layout.PLANE_ROWS, layout.PLANE.itemsize),
}
CONSTANTS = {
    "FRAMESRV_MAGIC_": layout.MAGIC,
    "FRAMESRV_VERSION_": layout.VERSION,
    "FRAMESRV_OLDEST_": layout.OLDEST,
    "FRAMESRV_PAGE_": layout.PAGE,
    "FRAMESRV_MAX_SLOTS_": layout.MAX_SLOTS,
    "FRAMESRV_MAX_SIDE_": layout.MAX_SIDE,
    "FRAMESRV_NO_SLOT_": layout.NO_SLOT,
    "FRAMESRV_LIVE_": layout.LIVE,
    "FRAMESRV_WRITER_BYTE_": layout.WRITER_BYTE,
    "FRAMESRV_DEMAND_BYTE_": layout.DEMAND_BYTE,
    "FRAMESRV_SLOT_BYTE_": layout.SLOT_BYTE,
    "FRAMESRV_LIVENESS_": int(search.LIVENESS * 1e9),
    "FRAMESRV_STALL_": int(mapping.STALL * 1e9),
    "FRAMESRV_SLOW_": pace.SLOW,
    "FRAMESRV_LONGEST_NAME_": owner.LONGEST,
    **{f"FRAMESRV_{name.upper()}": number for number, name in layout.PIXEL_FORMATS.items()},
    **{f"FRAMESRV_{name.upper()}": number for number, name in layout.MATRICES.items()},
    **{f"FRAMESRV_CLOCK_{name.upper()}": number for number, name in enumerate(layout.CLOCKS)},
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure_has_the_rows_of_its_table_and_no_other(name: str) -> None:
    (body,) = re.findall(rf"^struct {name} {{\n(.*?)^}};", HEADER_TEXT, re.MULTILINE | re.DOTALL)
    members = re.findall(r"^ +((?:struct )?\w+) (\w+)(\[\d+\])?;$", body, re.MULTILINE)
    assert len(members) == len(body.splitlines())
    kinds = [re.fullmatch(r"(\w+)(\[\d+\])?", kind) for _, kind, _ in STRUCTURES[name][0]]
    expected = [
        (TYPES[kind[1]], row[0], kind[2] or "") for kind, row in zip(kinds, STRUCTURES[name][0], strict=True) if kind
    ]
    assert [member for member in members if not member[1].startswith("unused")] == expected


def test_bytes_and_constants_are_those_of_the_layout(tmp_path: Path) -> None:
    lines = ["#define FRAMESRV_IMPLEMENTATION", '#include "framesrv.h"', "#include <assert.h>", "#include <stddef.h>"]
    for name, (rows, nbytes) in STRUCTURES.items():
        lines += [f'static_assert(sizeof(struct {name}) == {nbytes}, "{name}");']
        lines += [f'static_assert(offsetof(struct {name}, {row}) == {at}, "{row}");' for row, _, at in rows]
    lines += [f'static_assert({name} == {number}, "{name}");' for name, number in CONSTANTS.items()]
    lines += [
        f'static_assert(FRAMESRV_NO_PTS == {layout.NO_PTS + 1} - 1, "pts");',
        "int main(void) { return 0; }",
    ]
    for language in c.LANGUAGES:
        source = tmp_path / f"layout-{language}.c"
        source.write_text("\n".join(lines))
        c.output(c.compiled(source, language=language))
    assert re.search(rf"^#define FRAMESRV_LATE_ {pace.LATE} ", HEADER_TEXT, re.MULTILINE)


def test_planes_are_those_of_the_layout(tmp_path: Path) -> None:
    source = tmp_path / "planes.c"
    source.write_text(
        """
#define FRAMESRV_IMPLEMENTATION
#include "framesrv.h"
int main(int count, char **words) {
    for (int at = 1; at + 3 < count; at += 4) {
        struct framesrv_attachment_ form;
        memset(&form, 0, sizeof form);
        form.pixel_format = (uint32_t)atoi(words[at]);
        form.width = (uint32_t)atoi(words[at + 1]);
        form.height = (uint32_t)atoi(words[at + 2]);
        form.slots = (uint32_t)atoi(words[at + 3]);
        framesrv_geometry_(&form);
        printf("%u %zu", form.plane_count, form.nbytes);
        for (unsigned i = 0; i < form.plane_count; i++)
            printf(" %llu %u %u %u", (unsigned long long)form.planes[i].offset, form.planes[i].stride,
                   form.planes[i].rows, form.planes[i].used);
        printf("\\n");
    }
    return 0;
}
"""
    )
    forms = [
        (number, layout.Geometry(width, height, name, 16))
        for number, name in layout.PIXEL_FORMATS.items()
        for width, height in EVERY_SIZE
    ] + [(1, layout.UNKNOWN)]
    words = [str(word) for number, form in forms for word in (number, form.width, form.height, form.slots)]
    expected = [
        [len(form.planes), form.nbytes]
        + [word for plane in form.planes for word in (plane.offset, plane.stride, plane.rows, plane.used)]
        for _, form in forms
    ]
    printed = c.output(c.compiled(source, sanitizer="asan"), *words).splitlines()
    assert [[int(word) for word in line.split()] for line in printed] == expected


def test_codes_begin_with_the_reasons_of_python_and_each_has_a_sentence(tmp_path: Path) -> None:
    (body,) = re.findall(r"^enum framesrv_code {\n(.*?)^};", HEADER_TEXT, re.MULTILINE | re.DOTALL)
    names = re.findall(r"^ +(FRAMESRV_\w+)", body, re.MULTILINE)
    assert names[0] == "FRAMESRV_OK"
    assert names[1 : len(get_args(Reason)) + 1] == [f"FRAMESRV_{reason.upper()}" for reason in get_args(Reason)]
    source = tmp_path / "codes.c"
    source.write_text(
        '#define FRAMESRV_IMPLEMENTATION\n#include "framesrv.h"\nint main(void) {\n'
        + "\n".join(f"    puts(framesrv_meaning({name}));" for name in [*names, "99"])
        + "\n    return 0;\n}\n"
    )
    said = c.output(c.compiled(source)).splitlines()
    assert len(set(said)) == len(names) + 1
    assert said[-1] == "there is no such code"


@pytest.mark.parametrize("language", c.LANGUAGES)
@pytest.mark.parametrize("sanitizer", c.SANITIZERS)
def test_header_compiles_without_a_warning(language: str, sanitizer: str) -> None:
    c.compiled(c.READER, language=language, sanitizer=sanitizer, warnings=(*c.WARNINGS[:4], "-Werror"))


def test_one_file_of_a_program_has_the_functions_and_others_call_them(tmp_path: Path, prefix: str) -> None:
    """The wrapper in one file in C++, the functions in another."""
    functions, program = tmp_path / "functions.cpp", tmp_path / "program.cpp"
    functions.write_text('#define FRAMESRV_IMPLEMENTATION\n#include "framesrv.h"\n')
    program.write_text(
        """
#include <framesrv.hpp>
#include <iostream>
int main(int, char **words) {
    framesrv::Reader made("cam", words[1]), camera(std::move(made));
    framesrv::Frame frame = camera.latest(FRAMESRV_ANY_AGE);
    framesrv::Frame moved(std::move(frame));
    std::cout << moved->seq << " " << (frame->pin == nullptr) << std::endl;
    moved.check();
    { framesrv::Frame again = camera.latest(FRAMESRV_ANY_AGE); moved = std::move(again); }
    moved.release();
    try {
        camera.latest(0.0, 0.05);
    } catch (const framesrv::Error &error) {
        std::cout << error.code << " " << error.cause << " " << (error.age >= 0) << " " << error.what() << std::endl;
    }
    try {
        framesrv::Reader("no code");
    } catch (const framesrv::Error &error) {
        std::cout << error.what() << std::endl;
    }
    return 0;
}
"""
    )
    built = c.compiled(program, functions, language="c++", sanitizer="asan")
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        writer.describe(error="packets are lost", cause="lost")
        first, second, third = c.output(built, prefix).splitlines()
    assert first == "1 1"
    assert second.startswith(
        "5 lost 1 camera cam: no new frame came in time (packets are lost); the newest frame is "
    )
    assert third == "camera code 'no code': expected 1 to 64 of A-Z a-z 0-9 _ . -"


@pytest.mark.parametrize(("fence", "language"), [("c", "c"), ("cpp", "c++")])
def test_example_of_the_documents_runs_as_it_stands(prefix: str, tmp_path: Path, fence: str, language: str) -> None:
    (example,) = re.findall(rf"^```{fence}\n(.*?)^```$", PAGE_TEXT, re.MULTILINE | re.DOTALL)
    source = tmp_path / f"example.{fence}"
    source.write_text(example)
    built = c.compiled(source, language=language, sanitizer="asan", warnings=("-Wall", "-Wextra", "-Werror"))
    code = f"doc-{prefix}"
    failed = subprocess.run([built, code], capture_output=True, text=True, timeout=30, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"camera {code}: there is no /dev/shm/framesrv.{code}")
    with FrameWriter(code, WIDTH, HEIGHT, "yuv420p") as writer, c.Running(built, code) as running:
        number = 0
        while running.process.poll() is None:
            number += 1
            put(writer, number)
            wait_until(lambda: writer.demanded or running.process.poll() is not None)
        first = running.line()
        assert running.end() == (0, "")
    assert re.fullmatch(rf"(frame )?\d+,? {WIDTH}x{HEIGHT}.*", first)


def test_every_function_is_told_of_in_the_documents() -> None:
    public = HEADER_TEXT.split("#endif /* FRAMESRV_H */")[0]
    declared = set(re.findall(r"^\w.*?\b(framesrv_[a-z_]+)\(", public, re.MULTILINE))
    assert len(declared) > 8
    assert [name for name in sorted(declared) if name not in PAGE_TEXT] == []


def test_headers_are_where_the_command_says() -> None:
    done = CliRunner().invoke(cli.main, ["include-dir"])
    assert sorted(path.name for path in Path(done.output.strip()).iterdir()) == ["framesrv.h", "framesrv.hpp"]


def test_wheel_has_the_headers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        for name in ("framesrv.h", "framesrv.hpp"):
            assert packed.read(f"framesrv/include/{name}") == (c.INCLUDE / name).read_bytes()
