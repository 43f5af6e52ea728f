"""The reports that `lnfast run` wrote beside the predictions: report.json beside a label map.

An evaluation measures the label maps again, by its own rules. Where the reports used other rules, or a report has
another stage than its label map gives now, the reader of the numbers must know.
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
from lnfast.report.content import SCHEMA
from lnfast.study import shown


@dataclass(frozen=True)
class RunReport:
    """The parts of a report.json that concern an evaluation.

    Attributes:
        model: name and version.
        engine: backend and precision.
        short_axis, suspicious_mm: the rules of the report.
        stages: by each rule; None for a rule that could not be applied.
        sha256: of the study's file; None where the study was an array.
    """

    model: tuple[str, str]
    engine: tuple[str, str]
    short_axis: str
    suspicious_mm: float
    stages: tuple[tuple[str, str | None], ...]
    sha256: str | None = None

    def stage_by(self, rules: Rules) -> str | None:
        """Return N0 or N1 by these rules; None where the report does not have it."""
        return dict(self.stages).get(rules.short_axis) if self.suspicious_mm == rules.suspicious_mm else None


@dataclass(frozen=True)
class ReportedStudy:
    """A study and the report beside its prediction.

    Attributes:
        name: of the study, safe to print.
        report: None without a report.
        broken: whether there is a report that cannot be read or has another schema.
        stage: of the prediction, by the evaluation's rules.
    """

    name: str
    report: RunReport | None
    broken: bool
    stage: NStage


def report_beside(prediction: Path) -> tuple[RunReport | None, bool]:
    """Return the report beside a run's label map, and whether there is one that cannot be understood."""
    if prediction.name != RUN_MAP:
        return None, False
    try:
        return _run_report(json.loads(prediction.with_name(RUN_REPORT).read_bytes())), False
    except FileNotFoundError:
        return None, False
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, True


def notes_on(studies: Sequence[ReportedStudy], rules: Rules) -> list[Note]:
    """Return notes where reports and the evaluation disagree: ``bad-report``, ``rules-differ``, ``stage-differs``."""
    notes = []
    broken = [study.name for study in studies if study.broken]
    if broken:
        notes.append(("bad-report", f"report.json cannot be read as {SCHEMA} and was passed over: {', '.join(broken)}"))
    reports = [study.report for study in studies if study.report is not None]
    rules_used = Counter((report.short_axis, report.suspicious_mm) for report in reports)
    own_rule = (rules.short_axis, rules.suspicious_mm)
    count = len(reports) - rules_used.pop(own_rule, 0)
    if count:
        differing_rules = ", ".join(f"{_rule_text(*rule)} ({number})" for rule, number in sorted(rules_used.items()))
        notes.append(
            (
                "rules-differ",
                f"{count} of {len(reports)} runs called nodes suspicious by {differing_rules}, this evaluation by "
                f"{_rule_text(*own_rule)}: "
                "its suspicious nodes and stages are not those of the reports",
            )
        )
    stages = [(study, study.report.stage_by(rules)) for study in studies if study.report is not None]
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


def predictions_by(studies: Sequence[ReportedStudy]) -> dict[str, Any] | list[dict[str, Any]] | None:
    """Return model and engine of the reports as metrics.json holds them: one where all agree, else a list of them."""
    counts = Counter((study.report.model, study.report.engine) for study in studies if study.report is not None)
    entries = [
        {
            "model": {"name": model[0], "version": model[1]},
            "engine": {"backend": engine[0], "precision": engine[1]},
            "studies": number,
        }
        for (model, engine), number in sorted(counts.items())
    ]
    return None if not entries else entries[0] if len(entries) == 1 else entries


def _run_report(record: Any) -> RunReport:
    if record["schema"] != SCHEMA:
        raise ValueError(record["schema"])
    model, engine, rules = record["model"], record["engine"], record["rules"]
    stages = record["summary"]["n_stage_by_rule"].items()
    return RunReport(
        (shown(model["name"]), shown(model["version"])),
        (shown(engine["backend"]), shown(engine["precision"])),
        shown(rules["short_axis"]),
        float(rules["suspicious_mm"]),
        tuple((rule, None if stage is None else shown(stage)) for rule, stage in stages),
        record.get("study", {}).get("sha256"),
    )


def _rule_text(short_axis: str, suspicious_mm: float) -> str:
    return f"short axis {short_axis} over {suspicious_mm:g} mm"
