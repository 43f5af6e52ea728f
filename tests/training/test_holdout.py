"""The patients that a model is judged on: who they are, and that they are run as files and compared."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

import lnfast
from lnfast.card import load_model
from lnfast.errors import StudyError, UsageError
from lnfast.phantom import LIFELIKE
from training.data.phantom_seeds import check_seeds
from training.release import holdout

MODEL = Path(lnfast.__file__).parent / "models" / "pelvic-ln-edge"


def test_they_are_table_2_of_the_paper() -> None:
    patients = list(holdout.patients())
    assert len(patients) == 77 and len({patient.seed for patient in patients}) == 77
    assert Counter(patient.stage for patient in patients) == {"n1": 37, "n0": 40}
    assert Counter(patient.scanner for patient in patients) == {"achieva": 27, "discovery": 27, "ingenia": 23}


def test_none_of_them_can_be_trained_on() -> None:
    for patient in holdout.patients():
        with pytest.raises(UsageError, match="reserved-seed"):
            check_seeds([patient.seed])


def test_a_patient_whom_the_engine_refuses_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | None] = [StudyError("untrusted-greys", "too much fat"), None]

    def admit(*_: object) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(holdout, "admit", admit)
    patient, lines = holdout.HoldoutPatient(40, "achieva", "n0"), list[str]()
    card = load_model("pelvic-ln-edge").card
    image = holdout._phantom_file(tmp_path, patient, LIFELIKE, card, lines.append)
    assert image.name == "phantom_achieva_001040_0000.nii.gz" and lines[1] == "replaced: untrusted-greys: too much fat"
    assert [path.name for path in (tmp_path / "imagesTr").glob("*.nii.gz")] == [image.name]


def test_files_in_figures_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two other patients: those of the hold-out set are for judging alone.
    monkeypatch.setattr(holdout, "FIRST_SEED", 40)
    monkeypatch.setattr(holdout, "PATIENTS", {"n1": {"achieva": 1}, "n0": {"discovery": 1}})
    lines: list[str] = []
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    with pytest.raises(UsageError, match="not-a-folder"):
        holdout.run_holdout(tmp_path, "pelvic-ln-edge", lines.append, record=True)
    metrics = holdout.run_holdout(tmp_path, str(model), lines.append, record=True)
    assert metrics["counts"]["studies"] == 2
    assert metrics["patient"]["sensitivity"]["value"] is not None
    assert json.loads((tmp_path / "evaluation" / "metrics.json").read_text()) == metrics
    assert [line.split(":")[0] for line in lines[-2:]] == ["phantom_achieva_000040", "phantom_discovery_000041"]
    card = json.loads((model / "card.json").read_text())["training"]["holdout"]
    assert card["studies"] == 2 and card["patient"]["table"] == metrics["patient"]["table"]
    assert card["segmentation"]["suspicious"] == metrics["segmentation"]["suspicious"]["dice"]
    text = (model / "MODEL_CARD.md").read_text()
    assert "## Hold-out" in text and "2 cases of the default phantom (1 N1, 1 N0" in text
    assert load_model(model).card.name == "pelvic-ln-edge"
    realistic = holdout.run_holdout(tmp_path, str(model), lines.append, record=True, realistic=True)
    assert realistic["counts"] != metrics["counts"] or realistic["patient"] != metrics["patient"]
    text = (model / "MODEL_CARD.md").read_text()
    assert "2 cases of the default phantom" in text and "2 cases of the realistic phantom" in text
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("phantoms-*/imagesTr/*"))]
    assert holdout.run_holdout(tmp_path, str(model), lines.append) == metrics
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("phantoms-*/imagesTr/*"))] == before
