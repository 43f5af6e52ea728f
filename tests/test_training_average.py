"""The mean of snapshots: its weights are the mean, its batch statistics are those of crops."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")

from safetensors.torch import save_file  # noqa: E402

from lnfast.errors import UsageError  # noqa: E402
from training import cohort  # noqa: E402
from training.average import average  # noqa: E402
from training.card import draft  # noqa: E402
from training.loaders import Batches, Share, Studies  # noqa: E402
from training.networks import build  # noqa: E402
from training.presets import EDGE  # noqa: E402
from training.snapshot import SNAPSHOT, load_tensors, save_tensors  # noqa: E402

SEEDS = range(1003, 1004)
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
        meta = {"config": {"network": "edgenet", "width": EDGE.width, "normalization": "body"}, "step": 5 * n}
        (folder / name).mkdir()
        save_tensors(
            folder / name / SNAPSHOT,
            build("edgenet", EDGE.width).state_dict(),
            {**meta, "sources": SOURCES[: n + 1], "threshold": 0.4},
        )
    return folder / "a", folder / "b"


def test_weights_are_the_mean_and_statistics_those_of_crops(
    tmp_path: Path, cache: Path, runs: tuple[Path, Path]
) -> None:
    average(tmp_path / "run", runs, [1, 3], seeds=SEEDS, cache=cache, batches=2)
    tensors, meta = load_tensors(tmp_path / "run" / SNAPSHOT)
    assert (meta["sources"], meta["step"], meta["threshold"]) == (SOURCES, 5, 0.4)
    (a, _), (b, _) = (load_tensors(run / SNAPSHOT) for run in runs)
    learned = [name for name in a if "running" not in name and a[name].is_floating_point()]
    for name in learned:
        torch.testing.assert_close(tensors[name], 0.25 * a[name] + 0.75 * b[name])

    network = build("edgenet", EDGE.width)
    network.load_state_dict({name: tensors[name] for name in tensors})
    case = cohort.stored(cohort.folder_of(cache), SEEDS[0])
    assert case is not None
    card = draft({"shape_zyx": EDGE.shape_zyx, "normalization": "body"})
    maker = Batches(Studies(card, [case], [case]), EDGE, 0, Share(EDGE.batch), lambda: 0)
    torch.optim.swa_utils.update_bn([maker.make(index).image for index in range(2)], network)
    for name, value in network.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(tensors[name], value, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_averaged(tmp_path: Path, cache: Path, runs: tuple[Path, Path]) -> None:
    tensors = {name: value.contiguous() for name, value in build("unet", 4).state_dict().items()}
    save_file(tensors, tmp_path / "unet.safetensors")
    for given, shares, seeds, code in (
        (runs, [1.0], SEEDS, "bad-shares"),
        (runs[:1], [1.0], SEEDS, "bad-shares"),
        (runs, [0.0, 0.0], SEEDS, "bad-shares"),
        (runs, [-1.0, 2.0], SEEDS, "bad-shares"),
        ((runs[0], tmp_path / "unet.safetensors"), [1.0, 1.0], SEEDS, "other-network"),
        (runs, [1.0, 1.0], range(9000, 9001), "reserved-seed"),
    ):
        with pytest.raises(UsageError) as refused:
            average(tmp_path / "run", given, shares, seeds=seeds, cache=cache)
        assert refused.value.code == code
    assert not (tmp_path / "run").exists()
