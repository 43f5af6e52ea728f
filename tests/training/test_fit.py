"""Training runs: what they repeat, what they survive and what they refuse."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")

import training_runs as runs  # noqa: E402

from lnfast.errors import ModelError, StudyError, UsageError  # noqa: E402
from training.data import phantom_cache, phantom_seeds  # noqa: E402
from training.data.own_studies import OwnStudies  # noqa: E402
from training.data.phantom_source import PhantomSource  # noqa: E402
from training.fit.checkpoint_io import batch_share_of, checkpoints  # noqa: E402
from training.fit.interrupt import StoppedError  # noqa: E402
from training.fit.run import fit  # noqa: E402
from training.fit.saving import CheckpointSaver  # noqa: E402
from training.fit.schedule import Budget, cosine  # noqa: E402
from training.fit.validation import ValidationCounts  # noqa: E402
from training.model.networks import build_network  # noqa: E402
from training.model.weights_file import load_weights, save_weights  # noqa: E402
from training.recipe.presets import preset  # noqa: E402


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    assert list(phantom_cache.make_phantoms(phantom_cache.cache_folder(folder), [1003, 9003])) == [1003, 9003]
    return folder


@pytest.fixture(scope="module")
def unbroken(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    fit(run, runs.config(), runs.phantoms(cache))
    return run


def log_of(run: Path) -> list[dict[str, Any]]:
    """What happened, without when."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "minutes"} for line in lines]


def assert_same(first: Path, second: Path) -> None:
    """Same curve and same weights, to the bit."""
    assert log_of(first) == log_of(second)
    (a, header), (b, header_b) = (load_weights(run / "snapshot.safetensors") for run in (first, second))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert (header["step"], header["validation"]) == (header_b["step"], header_b["validation"])


@pytest.mark.parametrize(
    ("network", "finest"), [("edgenet", "(lift|decoder).2"), ("unet", "(lift|up).2"), ("enet", "decoder.1")]
)
@pytest.mark.parametrize("levels", [0, 1])
def test_decoder_only_leaves_all_else_as_it_was_to_the_bit(
    cache: Path, tmp_path: Path, network: Any, finest: str, levels: int
) -> None:
    changing = f"head|{finest}" if levels else "head"
    preset = runs.tiny(network=network)
    start = build_network(network, preset.width)
    for name, parameter in start.named_parameters():
        if name.endswith("norm.bias"):  # else both channels of a level may be dead, and what is dead learns nothing
            torch.nn.init.constant_(parameter, 3.0)
    for buffer in start.buffers():  # as if it had been trained: not what a new network has
        buffer.copy_(buffer + 1)
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    save_weights(tmp_path / "start.safetensors", before, {"config": asdict(preset), "sources": []})
    config = runs.config(preset=preset, start=tmp_path / "start.safetensors", decoder_only=levels, steps=8)
    fit(tmp_path / "run", config, runs.phantoms(cache))
    after, header = load_weights(tmp_path / "run" / "snapshot.safetensors")
    assert header["config"]["decoder_only"] == levels
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    learned = {name for name, _ in start.named_parameters() if re.match(changing, name)}
    assert changed == learned


def test_two_runs_of_one_seed_agree_and_need_no_pickle(
    cache: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch, "save", refuse)
    fit(tmp_path / "again", runs.config(), runs.phantoms(cache))
    assert_same(unbroken, tmp_path / "again")
    fit(tmp_path / "again", runs.config(), runs.phantoms(cache))  # reads the last checkpoint; there is nothing left
    assert_same(unbroken, tmp_path / "again")
    names = {path.name for path in tmp_path.rglob("*") if path.is_file() and "tfevents" not in path.name}
    assert names == {"run.json", "log.jsonl", "snapshot.safetensors", "state.json", "tensors.safetensors"}


@pytest.mark.parametrize(
    ("step", "number", "code", "newest"),
    [
        pytest.param(11, signal.SIGKILL, -signal.SIGKILL, ["step-00000009", "step-00000010"], id="killed"),
        pytest.param(6, signal.SIGTERM, 128 + signal.SIGTERM, ["step-00000004", "step-00000006"], id="asked"),
    ],
)
def test_a_run_that_is_stopped_by_a_signal_and_resumed_ends_as_an_uninterrupted_one(
    cache: Path, unbroken: Path, tmp_path: Path, step: int, number: int, code: int, newest: list[str]
) -> None:
    run = tmp_path / "run"
    program = [sys.executable, "-X", "faulthandler", runs.__file__, str(run), str(cache), str(step), str(int(number))]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert [path.name for path in checkpoints(run / "checkpoints")] == newest
    assert "Lightning" not in done.stderr and "Warning" not in done.stderr and "GPU" not in done.stderr
    fit(run, runs.config(), runs.phantoms(cache))
    assert_same(unbroken, run)


@pytest.mark.parametrize("step", [2, 9, 13])
def test_a_stopped_run_is_saved_and_goes_on(
    cache: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointSaver, "on_train_batch_end", CheckpointSaver.on_train_batch_end)
        runs.ask_at(step, signal.SIGTERM, runs.call_handler)
        with pytest.raises(StoppedError) as stopped:
            fit(tmp_path / "run", runs.config(), runs.phantoms(cache))
    assert stopped.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert checkpoints(tmp_path / "run" / "checkpoints")[-1].name == f"step-{step:08d}"
    fit(tmp_path / "run", runs.config(), runs.phantoms(cache))
    assert_same(unbroken, tmp_path / "run")


def test_a_run_stopped_while_it_is_validated_validates_again(
    cache: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointSaver, "on_train_batch_end", CheckpointSaver.on_train_batch_end)
        runs.ask_at(10, signal.SIGTERM, runs.call_handler)  # the last step of an epoch
        with pytest.raises(StoppedError):
            fit(tmp_path / "run", runs.config(), runs.phantoms(cache))
    assert not (tmp_path / "run" / "log.jsonl").exists()
    fit(tmp_path / "run", runs.config(), runs.phantoms(cache))
    assert_same(unbroken, tmp_path / "run")


def test_another_run_and_two_budgets_are_refused(cache: Path, unbroken: Path) -> None:
    with pytest.raises(UsageError, match=r"other-run.*seed was 3, is 4"):
        fit(unbroken, runs.config(seed=4), runs.phantoms(cache))
    with pytest.raises(UsageError, match="other-run"):
        fit(unbroken, runs.config(), runs.phantoms(cache, range(1003, 1005)))
    for budgets in ({"steps": 1, "minutes": 1.0, "exact": False}, {"steps": None, "minutes": 1.0}):
        with pytest.raises(UsageError, match="bad-budget"):
            runs.config(**budgets)


def test_a_run_starts_from_the_weights_of_a_prior_run_and_records_it(
    cache: Path, unbroken: Path, tmp_path: Path
) -> None:
    taught = runs.config(start=unbroken, teacher=unbroken, steps=2)
    fit(tmp_path / "second", taught, runs.phantoms(cache))
    _, header = load_weights(tmp_path / "second" / "snapshot.safetensors")
    assert (header["step"], header["rounds"], header["threshold"]) == (runs.STEPS + 2, 2, 0.5)
    assert [source["seeds"] for source in header["sources"]] == [[1003, 1004]] * 2
    with pytest.raises(UsageError, match="other-network"):
        wider = runs.config(start=unbroken, preset=runs.tiny(width=3))
        fit(tmp_path / "third", wider, runs.phantoms(cache))


def test_no_better_dice_ends_a_run_and_the_best_is_kept(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"width": 2, "shape_zyx": runs.SHAPE_ZYX, "epochs": 9, "patience": 2, "batch": 2, "micro": 1}
    paper = runs.replace(preset("paper", quick=True), **small, checkpoint_steps=1)
    monkeypatch.setattr(ValidationCounts, "summary", _best_is_second())
    settings = {"preset": paper, "steps": None}
    fit(tmp_path / "run", runs.config(**settings), runs.phantoms(cache))
    assert [line["step"] for line in log_of(tmp_path / "run")] == [1, 2, 3, 4]
    assert load_weights(tmp_path / "run" / "snapshot.safetensors")[1]["step"] == 2
    fit(tmp_path / "run", runs.config(**settings), runs.phantoms(cache))
    assert len(log_of(tmp_path / "run")) == 4, "an ended run does not begin again"


def _best_is_second() -> Callable[[ValidationCounts], dict[str, float]]:
    """Another Dice for each of four validations, however often each is asked."""
    summarized: list[ValidationCounts] = []

    def summary(score: ValidationCounts) -> dict[str, float]:
        if not any(score is known for known in summarized):
            summarized.append(score)
        return {"dice": (0.2, 0.5, 0.4, 0.3)[len(summarized) - 1]}

    return summary


def test_the_schedule_follows_steps_or_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (cosine(0.0), cosine(0.03), round(cosine(1.0), 9)) == (0.02, 1.0, 0.0)
    assert Budget(1e-3, "cosine", 200, None).progress(50) == 0.25
    now = [100.0]
    monkeypatch.setattr("training.fit.schedule.time.monotonic", lambda: now[0])
    first = Budget(1e-3, "cosine", None, 10.0)
    now[0] += 150
    assert first.progress(7) == 0.25
    second = Budget(1e-3, "cosine", None, 10.0)
    now[0] += 9000  # the time between two tries does not count
    second.load_state_dict({"elapsed_s": 150.0})
    now[0] += 30
    assert second.progress(7) == 0.3


def test_phantoms_are_taken_in_as_they_appear(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[list[int]] = []
    monkeypatch.setattr(
        phantom_cache, "make_phantoms_in_background", lambda folder, seeds: requested.append(list(seeds))
    )
    monkeypatch.setattr(phantom_cache, "make_phantoms", lambda folder, seeds: iter(seeds))
    source = runs.phantoms(cache, range(1003, 1015), complete=False)
    pool = source.open(tmp_path, runs.small_card())
    assert [case.name for case in pool.training] == ["01003"] and requested == [[1011, 1012, 1013, 1014]]
    source.take_new_cases(pool)
    assert len(pool.training) == 1
    here, later = (phantom_cache.cache_folder(cache) / f"{seed:05d}.npz" for seed in (1003, 1007))
    later.write_bytes(here.read_bytes())
    try:
        source.take_new_cases(pool)
    finally:
        later.unlink()
    assert [case.name for case in pool.training] == ["01003", "01007"]


def test_phantoms_of_other_sources_are_not_mixed_in(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PhantomSource(cache, range(1003, 1004), range(9003, 9004), True, "0" * 8)
    with pytest.raises(UsageError, match="phantoms-changed"):
        source.open(tmp_path, runs.small_card())
    monkeypatch.setattr(phantom_cache.signal, "signal", lambda *_: None)
    monkeypatch.setattr(phantom_cache.os, "nice", lambda by: 0)  # else all later tests of this process would give way
    phantom_cache._make_at_low_priority(tmp_path, [1003], "0" * 8, 0)
    assert not list(tmp_path.iterdir())


def test_phantoms_whose_version_was_a_hash_of_sources_are_still_made(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(phantom_seeds.HASHED_VERSIONS, "0123abcd", phantom_seeds.phantom_version())
    requested: list[tuple[Path, list[int]]] = []
    monkeypatch.setattr(
        phantom_cache, "make_phantoms", lambda folder, seeds: iter(requested.append((folder, list(seeds))) or [])
    )
    source = PhantomSource(cache, range(1003, 1004), range(9003, 9004), True, "0123abcd")
    assert source.open(tmp_path, runs.small_card()).training == ()
    assert requested == [(cache / "0123abcd", [9003, 1003])]


@pytest.mark.parametrize(("seeds", "validation"), [((9003, 9004), (9003, 9004)), ((1003, 1004), (1003, 1004))])
def test_validation_and_training_seeds_are_not_exchanged(
    cache: Path, tmp_path: Path, seeds: tuple[int, int], validation: tuple[int, int]
) -> None:
    with pytest.raises(UsageError, match="reserved-seed"):
        PhantomSource(cache, range(*seeds), range(*validation), True, phantom_seeds.phantom_version()).open(
            tmp_path, runs.small_card()
        )


def test_own_studies_are_split_checked_and_trained_on(cache: Path, tmp_path: Path) -> None:
    from lnfast.cohort import add_case

    folder, run = tmp_path / "Dataset001_Nodes", tmp_path / "run"
    for seed in (1002, 1006, 1010):
        add_case(folder, runs.phantom_seeds.make_phantom(seed, stage="any", protocol=phantom_seeds.SMALL_FIELDS[0]))
    fit(run, runs.config(steps=2), OwnStudies(folder, seed=3))
    split = json.loads((run / "split.json").read_text())
    assert [len(split[part]) for part in ("train", "validation", "test")] == [1, 1, 1]
    _, header = load_weights(run / "snapshot.safetensors")
    (source,) = header["sources"]
    assert (source["kind"], source["name"], source["cases"]) == ("folder", "Dataset001_Nodes", 1)
    assert len(source["learned"]) == 1
    assert header["validated_on"] == {"kind": "folder", "name": "Dataset001_Nodes", "cases": 1}
    assert not any(name in json.dumps(source) for name in split["train"]), "a case's name may be a patient's"
    next((folder / "labelsTr").iterdir()).write_bytes(b"no image")
    with pytest.raises(StudyError, match="bad-cases"):
        fit(tmp_path / "other", runs.config(steps=2), OwnStudies(folder, seed=3))
    assert not (tmp_path / "other" / "checkpoints").exists()


def test_a_refused_run_leaves_no_file(cache: Path, unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ModelError, match="no-snapshot"):
        fit(run, runs.config(start=tmp_path / "mistyped"), runs.phantoms(cache))
    with pytest.raises(UsageError, match="reserved-seed"):
        fit(run, runs.config(), runs.phantoms(cache, range(9003, 9004)))
    with pytest.raises(UsageError, match="other-network"):
        fit(run, runs.config(start=unbroken, preset=runs.tiny(width=3)), runs.phantoms(cache))
    with pytest.raises(UsageError, match="bad-batch"):
        runs.config(devices=3)
    assert not run.exists()


def test_a_checkpoint_knows_how_a_batch_was_shared(
    cache: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    newest = checkpoints(run / "checkpoints")[-1]
    assert batch_share_of(newest) == {"micro": 2, "world": 1}
    monkeypatch.setattr("training.fit.run.micro_batch_of", lambda *_: 1)  # another device would take one at a time
    fit(run, runs.config(), runs.phantoms(cache))
    state = json.loads((newest / "state.json").read_text())
    state["callbacks"]["Keeper"]["share"]["world"] = 2
    (newest / "state.json").write_text(json.dumps(state))
    with pytest.raises(UsageError, match=r"other-run.*add --devices 2"):
        fit(run, runs.config(), runs.phantoms(cache))
    del state["callbacks"]["Keeper"]["share"]  # an older checkpoint does not say
    (newest / "state.json").write_text(json.dumps(state))
    assert batch_share_of(newest) is None


def test_a_run_resumes_without_the_run_that_its_weights_came_from(cache: Path, unbroken: Path, tmp_path: Path) -> None:
    first, run = tmp_path / "first", tmp_path / "run"
    first.mkdir()
    shutil.copy(unbroken / "snapshot.safetensors", first)
    began = runs.config(start=first, steps=2)
    fit(run, began, runs.phantoms(cache))
    shutil.rmtree(first)
    fit(run, began, runs.phantoms(cache))
    _, header = load_weights(run / "snapshot.safetensors")
    assert (
        header["rounds"] == 2 and header["validated_on"]["seeds"] == [9003, 9004] and header["precision"] == "32-true"
    )


def test_ctrl_c_does_not_reach_the_process_that_makes_phantoms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[Any, Any]] = []
    monkeypatch.setattr(phantom_cache.signal, "signal", lambda number, handler: set_to.append((number, handler)))
    monkeypatch.setattr(phantom_cache.os, "nice", lambda by: 0)
    phantom_cache._make_at_low_priority(tmp_path, [1003], "0" * 8, 0)
    assert set_to == [(signal.SIGINT, signal.SIG_IGN)]
