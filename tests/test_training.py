"""The training package: the network's size, seeds that are refused, runs that repeat, an export that proves itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("onnx")
pytest.importorskip("safetensors")

from lnfast.card import ModelCard  # noqa: E402
from lnfast.errors import ModelError, UsageError  # noqa: E402
from training import card as cards  # noqa: E402
from training import cohort, data, export, mine  # noqa: E402
from training.case import Case, node_places  # noqa: E402
from training.snapshot import save_tensors  # noqa: E402
from training.unet import UNet, fuse, parameters  # noqa: E402
from training.validate import recalibrate, score  # noqa: E402

PATCH = (16, 32, 32)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("cohort")
    assert list(cohort.generate(folder, [1003])) == [1003]
    made = cohort.load(folder, 1003)
    assert made is not None
    return made


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads add up in any order, and sums then differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return replace(cards.draft(), shape_zyx=(16, 64, 64))


@pytest.mark.parametrize(("width", "count"), [(8, 1_193_177), (32, 19_071_329)])
def test_the_network_has_the_size_of_the_paper(width: int, count: int) -> None:
    assert parameters(UNet(width)) == count


def test_forward_keeps_the_shape() -> None:
    assert UNet(2)(torch.zeros(1, 1, 16, 24, 32)).shape == (1, 1, 16, 24, 32)


def test_folding_batch_norm_changes_nothing() -> None:
    torch.manual_seed(0)
    model = UNet(2)
    image = torch.randn(2, 1, 16, 16, 16)
    model(image)
    expected = model.eval()(image)
    fused = fuse(model)
    assert not any(isinstance(m, torch.nn.BatchNorm3d) for m in fused.modules())
    torch.testing.assert_close(fused(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 99, 100, 999, 10_000, 100_000, 100_007])
def test_reserved_seeds_are_refused_before_anything_is_made(tmp_path: Path, seed: int) -> None:
    for call in (lambda: list(cohort.generate(tmp_path / "made", [1003, seed])), lambda: cohort.load(tmp_path, seed)):
        with pytest.raises(UsageError, match="reserved-seed"):
            call()
    assert not (tmp_path / "made").exists()


def test_training_and_validation_seeds_do_not_meet() -> None:
    assert not set(cohort.TRAINING_SEEDS) & set(cohort.VALIDATION_SEEDS)


def test_whole_study_is_what_the_runtime_sees(case: Case, card: ModelCard) -> None:
    from lnfast.preprocess import write_input

    wanted = np.empty(card.shape_zyx, np.float32)
    write_input(case.volume, card, wanted)
    np.testing.assert_array_equal(data.whole(case, card)[0][0, 0].numpy(), wanted)


def test_a_mimic_is_what_is_called_node_and_touches_none(
    case: Case, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = (case.labels == 1).astype(np.uint8)
    called[-3:-1, 4:6, 5:8] = 1
    assert not case.labels[-4:, 3:7, 4:9].any()
    monkeypatch.setattr(mine, "predict", lambda *_: np.zeros(card.shape_zyx, np.float32))
    monkeypatch.setattr(mine, "segment", lambda *_: called)
    found = mine.mimics_of(UNet(2), case, card, 0.5)
    depth = case.labels.shape[0]
    np.testing.assert_allclose(found.mimics, [[depth - 2.5, 4.5, 6.0]])
    monkeypatch.setattr(data, "AROUND_NODE", 0.0)
    monkeypatch.setattr(data, "AROUND_BRIGHT", 1.0)
    monkeypatch.setattr(data, "FALLEN_FOR", 1.0)
    full = data._network_grid(case, card, (0, 0, 0), case.labels.shape, None)
    place = (found.mimics[0] + 0.5) * card.shape_zyx / case.labels.shape
    for seed in range(20):
        centre = data._centre(found, full, (0, 0, 0), case.labels.shape, np.random.default_rng(seed), PATCH)
        assert (np.abs(centre - place) <= np.array(PATCH) / 2).all()


@pytest.mark.parametrize(("node", "bright"), [(1.0, 0.0), (0.0, 1.0)])
def test_patches_lie_about_nodes_or_bright_things(
    case: Case, card: ModelCard, monkeypatch: pytest.MonkeyPatch, node: float, bright: float
) -> None:
    monkeypatch.setattr(data, "AROUND_NODE", node)
    monkeypatch.setattr(data, "AROUND_BRIGHT", bright)
    start, stop = (0, 0, 0), case.labels.shape
    full = data._network_grid(case, card, start, stop, None)
    wanted = full[0, 1] > 0 if node else full[0, 0] > data.BRIGHT
    assert 0 < float(wanted.float().mean()) < 0.1
    rng = np.random.default_rng(0)
    for _ in range(40):
        low = (data._centre(case, full, start, stop, rng, PATCH) - np.array(PATCH) / 2).round().astype(int)
        box = tuple(slice(a, a + n) for a, n in zip(low, PATCH, strict=True))
        assert wanted[box].shape == PATCH and wanted[box].any()


def test_recalibration_measures_whole_studies_and_leaves_weights(case: Case, card: ModelCard) -> None:
    model = UNet(2)
    before = {name: value.clone() for name, value in model.named_parameters()}
    recalibrate(model, [case], card, 2, 0)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert all(int(n.num_batches_tracked) == 2 for n in model.modules() if isinstance(n, torch.nn.BatchNorm3d))


def test_the_truth_scores_perfectly_and_a_blank_mask_misses_all(case: Case) -> None:
    truth = (case.labels > 0).astype(np.uint8)
    perfect, blank = score(case, truth), score(case, np.zeros_like(truth))
    assert perfect.summary()["dice"] == 1.0
    assert perfect.nodes_found == perfect.nodes == case.labels.max()
    assert (perfect.false_nodes, perfect.missed_n1, perfect.false_n1) == (0, 0, 0)
    assert (blank.nodes_found, blank.called, blank.missed_n1) == (0, 0, int(perfect.suspicious > 0))
    assert blank.summary()["suspicious_precision"] is None


def test_check_refuses_other_logits_other_masks_nan_and_blank() -> None:
    logits = np.linspace(-4, 4, 1000, dtype=np.float32)
    mask = np.ones(1000, np.uint8)
    export.check(logits, logits, mask, mask)
    off, nan, hole = logits.copy(), logits.copy(), mask.copy()
    off[3] += 0.01
    nan[3] = np.nan
    hole[3] = 0
    for got, mask_got in ((off, mask), (nan, mask), (logits, hole)):
        with pytest.raises(ModelError, match="runtimes-disagree"):
            export.check(logits, got, mask, mask_got)
    with pytest.raises(ModelError, match="blank"):
        export.check(logits, logits, 0 * mask, 0 * mask)


def test_a_folder_is_written_only_when_the_runtimes_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = UNet(2)
    found = score(_empty_case(), np.zeros((4, 4, 4), np.uint8)).summary()
    meta = {"config": {"width": 2, "batch": 2, "seed": 0, "patch_zyx": PATCH}, "step": 0, "minutes": 0, "cases": 1}
    # Untrained logits lie about the last bias, so its probability is a threshold that cuts them.
    meta |= {"seeds": [1000, 1001], "torch": torch.__version__, "validation": found, "threshold": 0.01}
    save_tensors(tmp_path / "snapshot.safetensors", model.state_dict(), meta)
    config, out = export.ExportConfig("tiny", "0"), tmp_path / "model"
    honest, write, kept = export.run_onnx, export.write_onnx, tmp_path / "kept.onnx"

    def write_once(model: UNet, path: Path) -> None:
        if not kept.exists():
            write(model, kept)
        path.write_bytes(kept.read_bytes())

    monkeypatch.setattr(export, "write_onnx", write_once)
    with monkeypatch.context() as patch:
        patch.setattr(export, "run_onnx", lambda path, image: honest(path, image) + 0.5)
        with pytest.raises(ModelError, match="runtimes-disagree"):
            export.export_folder(tmp_path, out, config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.onnx", "snapshot.safetensors"]

    made = export.export_folder(tmp_path, out, config)
    assert sorted(path.name for path in out.iterdir()) == ["MODEL_CARD.md", "card.json", "model.onnx", "probe.npz"]
    assert made.card.threshold == 0.01 and made.onnx_bytes and made.probe.mask.any()
    assert str(Path(export.__file__).parents[1]).encode() not in made.onnx_bytes, "the graph tells where it was made"
    assert "research use only" in (out / "MODEL_CARD.md").read_text().lower()


def _empty_case() -> Case:
    from lnfast.geometry import Grid, Volume

    labels = np.zeros((4, 4, 4), np.uint16)
    return Case("01000", Volume(labels, Grid(labels.shape, np.eye(4))), labels, *node_places(labels))
