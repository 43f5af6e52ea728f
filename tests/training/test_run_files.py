"""What a run leaves on the disk: checkpoints, weights, its log."""

from __future__ import annotations

import enum
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")


from lnfast.errors import LnfastError, ModelError  # noqa: E402
from training.fit.checkpoint_io import SafeCheckpointIO, checkpoints, newest_readable  # noqa: E402
from training.fit.leftovers import remove_leftovers  # noqa: E402
from training.fit.prior_weights import WEIGHTS, find_prior_weights, weights_path  # noqa: E402
from training.fit.run_log import RunLog  # noqa: E402
from training.fit.schedule import Budget  # noqa: E402
from training.model.networks import build_network  # noqa: E402
from training.model.unet import UNet  # noqa: E402
from training.model.weights_file import load_initial_weights, load_weights, save_compact_weights, save_weights  # noqa: E402
from training.release.model_card import trained_on  # noqa: E402

STATE = {
    "weights": {"a.b": torch.arange(6.0).reshape(2, 3), "half": torch.ones(2, dtype=torch.bfloat16)},
    "optimizer": [{"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "betas": (0.9, 0.999), "foreach": None}],
    "numbers": [1, -0.5, math.inf, True, "text", {}, {"$tensor": 1}],
    "convolution": torch.randn(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d),
}


def test_a_checkpoint_is_read_back_unchanged(tmp_path: Path) -> None:
    files = SafeCheckpointIO()
    for _ in range(2):  # the second over the first
        files.save_checkpoint(STATE, tmp_path / "step-1")
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    back = files.load_checkpoint(tmp_path / "step-1")
    assert back["numbers"] == STATE["numbers"] and type(back["numbers"][3]) is bool
    assert back["optimizer"][0]["betas"] == (0.9, 0.999) and list(back["optimizer"][0]["state"]) == [0, 1]
    assert back["weights"]["half"].dtype == torch.bfloat16
    assert torch.equal(back["weights"]["a.b"], STATE["weights"]["a.b"])
    assert back["convolution"].stride() == STATE["convolution"].stride()
    assert torch.equal(back["convolution"], STATE["convolution"])
    files.remove_checkpoint(tmp_path / "step-1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("odd", [{1, 2}, np.float64(1), enum.IntEnum("E", "a").a, Path(), {1.5: 2}])
def test_a_checkpoint_with_other_objects_is_refused_and_not_written(tmp_path: Path, odd: Any) -> None:
    with pytest.raises(LnfastError, match=r"not-representable: /callbacks/odd"):
        SafeCheckpointIO().save_checkpoint({"callbacks": {"odd": odd}}, tmp_path / "step-1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    files = SafeCheckpointIO()
    files.save_checkpoint(STATE, tmp_path / "step-1")
    path = tmp_path / "step-1" / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelError, match="bad-checkpoint"):
        files.load_checkpoint(tmp_path / "step-1")


def test_the_newest_readable_checkpoint_replaces_a_damaged_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert newest_readable(tmp_path) is None
    for step in ("step-00000001", "step-00000002"):
        SafeCheckpointIO().save_checkpoint(STATE, tmp_path / step)
    assert newest_readable(tmp_path) == tmp_path / "step-00000002"
    assert capsys.readouterr().err == ""
    (tmp_path / "step-00000002" / "tensors.safetensors").write_bytes(b"")
    assert newest_readable(tmp_path) == tmp_path / "step-00000001"
    stderr = capsys.readouterr().err
    assert stderr.startswith("bad-checkpoint: ") and stderr.count("\n") == 1
    (tmp_path / "step-00000001" / "state.json").write_text("{")
    with pytest.raises(ModelError, match="bad-checkpoint"):
        newest_readable(tmp_path)


def test_leftovers_of_killed_runs_are_removed(tmp_path: Path) -> None:
    remaining = ("run.json", "checkpoints/step-00000002/state.json", "log.jsonl")
    swept = (
        ".run.json.7.tmp",
        "snapshot.7.tmp",
        "checkpoints/.step-00000003.7.tmp/state.json",
        "checkpoints/step-00000001/tensors.safetensors",
    )
    for name in remaining + swept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        remaining
    )
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_files_of_a_run_are_readable_for_other_users(tmp_path: Path) -> None:
    save_weights(tmp_path / "snapshot.safetensors", UNet(2).state_dict(), {})
    SafeCheckpointIO().save_checkpoint(STATE, tmp_path / "step-1")
    (tmp_path / "plain").touch()
    plain = (tmp_path / "plain").stat().st_mode
    for name in ("snapshot.safetensors", "step-1/tensors.safetensors", "step-1/state.json"):
        assert (tmp_path / name).stat().st_mode == plain


def test_the_log_is_only_written_anew_when_lines_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    journal = RunLog(path, Budget(1e-3, "cosine", 2, None), loud=False)
    before = path.stat()
    journal.on_train_start(SimpleNamespace(is_global_zero=True, global_step=2), None)
    assert path.stat().st_ino == before.st_ino and path.stat().st_mtime_ns == before.st_mtime_ns
    journal.on_train_start(SimpleNamespace(is_global_zero=True, global_step=1), None)
    assert path.read_text() == '{"step": 1}\n' and path.stat().st_ino != before.st_ino


def test_compact_weights_are_half_as_large_and_can_be_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    tensors = build_network("edgenet", 4).state_dict()
    header = {"config": {"network": "edgenet", "width": 4}, "sources": [{"kind": "phantoms"}], "torch": "2"}
    whole_file, small = tmp_path / "snapshot.safetensors", tmp_path / "some.safetensors"
    save_weights(whole_file, tensors, header)
    save_compact_weights(small, tensors, header)
    assert small.stat().st_size < 0.7 * whole_file.stat().st_size
    monkeypatch.setattr("training.fit.prior_weights.WEIGHTS", tmp_path)
    for origin in (Path("some"), small, tmp_path):
        start = find_prior_weights(tmp_path / "run", "start", origin)
        assert start is not None and start.header["sources"] == header["sources"]
        for name, value in start.network().state_dict().items():
            torch.testing.assert_close(value, tensors[name], rtol=1e-2, atol=1e-3)
    assert {v.dtype for n, v in load_initial_weights(small)[0].items() if "norm" in n} <= {torch.float32, torch.int64}


def test_weights_without_a_header_are_accepted_and_recorded_as_unknown(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "trial.safetensors"
    save_file({name: value.contiguous() for name, value in build_network("edgenet", 2).state_dict().items()}, path)
    start = find_prior_weights(tmp_path / "run", "start", path)
    assert start is not None and start.config == {"network": "edgenet", "width": 2}
    (source,) = start.header["sources"]
    assert (source["kind"], source["name"]) == ("unknown", "trial.safetensors")
    assert "do not say what they learned from" in trained_on(start.header)
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="bad-snapshot"):
        find_prior_weights(tmp_path / "run", "start", path)
    assert weights_path(Path("no-such-name")) == Path("no-such-name") / "snapshot.safetensors"
    assert WEIGHTS.name == "weights"


def test_half_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    for name in ("step-00000002", "step-00000010", ".step-00000011.1.tmp", "step-00000012"):
        (tmp_path / name).mkdir()
        if name != "step-00000012":
            (tmp_path / name / "state.json").touch()
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002", "step-00000010"]


def test_older_snapshots_can_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no-snapshot"):
        load_weights(tmp_path / "snapshot.safetensors")
    save_weights(
        tmp_path / "snapshot.safetensors", UNet(2).state_dict(), {"config": {"width": 2}, "seeds": [1000, 1004]}
    )
    tensors, header = load_weights(tmp_path / "snapshot.safetensors")
    assert set(tensors) == set(UNet(2).state_dict()) and header["seeds"] == [1000, 1004]
    (tmp_path / "snapshot.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(ModelError, match="bad-snapshot"):
        load_weights(tmp_path / "snapshot.safetensors")
