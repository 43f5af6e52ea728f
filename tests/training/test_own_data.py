"""Runs on studies of one's own: what was learned from is never judged by, and another cohort is another run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")

import training_runs as runs  # noqa: E402
from raw_folders import ONE, TWO, describe, image_of, labels_of, put  # noqa: E402

from lnfast.errors import UsageError  # noqa: E402
from training import __main__ as program  # noqa: E402
from training.data import phantom_cache as cohort  # noqa: E402
from training.data.own_studies import Folder  # noqa: E402
from training.data.split import Split, read_split, split_cases, write_split  # noqa: E402
from training.fit.prior_weights import Earlier, find  # noqa: E402
from training.fit.run_settings import check_same, identity, read_identity  # noqa: E402
from training.model.unet import UNet  # noqa: E402
from training.model.weights_file import load_tensors, save_tensors  # noqa: E402
from training.release.revalidate import validate_again  # noqa: E402


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve patients."""
    folder = tmp_path / "Dataset001_Nodes"
    for index in range(12):
        put(folder, f"c{index:02d}", image_of(index), labels_of(ONE))
    return describe(folder)


CONFIG = {"width": 2, "shape_zyx": runs.SHAPE_ZYX}


def begun(run: Path, data: Path, seed: int, earlier: tuple[Earlier, ...] = (), **more: Any) -> Earlier:
    """What a run on the folder leaves, as if it had trained."""
    source = Folder(data, seed)
    source.describe(run, earlier)
    source.keep(run)
    meta = {"config": CONFIG, "sources": [source.meta(source.open(run, runs.small_card()))], **more}
    save_tensors(run / "snapshot.safetensors", UNet(2).state_dict(), meta)
    found = find(run / "next", "start", run)
    assert found is not None
    return found


def test_a_second_round_inherits_the_split_whatever_its_seed(data: Path, tmp_path: Path) -> None:
    first = begun(tmp_path / "first", data, 1)
    second = Folder(data, 2)
    second.describe(tmp_path / "second", [first])
    assert second.split == read_split(tmp_path / "first" / "split.json")
    (tmp_path / "first" / "split.json").unlink()  # drawn again with the seed that the snapshot names
    again = Folder(data, 3)
    again.describe(tmp_path / "second", [first])
    assert again.split == second.split


def test_a_round_that_would_be_judged_by_what_was_learned_is_refused(data: Path, tmp_path: Path) -> None:
    first = begun(tmp_path / "first", data, 1)
    other = split_cases(Folder(data, 1).files, 2)
    write_split(tmp_path / "second" / "split.json", other)
    with pytest.raises(UsageError, match=r"leaked-cases: .*first has learned from c"):
        Folder(data, 2).describe(tmp_path / "second", [first])
    renamed = data.rename(tmp_path / "Dataset002_Other")  # the same images under another name
    with pytest.raises(UsageError, match="leaked-cases"):
        Folder(renamed, 2).describe(tmp_path / "third", [first])
    taught = begun(tmp_path / "taught", renamed, 1, taught_by=first.meta["sources"])
    with pytest.raises(UsageError, match="leaked-cases"):
        Folder(renamed, 2).describe(tmp_path / "second", [taught])


def test_an_older_snapshot_is_held_against_its_runs_split(data: Path, tmp_path: Path) -> None:
    first = begun(tmp_path / "first", data, 1)
    first.meta["sources"][0] = {"kind": "folder", "name": data.name, "cases": 10}
    source = Folder(data, 2)
    source.describe(tmp_path / "second", [first])
    assert source.split == read_split(tmp_path / "first" / "split.json")


def test_a_changed_split_or_study_is_another_run(data: Path, tmp_path: Path) -> None:
    def said() -> dict[str, Any]:
        return identity(runs.config(), None, None, Folder(data, 1).describe(tmp_path / "run", []))

    run = tmp_path / "run"
    Folder(data, 1).describe(run, [])
    run.mkdir()
    before = said()
    (run / "run.json").write_text(json.dumps(before))
    check_same(run, said())
    old = before | {"start": "None", "teacher": "None", "cases": {"kind": "folder", "name": data.name, "seed": 1}}
    (run / "run.json").write_text(json.dumps(old))
    check_same(run, said())
    (run / "run.json").write_text(json.dumps(before))
    put(data, "c03", image_of(3), labels_of(ONE, TWO))
    with pytest.raises(UsageError, match=r"other-run.*cases\.content"):
        check_same(run, said())
    put(data, "c03", image_of(3), labels_of(ONE))
    write_split(run / "split.json", Split(1, ("c00",), ("c01",), ("c02",)))
    with pytest.raises(UsageError, match=r"other-run.*cases\.split"):
        check_same(run, said())


def test_how_many_cases_a_split_leaves_out_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_split(tmp_path / "run" / "split.json", Split(1, ("c00",), ("c01",), ("c02",)))
    source = Folder(data, 1)
    source.describe(tmp_path / "run", [])
    source.open(tmp_path / "run", runs.small_card())
    assert "leaves out 9 of 12 cases" in capsys.readouterr().err


def test_a_run_is_validated_on_its_own_patients(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun(run, data, 1)
    with pytest.raises(UsageError, match=r"no-cases.*--data"):
        validate_again(run, 0.3)
    with pytest.raises(UsageError, match="two-sources"):
        validate_again(run, 0.3, data=data, seeds=range(9003, 9004))
    assert validate_again(run, 0.3, data=data)["cases"] == 1
    _, meta = load_tensors(run / "snapshot.safetensors")
    assert meta["validated_on"] == {"kind": "folder", "name": data.name, "cases": 1} and meta["threshold"] == 0.3
    write_split(run / "split.json", Split(1, ("c00",), read_split(run / "split.json").train[1:], ()))
    with pytest.raises(UsageError, match="leaked-cases"):
        validate_again(run, 0.3, data=data)


def test_a_run_on_phantoms_is_validated_on_the_present_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = {"config": CONFIG, "seeds": [1000, 1004], "cases": 4}  # older than sources
    save_tensors(tmp_path / "run" / "snapshot.safetensors", UNet(2).state_dict(), meta)
    monkeypatch.setattr("training.release.revalidate.PHANTOMS", range(9003, 9004))
    validate_again(tmp_path / "run", 0.4)
    _, meta = load_tensors(tmp_path / "run" / "snapshot.safetensors")
    assert meta["validated_on"] == {
        "kind": "phantoms", "seeds": [9003, 9004], "version": cohort.version(), "cases": 1
    }  # fmt: skip


def test_a_run_keeps_what_it_began_with(tmp_path: Path) -> None:
    first, run = tmp_path / "first", tmp_path / "run"
    save_tensors(first / "snapshot.safetensors", UNet(2).state_dict(), {"config": CONFIG})
    start = find(run, "start", first)
    assert start is not None
    start.keep(run)
    (run / "run.json").write_text(json.dumps(identity(runs.config(), start, None, {})))
    save_tensors(first / "snapshot.safetensors", start.tensors, {"config": CONFIG, "threshold": 0.6})
    again = find(run, "start", first)  # another threshold is the same network
    assert again is not None and again.sha256 == start.sha256
    save_tensors(first / "snapshot.safetensors", UNet(2).state_dict(), {"config": CONFIG})
    with pytest.raises(UsageError, match="other-run"):
        find(run, "start", first)
    (first / "snapshot.safetensors").unlink()
    kept = find(run, "start", first)
    assert (
        kept is not None and kept.sha256 == start.sha256 and kept.config == CONFIG | {"shape_zyx": list(runs.SHAPE_ZYX)}
    )


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_run_json_is_one_line(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_identity(tmp_path) is None
    (tmp_path / "run.json").write_text(text)
    monkeypatch.setattr(sys, "argv", ["training", "fit", str(tmp_path), "--phantoms", "1003-1003"])
    assert program.run() == UsageError.exit_code
    said = capsys.readouterr().err
    assert said.startswith("bad-run: ") and said.count("\n") == 1


def test_every_error_of_the_program_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: BaseException) -> Any:
        def main(**_: Any) -> None:
            raise error

        return main

    for error, code in (
        (OSError(28, "No space left on device", "/x"), "os-error"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to"), "out-of-memory"),
        (RuntimeError("a\nb"), "internal"),
    ):
        monkeypatch.setattr(program, "main", fail(error))
        assert program.run() != 0
        said = capsys.readouterr().err
        assert said.startswith(f"{code}: ") and said.count("\n") == 1


def test_only_the_first_device_says_that_it_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.fit.interrupt import StoppedError

    def main(**_: Any) -> None:
        raise StoppedError(15)

    monkeypatch.setattr(program, "main", main)
    for rank, said in (("0", True), ("1", False)):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert program.run() == 143
        assert bool(capsys.readouterr().err) == said
