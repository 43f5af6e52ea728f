"""The headers of lnfast_ext are self-contained C++17: each compiles alone, without a warning and without Python."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

from lnfast_ext import label_components, measure_components

TESTS = Path(__file__).resolve().parents[1]
SOURCES = TESTS.parent / "lnfast_ext" / "src"
HEADERS = sorted(path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.hpp"))
# Each room of src with the rooms that it may include from; each has a namespace of its own.
ROOMS = {"core": set(), "grid": {"core"}, "obb": {"core"}, "components": {"core", "grid", "obb"}}
STRICT = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{SOURCES}"]
SANITIZERS = ["-g1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
LEAK = "int main() { return *new int[9](); }"


def compilers() -> list[list[str]]:
    """Return the commands of $CXX and of GCC and Clang where they are installed; each compiler once."""
    commands = {}
    for command in (shlex.split(os.environ.get("CXX", "c++")), ["g++"], ["clang++"]):
        if shutil.which(command[0]):
            version = subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
            commands.setdefault(version.partition(" ")[2], command)  # "c++ (Debian 12.2.0-14) ..." is "g++ (Debian ..."
    return list(commands.values()) or [["c++"]]


def is_clang(compiler: list[str]) -> bool:
    """Whether a command is Clang, whose sanitizers are a package of their own; GCC brings them."""
    return "clang" in subprocess.run([*compiler, "--version"], capture_output=True, text=True).stdout


each_compiler = pytest.mark.parametrize("compiler", compilers(), ids=" ".join)


def run(command: list[str], text: str = "") -> str:
    """Return what a program prints, whose exit code must be 0; a compiler reads ``text``."""
    process = subprocess.run(command, input=text, capture_output=True, text=True)
    assert process.returncode == 0, f"{shlex.join(command)}\n{text}\n{process.stdout}{process.stderr}"
    return process.stdout


def include(headers: list[str]) -> str:
    return "".join(f'#include "{header}"\n' for header in headers)


def included_by(header: str) -> list[str]:
    """Return the lines of a header that include a file."""
    lines = (SOURCES / header).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if re.match(r"\s*#\s*include\b", line)]


def neighbours_of(header: str) -> list[str]:
    """Return the headers of lnfast_ext that a header includes."""
    return [match[1] for line in included_by(header) if (match := re.search(r'"(.+)"', line))]


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_includes_the_standard_library_and_its_neighbours_only(header: str) -> None:
    """No Python.h, no numpy; of what is not standard only the intrinsics, which the compiler brings."""
    for line in included_by(header):
        name = re.fullmatch(r'\s*#\s*include (?:<[a-z_]+>|<immintrin\.h>|"(\w+/\w+\.hpp)")', line)
        assert name and name[1] in (None, *HEADERS), line


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_includes_lower_rooms_only_and_names_its_own_namespace(header: str) -> None:
    room = header.partition("/")[0]
    assert {name.partition("/")[0] for name in neighbours_of(header)} <= ROOMS[room] | {room}
    text = (SOURCES / header).read_text(encoding="utf-8")
    assert re.findall(r"^namespace (lnfast[\w:]*) {", text, re.MULTILINE) == [f"lnfast::{room}"]


def test_no_headers_include_each_other_in_a_circle() -> None:
    order = TopologicalSorter({header: neighbours_of(header) for header in HEADERS}).static_order()
    assert sorted(order) == HEADERS


@each_compiler
def test_every_header_compiles_alone_without_a_warning(compiler: list[str]) -> None:
    command = [*compiler, *STRICT, "-fsyntax-only", "-x", "c++", "-"]
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(run, [command] * len(HEADERS), [include([header]) for header in HEADERS]):
            pass


@each_compiler
def test_every_header_may_be_in_two_files_of_one_program(compiler: list[str], tmp_path: Path) -> None:
    first, second = str(tmp_path / "first.o"), str(tmp_path / "second.o")
    run([*compiler, *STRICT, "-fPIC", "-c", "-o", first, "-x", "c++", "-"], include(HEADERS))
    shutil.copy(first, second)
    run([*compiler, "-shared", "-pthread", "-o", str(tmp_path / "both.so"), first, second])


@pytest.fixture(scope="module")
def nodes() -> list[list[float]]:
    """The numbers that vendor/nodes.cpp must print, from the installed kernels: label, voxels, box."""
    z, y, x = np.indices((6, 24, 32))
    u, v, w = (x - 10) + (y - 9), (y - 9) - (x - 10), 5 * (z - 2)
    bar = (z == 4) & (y == 20) & (x >= 26) & (x < 29)
    labels, count = label_components((u * u + 9 * v * v + 4 * w * w <= 200) | bar)
    affine = np.array([[-1.25, 0, 0, 40], [0, -1.25, 0, 25], [0, 0, 6, -90], [0, 0, 0, 1]])
    measured = measure_components(labels, count, affine)
    return [[node["label"], node["voxels"], *node["box_mm"]] for node in measured]


def assert_prints(program: list[str], nodes: list[list[float]]) -> None:
    printed = [[float(number) for number in line.split()] for line in run(program).splitlines()]
    np.testing.assert_allclose(printed, nodes, rtol=1e-12)


@each_compiler
def test_a_program_without_python_gives_the_same_numbers(
    compiler: list[str], nodes: list[list[float]], tmp_path: Path
) -> None:
    program = str(tmp_path / "nodes")
    run([*compiler, *STRICT, "-O1", "-o", program, str(TESTS / "vendor" / "nodes.cpp")])
    assert_prints([program], nodes)


@each_compiler
def test_that_program_keeps_to_its_memory_and_leaks_none(
    compiler: list[str], nodes: list[list[float]], tmp_path: Path
) -> None:
    leaks, program = str(tmp_path / "leaks"), str(tmp_path / "nodes")
    command = [*compiler, *SANITIZERS, "-o", leaks, "-x", "c++", "-"]
    if subprocess.run(command, input=LEAK, stderr=subprocess.DEVNULL, text=True).returncode != 0:
        if os.environ.get("CI") and not is_clang(compiler):
            pytest.fail(f"{shlex.join(compiler)} has no sanitizers: CI must not skip this test")
        pytest.skip(f"{shlex.join(compiler)} has no sanitizers")
    assert "detected memory leaks" in subprocess.run([leaks], capture_output=True, text=True).stderr
    run([*compiler, *STRICT, *SANITIZERS, "-O1", "-o", program, str(TESTS / "vendor" / "nodes.cpp")])
    assert_prints([program], nodes)
