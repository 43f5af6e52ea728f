"""What training runs are made of: presets, augmentation, batches, losses, checkpoints."""

from __future__ import annotations

import copy
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

import training_runs as runs  # noqa: E402

from lnfast.errors import BackendError, LnfastError, ModelError, UsageError  # noqa: E402
from training.data.affine import random_affine  # noqa: E402
from training.data.batches import Batches, BatchShare, CasePool  # noqa: E402
from training.data.case import Case  # noqa: E402
from training.data.model_grid import whole_study  # noqa: E402
from training.fit.checkpoint_io import SafeCheckpointIO, checkpoints, newest_readable  # noqa: E402
from training.fit.devices import study_bytes  # noqa: E402
from training.fit.leftovers import remove_leftovers  # noqa: E402
from training.fit.prior_weights import WEIGHTS, find_prior_weights, weights_path  # noqa: E402
from training.fit.run import RunConfig, fit, micro_batch_of, precision_of  # noqa: E402
from training.fit.run_log import RunLog  # noqa: E402
from training.fit.schedule import Budget  # noqa: E402
from training.fit.validation import predict  # noqa: E402
from training.model.loss import Teacher, coarse_loss, node_loss  # noqa: E402
from training.model.networks import build_network, count_parameters  # noqa: E402
from training.model.unet import UNet  # noqa: E402
from training.model.weights_file import load_initial_weights, load_weights, save_compact_weights, save_weights  # noqa: E402
from training.recipe.presets import EDGE, PAPER, Augmentation, preset  # noqa: E402
from training.release.model_card import trained_on  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pool() -> CasePool:
    return runs.case_pool()


def batches(pool: CasePool, share: BatchShare | None = None, position: int = 0, **changes: Any) -> Batches:
    return Batches(pool, runs.tiny(**changes), 3, share or BatchShare(2), lambda: position)


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
    assert (micro_batch_of(EDGE, 1, CPU), micro_batch_of(EDGE, 2, CPU)) == (4, 2)
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


def blob(place: tuple[int, int, int]) -> Any:
    """A ball of three voxels in a study of 32 x 64 x 64, as input and as truth."""
    axes = np.meshgrid(*(np.arange(n) for n in (32, 64, 64)), indexing="ij")
    square = sum((axis - at) ** 2 for axis, at in zip(axes, place, strict=True))
    ball = torch.from_numpy(np.exp(-square / 9.0).astype(np.float32))
    return torch.stack((ball, ball))[None]


def centre(volume: Any) -> Any:
    """Of mass, in voxels from the study's middle."""
    mass = volume.double().numpy()
    axes = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in mass.shape), indexing="ij")
    return np.array([(mass * axis).sum() / mass.sum() for axis in axes])


@pytest.mark.parametrize(
    ("augmentation", "farthest"),
    [
        (Augmentation(0, 0, 0), (0, 0, 0)),
        (Augmentation(0, 0, 0.1), (3.2, 6.4, 6.4)),
        # A point 12 voxels from the middle along y: a turn about x or z moves it by 12 sin 5 degrees, a shear likewise.
        (Augmentation(5, 0, 0), (1.1, 0.2, 1.1)),
        (Augmentation(0, 5, 0), (1.1, 0.2, 1.1)),
    ],
)
def test_augmentation_moves_studies_as_far_as_the_paper_says(
    augmentation: Augmentation, farthest: tuple[float, ...]
) -> None:
    full = blob((16, 44, 32))
    start = centre(full[0, 0])
    shifts = []
    for seed in range(14):
        after = random_affine(full, augmentation, np.random.default_rng(seed))
        assert after.shape == full.shape and torch.equal(after[0, 0], after[0, 1])
        shifts.append(np.abs(centre(after[0, 0]) - start))
    assert (np.max(shifts, axis=0) <= np.array(farthest) + 0.1).all()
    assert (np.max(shifts, axis=0) >= 0.7 * np.array(farthest) - 0.15).all()
    again = random_affine(full, augmentation, np.random.default_rng(13))
    assert torch.equal(after, again)


def test_a_batch_repeats_and_depends_on_seed_and_step(pool: CasePool) -> None:
    source = batches(pool)
    first, again, different = source.make(5), source.make(5), source.make(6)
    assert first[0].shape == first[1].shape == (2, 1, 24, 32, 32) and first.position == 5
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], different[0])
    assert float(first.truth.min()) >= 0 and float(first.truth.max()) <= 1
    assert first.weight.shape == first.truth.shape and torch.equal(first.weight, again.weight)
    assert not torch.equal(first[0], Batches(pool, runs.tiny(), 4, BatchShare(2), lambda: 0).make(5)[0])


def test_devices_share_a_step_that_is_the_same_as_on_one(pool: CasePool) -> None:
    whole = batches(pool, BatchShare(4), batch=4).make(2)[0]
    ranks = [batches(pool, BatchShare(1, rank, 2), batch=4) for rank in (0, 1)]
    assert [rank.accumulation for rank in ranks] == [2, 2]
    parts = [rank.make(2 * 2 + part)[0] for part in (0, 1) for rank in ranks]
    assert torch.equal(torch.cat(parts), whole)
    assert sorted(item for r in range(2) for part in range(2) for item in BatchShare(1, r, 2).items(part)) == [
        0,
        1,
        2,
        3,
    ]


def test_a_resumed_epoch_continues_at_its_next_batch(pool: CasePool) -> None:
    full = [(batch.position, batch.image) for batch in batches(pool, epoch_steps=4, position=4)]
    rest = [(batch.position, batch.image) for batch in batches(pool, epoch_steps=4, position=6)]
    assert [index for index, _ in full] == [4, 5, 6, 7] and [index for index, _ in rest] == [6, 7]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(full[2:], rest, strict=True))


def test_whole_studies_come_once_an_epoch(pool: CasePool, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def whole_study(case: Case, card: Any) -> Any:
        names.append(case.name)
        return torch.zeros(1, 1, 24, 64, 64), torch.zeros(1, 1, 24, 64, 64)

    monkeypatch.setattr("training.data.batches.whole_study", whole_study)
    epochs = batches(
        pool, BatchShare(1), crops=None, patch_zyx=None, epoch_steps=None, batch=2, augmentation=Augmentation()
    )
    assert epochs.epoch_steps == 3
    for index in range(2 * len(epochs)):
        assert epochs.make(index)[0].shape == (1, 1, 24, 64, 64)
    for epoch in (names[:6], names[6:]):
        assert sorted(epoch[:5]) == [f"{n:05d}" for n in range(5)] and epoch[5] == epoch[0]
    assert names[:5] != names[6:11]


def test_a_teachers_opinion_is_least_where_the_pupil_agrees() -> None:
    teacher = Teacher(UNet(2))
    assert copy.deepcopy(teacher) is teacher and not any(p.requires_grad for p in teacher.net.parameters())
    image = torch.randn(1, 1, 8, 8, 8)
    logits = teacher.net(image).detach().requires_grad_()
    teacher.loss(image, logits).backward()
    assert float(logits.grad.abs().max()) < 1e-6
    assert teacher.loss(image, logits + 1) > teacher.loss(image, logits)


def test_losses_are_least_at_the_truth() -> None:
    truth = torch.zeros(1, 1, 8, 8, 8)
    truth[0, 0, 2:5, 2:5, 2:5] = 1
    for kind in ("dice", "dice+ce"):
        loss = node_loss(kind)
        plain = torch.ones_like(truth)
        assert float(loss(20 * (2 * truth - 1), truth, plain)) < 1e-3 < float(loss(0 * truth, truth, plain))
    rim = torch.where(truth > 0, 3.0, 1.0)
    assert float(node_loss("dice+ce")(0 * truth, truth, rim)) > float(node_loss("dice+ce")(0 * truth, truth, plain))
    quarter = torch.nn.functional.avg_pool3d(truth, (1, 4, 4))
    best = torch.logit(quarter, eps=1e-6)
    assert float(coarse_loss(node_loss("dice+ce"), best, truth)) < float(
        coarse_loss(node_loss("dice+ce"), best + 1, truth)
    )


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


def test_studies_are_judged_in_the_runs_precision(pool: CasePool) -> None:
    net, case, card = UNet(2).eval(), pool.training[0], pool.card
    image = whole_study(case, card)[0]
    with torch.inference_mode():
        exact = net(image)[0, 0].numpy()
    np.testing.assert_allclose(predict(net, case.volume, card, "32-true"), exact, atol=1e-5)
    assert np.abs(predict(net, case.volume, card, "bf16-mixed") - exact).max() > 1e-5


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


def test_a_study_needs_twice_the_memory_in_fp32() -> None:
    half, full = study_bytes(PAPER, "16-mixed"), study_bytes(PAPER, "32-true")
    assert full == 2 * half and 10e9 < half < 12e9


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
