"""What `lnfast run` said of the predictions: report.json beside a label map.

An evaluation measures the label maps again, by its own rules. Where the reports were written by others, or a report
says another stage than its label map does now, the reader of the numbers must know.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnfast.evaluate.inputs.pairing import RUN_MAP, RUN_REPORT, Note
from lnfast.measure import NStage, Rules
from lnfast.report.record import SCHEMA
from lnfast.study import shown


@dataclass(frozen=True)
class Told:
    """What a report says that concerns an evaluation.

    Attributes:
        model: name and version.
        engine: backend and precision.
        short_axis, suspicious_mm: the rules that it was written by.
        stages: by each rule; None by one that had nothing to measure.
        sha256: of the study's file; None where it was an array.
    """

    model: tuple[str, str]
    engine: tuple[str, str]
    short_axis: str
    suspicious_mm: float
    stages: tuple[tuple[str, str | None], ...]
    sha256: str | None = None

    def stage_by(self, rules: Rules) -> str | None:
        """N0 or N1 by these rules; None where the report does not say."""
        return dict(self.stages).get(rules.short_axis) if self.suspicious_mm == rules.suspicious_mm else None


@dataclass(frozen=True)
class Reported:
    """A study and the report beside its prediction.

    Attributes:
        name: of the study, safe to print.
        told: None without a report.
        broken: there is a report, and it cannot be read or is none of ours.
        stage: of the prediction, by the evaluation's rules.
    """

    name: str
    told: Told | None
    broken: bool
    stage: NStage


def report_beside(prediction: Path) -> tuple[Told | None, bool]:
    """What the report beside a run's label map says, and whether there is one that cannot be understood."""
    if prediction.name != RUN_MAP:
        return None, False
    try:
        return _told(json.loads(prediction.with_name(RUN_REPORT).read_bytes())), False
    except FileNotFoundError:
        return None, False
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, True


def notes_on(studies: Sequence[Reported], rules: Rules) -> list[Note]:
    """Where reports and the evaluation are not of one mind: ``bad-report``, ``rules-differ``, ``stage-differs``."""
    notes = []
    broken = [study.name for study in studies if study.broken]
    if broken:
        notes.append(("bad-report", f"report.json cannot be read as {SCHEMA} and was passed over: {', '.join(broken)}"))
    told = [study.told for study in studies if study.told is not None]
    others = Counter((one.short_axis, one.suspicious_mm) for one in told)
    ours = (rules.short_axis, rules.suspicious_mm)
    count = len(told) - others.pop(ours, 0)
    if count:
        theirs = ", ".join(f"{_words(*rule)} ({number})" for rule, number in sorted(others.items()))
        notes.append(
            (
                "rules-differ",
                f"{count} of {len(told)} runs called nodes suspicious by {theirs}, this evaluation by {_words(*ours)}: "
                "its suspicious nodes and stages are not those of the reports",
            )
        )
    stages = [(study, study.told.stage_by(rules)) for study in studies if study.told is not None]
    differing = [
        f"{study.name} ({stage}, here {study.stage})" for study, stage in stages if stage not in (None, study.stage)
    ]
    if differing:
        notes.append(
            (
                "stage-differs",
                f"the report says another stage than the label map by the same rule: {', '.join(differing)}",
            )
        )
    return notes


def predictions_by(studies: Sequence[Reported]) -> dict[str, Any] | list[dict[str, Any]] | None:
    """Model and engine of the reports, as they stand in metrics.json: one where all agree, else a list of them."""
    counts = Counter((study.told.model, study.told.engine) for study in studies if study.told is not None)
    told = [
        {
            "model": {"name": model[0], "version": model[1]},
            "engine": {"backend": engine[0], "precision": engine[1]},
            "studies": number,
        }
        for (model, engine), number in sorted(counts.items())
    ]
    return None if not told else told[0] if len(told) == 1 else told


def _told(record: Any) -> Told:
    if record["schema"] != SCHEMA:
        raise ValueError(record["schema"])
    model, engine, rules = record["model"], record["engine"], record["rules"]
    stages = record["summary"]["n_stage_by_rule"].items()
    return Told(
        (shown(model["name"]), shown(model["version"])),
        (shown(engine["backend"]), shown(engine["precision"])),
        shown(rules["short_axis"]),
        float(rules["suspicious_mm"]),
        tuple((rule, None if stage is None else shown(stage)) for rule, stage in stages),
        record.get("study", {}).get("sha256"),
    )


def _words(short_axis: str, suspicious_mm: float) -> str:
    return f"short axis {short_axis} over {suspicious_mm:g} mm"
