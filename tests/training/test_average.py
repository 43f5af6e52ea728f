"""The mean of snapshots: its weights are the mean, its batch statistics are those of crops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")

from safetensors.torch import save_file  # noqa: E402

from lnfast.errors import ModelError, UsageError  # noqa: E402
from training.data import phantom_cache  # noqa: E402
from training.data.batches import Batches, BatchShare, CasePool  # noqa: E402
from training.model.networks import build_network  # noqa: E402
from training.model.weights_file import WEIGHTS_FILE, load_weights, save_weights  # noqa: E402
from training.recipe.card import card_dict, draft_card  # noqa: E402
from training.recipe.presets import EDGE  # noqa: E402
from training.release.average import average  # noqa: E402
from training.release.export import ExportConfig, export_folder  # noqa: E402
from training.release.model_card import model_card  # noqa: E402
from training.release.revalidate import validate_run  # noqa: E402

SEEDS, HELD = range(1003, 1004), range(9003, 9004)
SOURCES = [{"kind": "phantoms", "seeds": [1000 + n, 1010 + n], "cases": 10, "version": "v"} for n in range(2)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("phantoms")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of other weights; the second learned from what the first did, and more."""
    folder = tmp_path_factory.mktemp("runs")
    for n, name in enumerate("ab"):
        torch.manual_seed(n)
        header = {"config": {"seed": 1, **asdict(EDGE)}, "step": 5 * n}
        (folder / name).mkdir()
        save_weights(
            folder / name / WEIGHTS_FILE,
            build_network("edgenet", EDGE.width).state_dict(),
            {**header, "sources": SOURCES[: n + 1], "threshold": 0.4, "validation": {"cases": 1}},
        )
    return folder / "a", folder / "b"


def test_weights_are_the_mean_and_statistics_those_of_crops(
    tmp_path: Path, cache: Path, runs: tuple[Path, Path]
) -> None:
    average(tmp_path / "run", runs, [1, 3], seeds=SEEDS, cache=cache, batches=2)
    tensors, header = load_weights(tmp_path / "run" / WEIGHTS_FILE)
    assert (header["sources"], header["step"], header["averaged"]) == (SOURCES, 5, [0.25, 0.75])
    (a, _), (b, _) = (load_weights(run / WEIGHTS_FILE) for run in runs)
    learned = [name for name in a if "running" not in name and a[name].is_floating_point()]
    for name in learned:
        torch.testing.assert_close(tensors[name], 0.25 * a[name] + 0.75 * b[name])

    network = build_network("edgenet", EDGE.width)
    network.load_state_dict({name: tensors[name] for name in tensors})
    case = phantom_cache.cached_phantom(phantom_cache.cache_folder(cache), SEEDS[0])
    assert case is not None
    maker = Batches(CasePool(draft_card(asdict(EDGE)), [case], [case]), EDGE, 0, BatchShare(EDGE.batch), lambda: 0)
    statistics: dict[str, list[torch.Tensor]] = {}

    def listen(name: str) -> Callable[..., None]:
        def note(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
            of_batch = torch.stack((inputs[0].mean((0, 2, 3, 4)), inputs[0].var((0, 2, 3, 4))))
            statistics.setdefault(name, []).append(of_batch)

        return note

    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.register_forward_pre_hook(listen(name))
    network.train()
    with torch.no_grad():
        for index in range(2):
            network(maker.make(index).image)
    assert len(statistics) > 10
    for name, batches in statistics.items():
        mean, variance = torch.stack(batches).mean(0)
        # A float32 sum of 700,000 voxels, many of them the same air, is off by a thousandth.
        torch.testing.assert_close(tensors[f"{name}.running_mean"], mean, rtol=5e-3, atol=5e-4)
        torch.testing.assert_close(tensors[f"{name}.running_var"], variance, rtol=5e-3, atol=5e-4)


def test_statistics_may_be_the_mean_too(tmp_path: Path, cache: Path, runs: tuple[Path, Path]) -> None:
    average(tmp_path / "run", runs, [1, 3], seeds=SEEDS, cache=cache, batches=0)
    tensors, _ = load_weights(tmp_path / "run" / WEIGHTS_FILE)
    (a, _), (b, _) = (load_weights(run / WEIGHTS_FILE) for run in runs)
    means = [name for name in a if name.endswith("running_mean")]
    assert len(means) > 10
    for name in means:
        torch.testing.assert_close(tensors[name], 0.25 * a[name] + 0.75 * b[name])


def test_a_mean_is_judged_before_it_is_exported(tmp_path: Path, cache: Path, runs: tuple[Path, Path]) -> None:
    """It has a header of its own: what its parts were judged by says nothing of it."""
    average(tmp_path / "run", runs, [1, 1], seeds=SEEDS, cache=cache, batches=1)
    with pytest.raises(ModelError) as refused:
        export_folder(tmp_path / "run", tmp_path / "model", ExportConfig("mean", "1"))
    assert refused.value.code == "not-validated" and not (tmp_path / "model").exists()
    validate_run(tmp_path / "run", 0.3, seeds=HELD, cache=cache)
    _, header = load_weights(tmp_path / "run" / WEIGHTS_FILE)
    assert (header["threshold"], header["validation"]["cases"]) == (0.3, 1)
    card = {"name": "mean", "version": "1", "training": {**header, "parameters": 1}}
    described = model_card({**card_dict(header["config"], threshold=0.3, peak=0.45), **card})
    assert "seeds 1000-1009" in described and "at probability 0.3, of nodes that somewhere exceed 0.45" in described


def test_weights_that_name_no_torch_are_validated_and_described(
    tmp_path: Path, cache: Path, runs: tuple[Path, Path]
) -> None:
    """Those that ship are of a trial whose header had none."""
    tensors, header = load_weights(runs[0] / WEIGHTS_FILE)
    assert "torch" not in header
    (tmp_path / "run").mkdir()
    save_weights(tmp_path / "run" / WEIGHTS_FILE, tensors, {**header, "minutes": 1.0})
    validate_run(tmp_path / "run", 0.3, seeds=HELD, cache=cache)
    _, validated = load_weights(tmp_path / "run" / WEIGHTS_FILE)
    training = {**validated, "parameters": 1}
    assert f"| torch | {torch.__version__} |" in model_card(card_dict(header["config"], training=training))


def test_bare_weights_can_be_averaged(tmp_path: Path, cache: Path, runs: tuple[Path, Path]) -> None:
    paths = []
    for run in runs:
        tensors, _ = load_weights(run / WEIGHTS_FILE)
        paths.append(tmp_path / f"{run.name}.safetensors")
        save_file(tensors, paths[-1])
    average(tmp_path / "run", paths, [1, 1], seeds=SEEDS, cache=cache, batches=1)
    _, header = load_weights(tmp_path / "run" / WEIGHTS_FILE)
    assert header["config"]["normalization"] == "body"
    assert [source["name"] for source in header["sources"]] == ["a.safetensors", "b.safetensors"]


def test_weights_that_cannot_be_averaged_are_refused(tmp_path: Path, cache: Path, runs: tuple[Path, Path]) -> None:
    tensors = {name: value.contiguous() for name, value in build_network("unet", 4).state_dict().items()}
    save_file(tensors, tmp_path / "unet.safetensors")
    for weights, shares, seeds, code in (
        (runs, [1.0], SEEDS, "bad-shares"),
        (runs[:1], [1.0], SEEDS, "bad-shares"),
        (runs, [0.0, 0.0], SEEDS, "bad-shares"),
        (runs, [-1.0, 2.0], SEEDS, "bad-shares"),
        ((runs[0], tmp_path / "unet.safetensors"), [1.0, 1.0], SEEDS, "other-network"),
        (runs, [1.0, 1.0], range(9000, 9001), "reserved-seed"),
    ):
        with pytest.raises(UsageError) as refused:
            average(tmp_path / "run", weights, shares, seeds=seeds, cache=cache, batches=1)
        assert refused.value.code == code
    assert not (tmp_path / "run").exists()
