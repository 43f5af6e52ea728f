"""Presets, settings of a run, and the devices that it runs on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")

import training_runs as runs  # noqa: E402

from lnfast.errors import BackendError, UsageError  # noqa: E402
from training.data.batches import BatchShare  # noqa: E402
from training.fit.devices import study_bytes  # noqa: E402
from training.fit.run import RunConfig, fit, micro_batch_of, precision_of  # noqa: E402
from training.model.networks import build_network, count_parameters  # noqa: E402
from training.recipe.presets import EDGE, PAPER, Augmentation, preset  # noqa: E402

CPU = torch.device("cpu")


def test_preset_paper_is_the_papers() -> None:
    assert count_parameters(build_network(PAPER.network, PAPER.width)) == 19_071_329
    assert (PAPER.shape_zyx, PAPER.normalization) == ((64, 256, 256), "zscore")
    assert (PAPER.patch_zyx, PAPER.batch, PAPER.learning_rate, PAPER.epochs) == (None, 10, 1e-4, 300)
    assert PAPER.augmentation == Augmentation(rotation_deg=5.0, shear_deg=5.0, shift_share=0.1)
    assert (PAPER.loss, PAPER.schedule, PAPER.keep, PAPER.average) == ("dice", "constant", "best", None)
    assert PAPER.patience is not None and PAPER.epoch_steps is None


def test_preset_edge_is_the_edge_network_and_quick_is_the_same_kind() -> None:
    assert count_parameters(build_network(EDGE.network, EDGE.width)) == 3_070_581
    for name in ("paper", "edge"):
        full, quick = preset(name), preset(name, quick=True)
        assert (quick.name, quick.loss, quick.schedule, quick.keep) == (name, full.loss, full.schedule, full.keep)
        assert (quick.patch_zyx is None) == (full.patch_zyx is None)


@pytest.mark.parametrize(("network", "width", "count"), [("unet", 8, 1_193_177), ("enet", 16, 710_373)])
def test_another_network_changes_nothing_else_of_a_preset(network: Any, width: int, count: int) -> None:
    other = preset("edge", network=network)
    assert other == replace(EDGE, network=network, width=width)
    assert count_parameters(build_network(other.network, other.width)) == count
    assert preset("edge", network="edgenet") is EDGE and preset("paper", network="unet") is PAPER


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        (("avx2", "avx512f", "amx_bf16"), "bf16-mixed"),
        (("asimd", "bf16"), "bf16-mixed"),
        (("avx2", "avx512f"), "32-true"),
        (None, "32-true"),
    ],
)
def test_only_cpus_that_multiply_in_bfloat16_get_it(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...] | None, precision: str
) -> None:
    monkeypatch.setattr("training.fit.devices.cpu_flags", lambda: flags)
    for kind in (PAPER, EDGE):
        assert precision_of(RunConfig(kind, accelerator="cpu")) == precision
    assert precision_of(RunConfig(EDGE, accelerator="cpu", precision="bf16-mixed")) == "bf16-mixed"


def test_a_batch_is_shared_out_evenly() -> None:
    assert [micro_batch_of(PAPER, world, CPU) for world in (1, 2, 5)] == [1, 1, 1]
    assert [BatchShare(micro_batch_of(PAPER, w, CPU), 0, w).accumulation(10) for w in (1, 2, 5)] == [10, 5, 2]
    assert (micro_batch_of(EDGE, 1, CPU), micro_batch_of(EDGE, 2, CPU)) == (2, 1)
    with pytest.raises(UsageError, match="bad-batch"):
        micro_batch_of(PAPER, 3, CPU)
    assert precision_of(RunConfig(PAPER, accelerator="gpu")) == "16-mixed"
    assert precision_of(RunConfig(EDGE, exact=True)) == "32-true"


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"steps": 1, "epochs": 1}, "bad-budget"),
        ({"devices": 2, "minutes": 1.0}, "bad-budget"),
        ({"exact": True, "precision": "bf16-mixed"}, "bad-precision"),
        ({"exact": True, "accelerator": "gpu"}, "bad-device"),
        ({"preset": PAPER, "teacher": Path("run")}, "bad-teacher"),
        ({"decoder_only": 1}, "bad-start"),
    ],
)
def test_contradicting_settings_are_refused(wanted: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError, match=code):
        RunConfig(**{"preset": EDGE, **wanted})


def test_a_device_that_is_not_there_is_an_error_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BackendError, match="no-device"):
        fit(tmp_path / "run", RunConfig(EDGE, accelerator="gpu", devices=2), runs.phantoms(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_study_needs_twice_the_memory_in_fp32() -> None:
    half, full = study_bytes(PAPER, "16-mixed"), study_bytes(PAPER, "32-true")
    assert full == 2 * half and 10e9 < half < 12e9
