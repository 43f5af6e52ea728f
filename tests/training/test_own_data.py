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

from lnfast.errors import ModelError, UsageError  # noqa: E402
from training import __main__ as program  # noqa: E402
from training.data import phantom_seeds  # noqa: E402
from training.data.own_studies import OwnStudies  # noqa: E402
from training.data.split import Split, read_split, split_cases, write_split  # noqa: E402
from training.fit.prior_weights import PriorWeights, find_prior_weights  # noqa: E402
from training.fit.run_settings import check_same_run, read_run_settings, settings_of  # noqa: E402
from training.model.unet import UNet  # noqa: E402
from training.model.weights_file import load_weights, save_weights  # noqa: E402
from training.release.revalidate import validate_run  # noqa: E402


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve patients."""
    folder = tmp_path / "Dataset001_Nodes"
    for index in range(12):
        put(folder, f"c{index:02d}", image_of(index), labels_of(ONE))
    return describe(folder)


CONFIG = {"width": 2, "shape_zyx": runs.SHAPE_ZYX}


def begun(run: Path, data: Path, seed: int, earlier: tuple[PriorWeights, ...] = (), **more: Any) -> PriorWeights:
    """What a run on the folder leaves, as if it had trained."""
    source = OwnStudies(data, seed)
    source.describe(run, earlier)
    source.save_into(run)
    header = {"config": CONFIG, "sources": [source.provenance(source.open(run, runs.small_card()))], **more}
    save_weights(run / "snapshot.safetensors", UNet(2).state_dict(), header)
    weights = find_prior_weights(run / "next", "start", run)
    assert weights is not None
    return weights


def test_a_second_round_inherits_the_split_whatever_its_seed(data: Path, tmp_path: Path) -> None:
    first = begun(tmp_path / "first", data, 1)
    second = OwnStudies(data, 2)
    second.describe(tmp_path / "second", [first])
    assert second.split == read_split(tmp_path / "first" / "split.json")
    (tmp_path / "first" / "split.json").unlink()  # drawn again with the seed that the snapshot names
    again = OwnStudies(data, 3)
    again.describe(tmp_path / "second", [first])
    assert again.split == second.split


def test_a_run_whose_validation_cases_were_trained_on_before_is_refused(data: Path, tmp_path: Path) -> None:
    first = begun(tmp_path / "first", data, 1)
    split = split_cases(OwnStudies(data, 1).files, 2)
    write_split(tmp_path / "second" / "split.json", split)
    with pytest.raises(UsageError, match=r"leaked-cases: .*first has learned from c"):
        OwnStudies(data, 2).describe(tmp_path / "second", [first])
    renamed = data.rename(tmp_path / "Dataset002_Other")  # the same images under another name
    with pytest.raises(UsageError, match="leaked-cases"):
        OwnStudies(renamed, 2).describe(tmp_path / "third", [first])
    taught = begun(tmp_path / "taught", renamed, 1, taught_by=first.header["sources"])
    with pytest.raises(UsageError, match="leaked-cases"):
        OwnStudies(renamed, 2).describe(tmp_path / "second", [taught])


def test_an_older_snapshot_is_held_against_its_runs_split(data: Path, tmp_path: Path) -> None:
    first = begun(tmp_path / "first", data, 1)
    first.header["sources"][0] = {"kind": "folder", "name": data.name, "cases": 10}
    source = OwnStudies(data, 2)
    source.describe(tmp_path / "second", [first])
    assert source.split == read_split(tmp_path / "first" / "split.json")


def test_a_changed_split_or_study_is_another_run(data: Path, tmp_path: Path) -> None:
    def settings() -> dict[str, Any]:
        return settings_of(runs.config(), None, None, OwnStudies(data, 1).describe(tmp_path / "run", []))

    run = tmp_path / "run"
    OwnStudies(data, 1).describe(run, [])
    run.mkdir()
    before = settings()
    (run / "run.json").write_text(json.dumps(before))
    check_same_run(run, settings())
    old = before | {"start": "None", "teacher": "None", "cases": {"kind": "folder", "name": data.name, "seed": 1}}
    (run / "run.json").write_text(json.dumps(old))
    check_same_run(run, settings())
    (run / "run.json").write_text(json.dumps(before))
    put(data, "c03", image_of(3), labels_of(ONE, TWO))
    with pytest.raises(UsageError, match=r"other-run.*cases\.content"):
        check_same_run(run, settings())
    put(data, "c03", image_of(3), labels_of(ONE))
    write_split(run / "split.json", Split(1, ("c00",), ("c01",), ("c02",)))
    with pytest.raises(UsageError, match=r"other-run.*cases\.split"):
        check_same_run(run, settings())


def test_how_many_cases_a_split_leaves_out_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_split(tmp_path / "run" / "split.json", Split(1, ("c00",), ("c01",), ("c02",)))
    source = OwnStudies(data, 1)
    source.describe(tmp_path / "run", [])
    source.open(tmp_path / "run", runs.small_card())
    assert "leaves out 9 of 12 cases" in capsys.readouterr().err


def test_a_run_is_validated_on_its_own_patients(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begun(run, data, 1)
    with pytest.raises(UsageError, match=r"no-cases.*--data"):
        validate_run(run, 0.3)
    with pytest.raises(UsageError, match="two-sources"):
        validate_run(run, 0.3, data=data, seeds=range(9003, 9004))
    assert validate_run(run, 0.3, peak=0.35, data=data)["cases"] == 1
    _, header = load_weights(run / "snapshot.safetensors")
    assert header["validated_on"] == {"kind": "folder", "name": data.name, "cases": 1}
    assert (header["threshold"], header["peak"]) == (0.3, 0.35)
    with pytest.raises(ModelError, match=r"bad-card.*peak"):
        validate_run(run, 0.3, peak=0.2, data=data)
    write_split(run / "split.json", Split(1, ("c00",), read_split(run / "split.json").train[1:], ()))
    with pytest.raises(UsageError, match="leaked-cases"):
        validate_run(run, 0.3, data=data)


def test_a_run_on_phantoms_is_validated_on_the_present_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = {"config": CONFIG, "seeds": [1000, 1004], "cases": 4}  # older than sources
    save_weights(tmp_path / "run" / "snapshot.safetensors", UNet(2).state_dict(), header)
    monkeypatch.setattr("training.release.revalidate.PHANTOMS", range(9003, 9004))
    validate_run(tmp_path / "run", 0.4)
    _, header = load_weights(tmp_path / "run" / "snapshot.safetensors")
    assert header["validated_on"] == {
        "kind": "phantoms", "seeds": [9003, 9004], "version": phantom_seeds.phantom_version(), "cases": 1
    }  # fmt: skip


def test_a_run_keeps_the_weights_that_it_began_with(tmp_path: Path) -> None:
    first, run = tmp_path / "first", tmp_path / "run"
    save_weights(first / "snapshot.safetensors", UNet(2).state_dict(), {"config": CONFIG})
    start = find_prior_weights(run, "start", first)
    assert start is not None
    start.copy_into(run)
    (run / "run.json").write_text(json.dumps(settings_of(runs.config(), start, None, {})))
    save_weights(first / "snapshot.safetensors", start.tensors, {"config": CONFIG, "threshold": 0.6})
    again = find_prior_weights(run, "start", first)  # another threshold is the same network
    assert again is not None and again.sha256 == start.sha256
    save_weights(first / "snapshot.safetensors", UNet(2).state_dict(), {"config": CONFIG})
    with pytest.raises(UsageError, match="other-run"):
        find_prior_weights(run, "start", first)
    (first / "snapshot.safetensors").unlink()
    copied = find_prior_weights(run, "start", first)
    assert (
        copied is not None
        and copied.sha256 == start.sha256
        and copied.config == CONFIG | {"shape_zyx": list(runs.SHAPE_ZYX)}
    )


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_run_json_is_one_line(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_run_settings(tmp_path) is None
    (tmp_path / "run.json").write_text(text)
    monkeypatch.setattr(sys, "argv", ["training", "fit", str(tmp_path), "--phantoms", "1003-1003"])
    assert program.run() == UsageError.exit_code
    stderr = capsys.readouterr().err
    assert stderr.startswith("bad-run: ") and stderr.count("\n") == 1


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
        stderr = capsys.readouterr().err
        assert stderr.startswith(f"{code}: ") and stderr.count("\n") == 1


def test_only_the_first_device_says_that_it_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.fit.interrupt import StoppedError

    def main(**_: Any) -> None:
        raise StoppedError(15)

    monkeypatch.setattr(program, "main", main)
    for rank, speaks in (("0", True), ("1", False)):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert program.run() == 143
        assert bool(capsys.readouterr().err) == speaks
