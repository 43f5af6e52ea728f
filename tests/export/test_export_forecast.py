"""How long an export takes, and when the cache already holds the engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_files import LARGE, deep_blob_network, write_studies
from model_files import make_model_folder

import lnfast
from lnfast.backends import openvino
from lnfast.backends.engine import cache as engine_cache
from lnfast.card import Model, load_model
from lnfast.errors import EngineError, UsageError
from lnfast.evaluate.inputs.pairing import pair_up
from lnfast.export import Request, export, plan_export
from lnfast.export.forecast import Forecast, planned
from lnfast.export.publishing import publish
from lnfast.export.studies import split_folder
from lnfast.measure import Rules


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(make_model_folder(tmp_path_factory.mktemp("model") / "tiny", deep_blob_network()))


def test_a_forecast_is_right_where_costs_are_and_never_goes_back() -> None:
    now = 0.0
    plan = planned("openvino", ("int8", "fp32"), 24, 6, 2)
    total = sum(phase.steps * phase.cost for phase in plan)
    forecast = Forecast(plan, clock=lambda: now)
    shares = []
    for phase in plan:
        for done in range(phase.steps):
            forecast.step(phase.name, done, phase.steps)
            shares.append(forecast.share)
            if forecast.left_s is not None:
                assert forecast.left_s == pytest.approx(10.0 * total - now)
            now += 10.0 * phase.cost
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] < 1.0


def test_steps_that_nobody_planned_are_counted_in() -> None:
    now = 0.0
    forecast = Forecast(planned("openvino", ("int8",), 24, 6, 0), clock=lambda: now)
    forecast.step("choosing ranges", 2, 3)
    now = 60.0
    before = forecast.left_s
    forecast.step("finding sensitive layers", 0, 40)
    after = forecast.left_s
    assert before is not None and after is not None and after > before
    assert 0.0 < forecast.share < 1.0 and "min left" in forecast.text()


def test_the_plan_of_an_export_is_known_before_it_runs(model: Model) -> None:
    plan = plan_export(model, Request("openvino", "int8", studies=5, windows=False))
    assert {phase.name: phase.steps for phase in plan}["certifying int8"] == 5


def test_a_named_precision_without_an_engine_is_refused_with_the_line_that_makes_one(model: Model) -> None:
    with pytest.raises(EngineError) as refused:
        lnfast.Engine(model.folder, "openvino", "cpu", "int8")
    assert refused.value.code == "engine-missing"
    assert f"lnfast export {model.folder} --target openvino --precision int8" in refused.value.message


def test_progress_of_an_engine_is_deprecated_and_still_taken(model: Model) -> None:
    with (
        pytest.warns(DeprecationWarning, match="progress"),
        lnfast.Engine(model.folder, "openvino", "cpu", "fp32", progress=lambda what, done, of: None),
    ):
        pass


def test_how_many_studies_certify_and_why_not_all_is_told(model: Model, tmp_path: Path) -> None:
    first, second = split_folder(write_studies(tmp_path, (LARGE, 1000), count=2), model.card)
    assert (len(first), len(second)) == (1, 1)
    assert second.source == "1 of 2 studies of the user's own, the other 1 having set the ranges"


@pytest.mark.parametrize(
    ("limit", "meant"),
    [(0.8, "8.0 mm"), (1.0, "10.0 mm"), (0.008, "8.0 mm"), (8000.0, "8.0 mm"), (51.0, ""), (1.9, "")],
)
def test_a_limit_in_another_unit_is_refused(limit: float, meant: str) -> None:
    with pytest.raises(UsageError, match="bad-rules") as refused:
        Rules(suspicious_mm=limit)
    assert ("did you mean" in refused.value.message) == bool(meant) and meant in refused.value.message


@pytest.mark.parametrize("limit", [2.0, 4.0, 8.0, 12.5, 50.0])
def test_a_limit_of_a_node_is_taken(limit: float) -> None:
    assert Rules(suspicious_mm=limit).suspicious_mm == limit


def maps(folder: Path, *, run: bool = False, more: tuple[str, ...] = ()) -> Path:
    """A folder with one label map, and files beside it."""
    path = folder / "a" / "labels.nii.gz" if run else folder / "a.nii.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"map")
    for name in (*more, *(["a/report.json"] if run else [])):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def test_folders_the_wrong_way_round_are_refused_and_masks_of_either_side_are_not(tmp_path: Path) -> None:
    reader = maps(tmp_path / "reader")
    runs = maps(tmp_path / "runs", run=True)
    other_runs = maps(tmp_path / "other", run=True)
    nnunet = maps(tmp_path / "nnunet", more=("predict_from_raw_data_args.json",))
    phantoms = maps(tmp_path / "phantoms", more=("truth/a.json",))
    for predictions, truths in ((reader, runs), (phantoms, runs), (reader, nnunet), (phantoms, reader)):
        with pytest.raises(UsageError, match="swapped"):
            pair_up(predictions, truths)
    second = maps(tmp_path / "second")
    for predictions, truths in (
        (runs, reader),
        (runs, phantoms),
        (nnunet, reader),
        (reader, second),
        (runs, other_runs),
    ):
        assert len(pair_up(predictions, truths).pairs) == 1


def test_an_engine_that_the_cache_holds_is_copied(model: Model, tmp_path: Path) -> None:
    """The copy is taken where windows and the studies of the certificate are the requested ones."""
    assert openvino.offers()
    request = Request("openvino", "fp32", studies=1, windows=False)
    exported = export(model, tmp_path / "first", request)
    assert exported.attempts
    key = engine_cache.key_of(
        model, "openvino", exported.engine.manifest.version, exported.engine.manifest.made_for, "fp32"
    )
    publish(exported.engine, exported.engine.manifest, model, engine_cache.folder_of(key), with_model=False)
    copied = export(model, tmp_path / "second", request)
    assert not copied.attempts
    both = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("first", "second")]
    assert both[0] == both[1]
    with lnfast.Engine(tmp_path / "second") as engine:
        assert engine.info.precision == "fp32"
    more_studies = Request("openvino", "fp32", studies=2, windows=False)
    assert export(model, tmp_path / "third", more_studies).attempts, "a certificate on other studies was taken"
