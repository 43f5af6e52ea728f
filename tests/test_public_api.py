"""The public names are exactly those that are promised."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import lnfast
import lnfast_ext
from lnfast.cli.demonstration import demonstration_phantom
from lnfast.cohort import add_case

PROMISED = {
    "lnfast": [
        "Admission",
        "BackendError",
        "BackendInfo",
        "DicomChoice",
        "DicomFacts",
        "DicomSource",
        "Engine",
        "EngineError",
        "EngineFacts",
        "Grid",
        "LnfastError",
        "LymphNode",
        "Model",
        "ModelCard",
        "ModelError",
        "ModelFacts",
        "Notice",
        "Provenance",
        "Report",
        "Result",
        "Rules",
        "SelfTest",
        "Study",
        "StudyError",
        "StudyFacts",
        "StudyFailure",
        "UsageError",
        "Volume",
        "read_study",
    ],
    "lnfast_ext": [
        "BodyStatistics",
        "Components",
        "body_statistics",
        "ellipsoid_short_axes",
        "equivalent_short_axis",
        "instruction_set",
        "intensity_statistics",
        "label_components",
        "measure_components",
        "min_volume_box",
        "number_nodes",
        "outline_nodes",
        "resample_normalize",
        "threshold_resample",
    ],
}


@pytest.mark.parametrize("name", PROMISED)
def test_all_is_sorted_and_exactly_what_is_promised(name: str) -> None:
    assert importlib.import_module(name).__all__ == sorted(PROMISED[name])
    namespace: dict[str, object] = {}
    exec(f"from {name} import *", namespace)
    assert sorted(key for key in namespace if not key.startswith("_")) == sorted(PROMISED[name])


def test_what_a_user_holds_in_hand_is_exported() -> None:
    """Every class of ours in the fields and results of a public class is public too, save parts of these."""
    parts = {"Body", "Normalization", "Probe", "ZScore"}
    held: set[type] = set()
    for name in lnfast.__all__:
        public = getattr(lnfast, name)
        if not inspect.isclass(public):
            continue
        hints = typing.get_type_hints(public)
        for key, member in vars(public).items():
            function = getattr(member, "fget", getattr(member, "func", member))
            if inspect.isfunction(function) and not key.startswith("_"):
                hints[key] = typing.get_type_hints(function).get("return")
        held |= {kind for hint in hints.values() for kind in classes_in(hint) if kind.__module__.startswith("lnfast.")}
    assert {kind.__name__ for kind in held} - set(lnfast.__all__) == parts


def classes_in(hint: object) -> set[type]:
    """The classes that a type hint names."""
    inner = typing.get_args(hint)
    if inner:
        return {kind for argument in inner for kind in classes_in(argument)}
    return {hint} if isinstance(hint, type) else set()


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = lnfast.Motor


@pytest.mark.parametrize("module", [lnfast, lnfast_ext], ids=lambda module: module.__name__)
def test_the_types_travel_with_the_package(module: object) -> None:
    folder = Path(inspect.getfile(module)).parent  # type: ignore[arg-type]
    assert (folder / "py.typed").is_file()


def test_the_stubs_say_what_the_kernels_take(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "lnfast_ext", "--concise", "--ignore-missing-stub"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_public_callable_is_documented() -> None:
    for public in lnfast.__all__:
        value = getattr(lnfast, public)
        if callable(value):
            assert inspect.getdoc(value), f"{public} has no docstring"


def test_the_readme_session_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
    session = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert session
    assert session[1].count("\n") == 6
    monkeypatch.chdir(tmp_path)
    add_case(tmp_path / "lnfast-demo" / "phantom", demonstration_phantom())
    exec(session[1], {})
    assert capsys.readouterr().out.startswith("N1 [")
    assert (tmp_path / "out" / "phantom_ingenia_000000" / "report.json").is_file()
