"""The hold-out: 77 phantoms, as many as the paper's hold-out set has patients, of seeds set aside for it.

Nothing may be trained or tuned on them: `training.data.phantom_seeds` refuses their seeds, and none of their figures
may decide anything. The shipped engine runs them as a user would, from files, and `lnfast.evaluate` compares.

    DIR/phantoms-<version>/     nnU-Net's raw layout and the truth; made where missing, of the present version only
    DIR/runs-<version>/         what `lnfast run` writes
    DIR/evaluation/             what `lnfast evaluate` writes, evaluation.html among them

They are the default phantom, as for every model so far, or the realistic one, which is nearer to people and whose
folders are called phantoms-<version>-realistic and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from lnfast.admission import admit
from lnfast.card import ModelCard, load_model
from lnfast.cohort import add_case
from lnfast.engine import Engine
from lnfast.errors import StudyError, UsageError
from lnfast.evaluate.evaluation import evaluate
from lnfast.evaluate.inputs.pairing import pair_up
from lnfast.evaluate.output.folder import check_output, write_evaluation
from lnfast.measure import Rules
from lnfast.phantom import LIFELIKE, REALISTIC, Variety, make_phantom
from lnfast.result import StudyFailure
from training.data.phantom_seeds import phantom_version
from training.release.model_card import holdout_record, record_holdout

FIRST_SEED = 370_000
# From a patient whom the engine refuses to the one instead.
REPLACEMENT = 1000
# Table 2 of the paper: patients with and without suspicious nodes on each scanner.
PATIENTS: dict[Literal["n1", "n0"], dict[str, int]] = {
    "n1": {"achieva": 12, "discovery": 14, "ingenia": 11},
    "n0": {"achieva": 15, "discovery": 13, "ingenia": 12},
}


@dataclass(frozen=True)
class HoldoutPatient:
    """One of the 77, as `lnfast.phantom.make_phantom` makes it."""

    seed: int
    scanner: str
    stage: Literal["n1", "n0"]


def patients() -> Iterator[HoldoutPatient]:
    """Yield the 77 patients by seed."""
    seed = FIRST_SEED
    for stage, scanners in PATIENTS.items():
        for scanner, number in scanners.items():
            for _ in range(number):
                yield HoldoutPatient(seed, scanner, stage)
                seed += 1


def evaluation_folder(folder: Path, *, realistic: bool) -> Path:
    """Return where `run_holdout` writes its evaluation; the arguments are its own."""
    return folder / ("evaluation-realistic" if realistic else "evaluation")


def run_holdout(
    folder: Path, model: str, progress: Callable[[str], None], *, record: bool = False, realistic: bool = False
) -> dict[str, Any]:
    """Make the phantoms, run the model on them, and compare.

    Args:
        folder: takes everything; phantoms that are there are kept.
        model: name or folder, as `lnfast.Engine` takes it.
        progress: called with each study's name and stage.
        record: write what came out into the card of ``model``, which is a folder then.
        realistic: take the realistic phantom instead of the default.

    Returns:
        The content of ``metrics.json`` in the folder of the evaluation.

    Raises:
        UsageError: ``not-a-folder``: a model by name has no card to write into.
        LnfastError: of the engine; of the first study that is refused.
        OSError: what the disk said.
    """
    if record and not (Path(model) / "card.json").is_file():
        raise UsageError("not-a-folder", f"got --record and model {model!r}, wanted the model's folder")
    suffix = "-realistic" if realistic else ""
    evaluation = evaluation_folder(folder, realistic=realistic)
    check_output(evaluation)
    phantoms, runs = (folder / f"{what}-{phantom_version()}{suffix}" for what in ("phantoms", "runs"))
    variety, card = REALISTIC if realistic else LIFELIKE, load_model(model).card
    studies = [_phantom_file(phantoms, patient, variety, card, progress) for patient in patients()]
    rules = Rules()
    with Engine(model, rules=rules) as engine:
        for outcome in engine.run_many(studies, out=runs, html=False):
            if isinstance(outcome, StudyFailure):
                raise outcome.error
            progress(f"{outcome.report.study.name}: {outcome.n_stage}")
        backend = f"{engine.info.name} {engine.info.version} in {engine.info.precision}"
    metrics = write_evaluation(evaluate(pair_up(runs, phantoms), rules), evaluation)
    if record:
        found = holdout_record(metrics, version=phantom_version(), backend=backend)
        record_holdout(Path(model), found, "realistic" if realistic else "default")
    return metrics


def _phantom_file(
    phantoms: Path, patient: HoldoutPatient, variety: Variety, card: ModelCard, progress: Callable[[str], None]
) -> Path:
    """Return the study's file; the image is written last, so where it is, the case is complete.

    Where the engine refuses a patient there is no stage to be right or wrong: the patient is replaced.
    """
    for seed in count(patient.seed, REPLACEMENT):
        image = phantoms / "imagesTr" / f"phantom_{patient.scanner}_{seed:06d}_0000.nii.gz"
        if image.exists():
            return image
        progress(f"making {image.name}")
        phantom = make_phantom(seed, patient.scanner, patient.stage, variety=variety)
        try:
            admit(phantom.volume, card)
        except StudyError as error:
            progress(f"replaced: {error}")
            continue
        case = add_case(phantoms, phantom)
        assert case.image == image
        return image
    raise AssertionError("there is no end of seeds")
