"""Bias, spread and calls on the wrong side of the limit, from single measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from benchmarks.measurement.ellipsoids import BANDS_MM, ORIENTATIONS, band_name
from lnfast.measure import Rules

ALL = "all"
KEYS = ("scanner", "size_mm", "orientation")
LIMIT = Rules()

GroupKey = tuple[str, str, str, str, str, str]  # mask, rule, truth, scanner, size_mm, orientation


@dataclass(frozen=True)
class NodeMeasurement:
    """One node by one rule.

    Attributes:
        mask: the source of its voxels: "truth", "imaged", or the model on phantoms of a kind (`network.VARIETIES`).
        rule: of the measurement.
        truth: the rule of the true value: "box" or "axial", of the body itself.
        scanner: a name, or a slice thickness such as "3 mm".
        size_mm: the band in which the body's short axis lies.
        orientation: of that axis.
        true_mm: the true value.
        short_mm: the measurement; None where no voxel was left.
    """

    mask: str
    rule: str
    truth: str
    scanner: str
    size_mm: str
    orientation: str
    true_mm: float
    short_mm: float | None


@dataclass(frozen=True)
class MeasurementRow:
    """A group of nodes by one rule.

    Attributes:
        mask, rule, truth, scanner, size_mm, orientation: as in `NodeMeasurement`, or "all".
        n: number of measured nodes.
        unseen: number of further nodes, of which no voxel was left.
        bias_mm, sd_mm: mean and standard deviation of measurement minus truth; None without nodes (or with one).
        false_suspicious: share of all nodes that are over the limit by the measurement and not by the truth.
        false_benign: the reverse; an unseen node counts as benign.
    """

    mask: str
    rule: str
    truth: str
    scanner: str
    size_mm: str
    orientation: str
    n: int
    unseen: int
    bias_mm: float | None
    sd_mm: float | None
    false_suspicious: float
    false_benign: float

    @property
    def limits_mm(self) -> tuple[float, float] | None:
        """The range of 95 % of normally distributed errors: ``bias -+ 1.96 sd``."""
        if self.bias_mm is None or self.sd_mm is None:
            return None
        return self.bias_mm - 1.96 * self.sd_mm, self.bias_mm + 1.96 * self.sd_mm

    @property
    def wrong(self) -> float:
        """Share on the wrong side of the limit."""
        return self.false_suspicious + self.false_benign


@dataclass(frozen=True)
class MeasurementResults:
    """The rows of all three experiments.

    Attributes:
        scanners: exact and imaged nodes on the scanners' grids, by band and every cut of scanner and orientation.
        slices: exact nodes by slice thickness, which stands for the scanner, and band.
        network: nodes that the model marks in whole phantoms, by band and pooled.
    """

    scanners: list[MeasurementRow]
    slices: list[MeasurementRow]
    network: list[MeasurementRow]

    def to_tables(self) -> dict[str, dict[str, Any]]:
        """Return the tables that `benchmarks.harness.rows.write_json` takes."""
        parts = {"measurement": self.scanners, "slice thickness": self.slices, "network": self.network}
        return {name: to_columns(rows) for name, rows in parts.items()}


def aggregate(measurements: Iterable[NodeMeasurement], *cuts: Sequence[str]) -> list[MeasurementRow]:
    """Return a row for each rule and each combination of the keys in a cut; the other keys are pooled.

    Args:
        measurements: of all nodes.
        cuts: each a selection of `KEYS`.
    """
    measurements = list(measurements)
    rows = []
    for cut in cuts:
        groups: dict[GroupKey, list[NodeMeasurement]] = {}
        for node in measurements:
            scanner, size_mm, orientation = (getattr(node, key) if key in cut else ALL for key in KEYS)
            key = (node.mask, node.rule, node.truth, scanner, size_mm, orientation)
            groups.setdefault(key, []).append(node)
        rows += [_row(key, group) for key, group in sorted(groups.items(), key=_in_order)]
    return rows


def to_columns(rows: Sequence[MeasurementRow]) -> dict[str, Any]:
    """Return ``{"columns", "rows"}``, numbers with three decimals; hundreds of rows, so names are written once."""
    names = [field.name for field in fields(MeasurementRow)]
    return {"columns": names, "rows": [[_rounded(value) for value in asdict(row).values()] for row in rows]}


def _row(key: GroupKey, group: Sequence[NodeMeasurement]) -> MeasurementRow:
    errors = np.array([node.short_mm - node.true_mm for node in group if node.short_mm is not None])
    calls = [
        (node.short_mm is not None and LIMIT.exceeded(node.short_mm), LIMIT.exceeded(node.true_mm)) for node in group
    ]
    return MeasurementRow(
        *key,
        n=len(errors),
        unseen=len(group) - len(errors),
        bias_mm=float(errors.mean()) if len(errors) else None,
        sd_mm=float(errors.std(ddof=1)) if len(errors) > 1 else None,
        false_suspicious=sum(called and not true for called, true in calls) / len(group),
        false_benign=sum(true and not called for called, true in calls) / len(group),
    )


def _in_order(item: tuple[GroupKey, Any]) -> tuple[Any, ...]:
    """Sort key: bands by size, then scanners by name, then orientations from the normal to the plane."""
    _, _, _, scanner, size, orientation = item[0]
    bands = [band_name(band) for band in BANDS_MM]
    return (
        bands.index(size) if size in bands else len(bands),
        scanner,
        ORIENTATIONS.index(orientation) if orientation in ORIENTATIONS else -1,
    )


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
