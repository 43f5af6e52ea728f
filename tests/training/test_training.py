"""The training package: the network's size, seeds that are refused, runs that repeat, an export that proves itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("onnx")
pytest.importorskip("safetensors")

from raw_folders import image_of  # noqa: E402

from lnfast.card import ModelCard  # noqa: E402
from lnfast.errors import ModelError, UsageError  # noqa: E402
from lnfast.geometry import Grid, Volume  # noqa: E402
from lnfast.matching import NodeMap  # noqa: E402
from lnfast.measure import ROUNDING_MM, Rules, measure_nodes  # noqa: E402
from lnfast.postprocess import segment  # noqa: E402
from lnfast_ext import measure_components  # noqa: E402
from training.data import phantom_cache, phantom_seeds  # noqa: E402
from training.data.case import Case  # noqa: E402
from training.data.crops import BRIGHT_FROM, crop_centre, draw_place  # noqa: E402
from training.data.model_grid import BORDERLINE_MM, to_model_grid, true_nodes, whole_study  # noqa: E402
from training.fit.validation import compare_with_truth, find_nodes  # noqa: E402
from training.model.edgenet import EdgeNet, Unfold  # noqa: E402
from training.model.enet import ENet  # noqa: E402
from training.model.networks import build_network, count_parameters, fuse  # noqa: E402
from training.model.unet import UNet  # noqa: E402
from training.model.weights_file import save_weights  # noqa: E402
from training.recipe.card import FLOOR, TISSUE, draft_card  # noqa: E402
from training.recipe.presets import Crops  # noqa: E402
from training.release import export  # noqa: E402

PATCH = (24, 32, 32)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("cohort")
    assert list(phantom_cache.make_phantoms(folder, [1003])) == [1003]
    phantom = phantom_cache.cached_phantom(folder, 1003)
    assert phantom is not None
    return phantom.load()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads add up in any order, and sums then differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return draft_card({"shape_zyx": (24, 64, 64), "normalization": "body"})


@pytest.mark.parametrize(("width", "count"), [(8, 1_193_177), (32, 19_071_329)])
def test_the_network_has_the_size_of_the_paper(width: int, count: int) -> None:
    assert count_parameters(UNet(width)) == count


def test_the_edge_network_has_three_million_parameters() -> None:
    assert count_parameters(EdgeNet()) == 3_070_581


@pytest.mark.parametrize("kind", [UNet, EdgeNet, ENet])
def test_forward_keeps_the_shape(kind: type[torch.nn.Module]) -> None:
    assert kind(2).eval()(torch.zeros(1, 1, 16, 48, 32)).shape == (1, 1, 16, 48, 32)


def test_the_edge_network_has_coarse_logits_only_while_it_learns() -> None:
    logits, coarse = EdgeNet(2)(torch.zeros(2, 1, 8, 16, 32))
    assert logits.shape == (2, 1, 8, 16, 32) and coarse.shape == (2, 1, 8, 4, 8)


def test_early_batch_statistics_are_the_mean_of_the_batches() -> None:
    model = EdgeNet(2)
    norm = model.stem[0].norm
    for _ in range(10):
        model.stem[0](torch.randn(2, 1, 4, 16, 16) * 3)
    before = norm.running_var.clone()
    variance = model.stem[0].conv(torch.randn(64, 1, 4, 16, 16) * 3).var(dim=(0, 2, 3, 4))
    torch.testing.assert_close(before, variance, rtol=0.2, atol=0.0)
    model.eval()(torch.randn(2, 1, 4, 16, 16))
    assert torch.equal(norm.running_var, before)


@pytest.mark.parametrize("kind", [UNet, EdgeNet, ENet])
def test_folding_batch_norm_changes_nothing(kind: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind(2).double()
    image = torch.randn(2, 1, 16, 16, 16, dtype=torch.float64)
    for _ in range(3):
        model(image)
    expected = model.eval()(image)
    fused = fuse(model)
    assert not any(isinstance(m, torch.nn.BatchNorm3d) for m in fused.modules())
    torch.testing.assert_close(fused(image), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 99, 100, 999, 10_000, 100_000, 100_007])
def test_reserved_seeds_are_refused_before_anything_is_made(tmp_path: Path, seed: int) -> None:
    for call in (
        lambda: list(phantom_cache.make_phantoms(tmp_path / "made", [1003, seed])),
        lambda: phantom_cache.cached_phantom(tmp_path, seed),
    ):
        with pytest.raises(UsageError, match="reserved-seed"):
            call()
    assert not (tmp_path / "made").exists()


def test_training_and_validation_seeds_do_not_meet() -> None:
    assert not set(phantom_seeds.TRAINING_SEEDS) & set(phantom_seeds.VALIDATION_SEEDS)


def test_whole_study_is_what_the_runtime_sees(case: Case, card: ModelCard) -> None:
    from lnfast.preprocess import write_input

    wanted = np.empty(card.shape_zyx, np.float32)
    write_input(case.volume, card, wanted)
    np.testing.assert_array_equal(whole_study(case, card)[0][0, 0].numpy(), wanted)


@pytest.mark.parametrize("about", ["node", "bright"])
def test_crops_lie_about_nodes_or_bright_things(case: Case, card: ModelCard, about: str) -> None:
    crops = Crops(**{"about_node": 0.0, "suspicious": 0.0, f"about_{about}": 1.0})
    patient, rng = to_model_grid(case, card), np.random.default_rng(0)
    bright = (patient.image > FLOOR + BRIGHT_FROM * (TISSUE - FLOOR)) & (patient.truth == 0)
    target = patient.truth > 0.5 if about == "node" else bright
    assert 0 < float(target.float().mean()) < 0.1
    hits = 0
    for _ in range(40):
        z, y, x = draw_place(patient, crops, rng)
        hits += bool(target[int(z), int(y), int(x)])
        centre = crop_centre((y, x), np.eye(2), PATCH, card.shape_zyx, rng)
        assert (np.abs(centre - (y, x)) <= np.array(PATCH[1:]) / 2).all()
    # Nothing may be as bright as the limit that was drawn, and then the crop lies anywhere.
    assert hits == 40 if about == "node" else hits >= 30


def test_suspicious_nodes_are_marked_and_others_are_not(case: Case, card: ModelCard) -> None:
    patient, short_mm = to_model_grid(case, card), box_short_mm(case)
    suspicious = (short_mm > 8.0)[case.labels]
    assert bool(patient.suspicious.any()) == bool(suspicious.any())
    assert not (patient.suspicious & (patient.truth == 0)).any()
    low, high = BORDERLINE_MM
    assert bool(patient.channels[2].any()) == bool(((short_mm >= low) & (short_mm <= high)).any())


def test_a_node_is_judged_as_the_product_judges_it_where_the_header_has_noise(card: ModelCard) -> None:
    """Slices of 4.000006 mm, as positions in float32 leave them, are slices of 4 mm: two of them are not over 8 mm."""
    image = image_of(1).array
    labels = np.zeros(image.shape, np.uint16)
    labels[2:4, 4:14, 4:14] = 1
    grid = Grid(labels.shape, np.diag((2.0, 2.0, np.float32(4.000006), 1.0)))
    box_mm = measure_components(labels, 1, grid.affine)["box_mm"][0]
    assert box_mm[0] > Rules().suspicious_mm + ROUNDING_MM, "by the stored affine the node would be suspicious"
    (node,) = measure_nodes(Volume(labels, grid), 1, Rules())
    assert not node.suspicious
    case = Case("noise", Volume(image, grid), labels)
    assert not to_model_grid(case, card).suspicious.any()
    counts = compare_with_truth(NodeMap(Volume(labels, grid), (node,)), case, card)
    assert (counts.suspicious, counts.called, counts.nodes_found, counts.missed_n1, counts.false_n1) == (0, 0, 1, 0, 0)
    logits = np.full(card.shape_zyx, -9.0, np.float32)
    logits[5:11, 11:37, 11:37] = 9.0
    prediction = find_nodes(logits, case.volume, card)
    segmentation = segment(logits, grid, card)
    assert prediction.nodes and prediction.nodes == measure_nodes(
        segmentation.labels, segmentation.count, Rules(), orientation=card.orientation, logits=logits
    )


def test_the_truth_scores_perfectly_and_a_blank_mask_misses_all(case: Case, card: ModelCard) -> None:
    count = int(case.labels.max())
    labels = Volume(case.labels, case.volume.grid)
    nothing = NodeMap(Volume(np.zeros_like(case.labels), case.volume.grid), ())
    perfect = compare_with_truth(NodeMap(labels, measure_nodes(labels, count, Rules())), case, card)
    blank = compare_with_truth(nothing, case, card)
    assert perfect.summary()["dice"] == 1.0
    assert perfect.nodes_found == perfect.nodes == count
    assert (perfect.false_nodes, perfect.missed_n1, perfect.false_n1) == (0, 0, 0)
    assert (blank.nodes_found, blank.called, blank.missed_n1) == (0, 0, int(perfect.suspicious > 0))
    assert blank.summary()["suspicious_precision"] is None


def test_check_refuses_other_logits_other_masks_nan_and_blank() -> None:
    logits = np.linspace(-4, 4, 1000, dtype=np.float32)
    mask = np.ones(1000, np.uint8)
    export.check_agreement(logits, logits, mask, mask)
    off, nan, hole = logits.copy(), logits.copy(), mask.copy()
    off[3] += 0.01
    nan[3] = np.nan
    hole[3] = 0
    for got, mask_got in ((off, mask), (nan, mask), (logits, hole)):
        with pytest.raises(ModelError, match="runtimes-disagree"):
            export.check_agreement(logits, got, mask, mask_got)
    with pytest.raises(ModelError, match="blank"):
        export.check_agreement(logits, logits, 0 * mask, 0 * mask)


def test_a_folder_is_written_only_when_the_runtimes_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = build_network("edgenet", 2)
    empty = _empty_case()
    summary = compare_with_truth(NodeMap(Volume(empty.labels, empty.volume.grid), ()), empty, draft_card()).summary()
    preset = {"network": "edgenet", "width": 2, "shape_zyx": (24, 64, 64), "normalization": "body"}
    header = {"config": {**preset, "batch": 2, "seed": 0, "patch_zyx": PATCH}, "step": 0, "minutes": 0, "cases": 1}
    # Untrained logits lie about the last bias, so its probability is a threshold that cuts them.
    header |= {"seeds": [1000, 1001], "torch": torch.__version__, "validation": summary, "threshold": 0.0025}
    save_weights(tmp_path / "snapshot.safetensors", model.state_dict(), header)
    config, out = export.ExportConfig("tiny", "0"), tmp_path / "model"
    honest, write, cached = export.run_onnx, export.write_onnx, tmp_path / "cached.onnx"

    def write_once(model: torch.nn.Module, path: Path, shape_zyx: tuple[int, int, int]) -> None:
        if not cached.exists():
            write(model, cached, shape_zyx)
        path.write_bytes(cached.read_bytes())

    monkeypatch.setattr(export, "write_onnx", write_once)
    with monkeypatch.context() as patch:
        patch.setattr(export, "run_onnx", lambda path, image: honest(path, image) + 0.5)
        with pytest.raises(ModelError, match="runtimes-disagree"):
            export.export_folder(tmp_path, out, config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cached.onnx", "snapshot.safetensors"]

    exported = export.export_folder(tmp_path, out, config)
    assert sorted(path.name for path in out.iterdir()) == ["MODEL_CARD.md", "card.json", "model.onnx", "probe.npz"]
    assert exported.card.threshold == 0.0025 and exported.onnx_bytes and exported.probe.mask.any()
    assert str(Path(export.__file__).parents[1]).encode() not in exported.onnx_bytes, (
        "the graph tells where it was made"
    )
    assert "research use only" in (out / "MODEL_CARD.md").read_text().lower()


@pytest.mark.parametrize("kind", [UNet, EdgeNet, ENet])
def test_no_operator_of_the_graph_holds_the_shape_of_the_grid(tmp_path: Path, kind: type[torch.nn.Module]) -> None:
    import onnx

    export.write_onnx(kind(2).eval(), tmp_path / "model.onnx", (16, 32, 48))
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert not {node.op_type for node in graph.node} & {"Reshape", "Expand", "Resize"}


def test_unfolding_is_the_same_for_one_study_and_for_several() -> None:
    several = torch.arange(3 * 4 * 2 * 2 * 3.0).reshape(3, 4, 2, 2, 3)
    out = Unfold()(several)
    assert out.shape == (3, 1, 2, 4, 6)
    assert torch.equal(out, torch.cat([Unfold()(volume[None]) for volume in several]))
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert torch.equal(out[:, 0, :, a::2, b::2], several[:, 2 * a + b])


def _empty_case() -> Case:
    labels = np.zeros((4, 4, 4), np.uint16)
    return Case("01000", Volume(labels, Grid(labels.shape, np.eye(4))), labels)


def box_short_mm(case: Case) -> np.ndarray:
    """By label, 0 for the background."""
    return np.array([0.0, *(node.box_mm[0] for node in true_nodes(case, "LPS").nodes)])
