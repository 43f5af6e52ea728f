"""From single measurements to rows: bias, spread and calls on the wrong side of the limit."""

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


@dataclass(frozen=True)
class Measured:
    """One node by one rule.

    Attributes:
        mask: where its voxels came from: "truth", "imaged" or "network".
        rule: how it was measured.
        truth: what it is compared with: "box" or "axial", of the body itself.
        scanner: a name, or a slice thickness such as "3 mm".
        size_mm: the band in which the body's short axis lies.
        orientation: of that axis.
        true_mm: the truth.
        short_mm: the measurement; None where there was nothing to measure.
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
    """Some nodes by one rule.

    Attributes:
        mask, rule, truth, scanner, size_mm, orientation: as in `Measured`, or "all".
        n: nodes that were measured.
        unseen: nodes besides, of which no voxel was left.
        bias_mm, sd_mm: mean and standard deviation of measurement minus truth; None without nodes (or with one).
        false_suspicious: share of all nodes that are over the limit by the measurement and not by the truth.
        false_benign: the other way round; what is not seen is benign.
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
        """Within which 95 % of the errors lie, were they normal: ``bias -+ 1.96 sd``."""
        if self.bias_mm is None or self.sd_mm is None:
            return None
        return self.bias_mm - 1.96 * self.sd_mm, self.bias_mm + 1.96 * self.sd_mm

    @property
    def wrong(self) -> float:
        """Share on the wrong side of the limit."""
        return self.false_suspicious + self.false_benign


def aggregate(found: Iterable[Measured], *cuts: Sequence[str]) -> list[MeasurementRow]:
    """A row for each rule and each value of the keys in a cut; what is not cut is pooled.

    Args:
        found: nodes.
        cuts: each a choice of `KEYS`.
    """
    found = list(found)
    rows = []
    for cut in cuts:
        groups: dict[tuple[str, ...], list[Measured]] = {}
        for one in found:
            where = (getattr(one, key) if key in cut else ALL for key in KEYS)
            groups.setdefault((one.mask, one.rule, one.truth, *where), []).append(one)
        rows += [_row(names, group) for names, group in sorted(groups.items(), key=_in_order)]
    return rows


def to_columns(rows: Sequence[MeasurementRow]) -> dict[str, Any]:
    """``{"columns", "rows"}`` with three digits after the point: hundreds of small rows, so names are written once."""
    names = [field.name for field in fields(MeasurementRow)]
    return {"columns": names, "rows": [[_short(value) for value in asdict(row).values()] for row in rows]}


def _row(names: tuple[str, ...], group: Sequence[Measured]) -> MeasurementRow:
    seen = [(one.short_mm, one.true_mm) for one in group if one.short_mm is not None]
    errors = np.array([short_mm - true_mm for short_mm, true_mm in seen])
    calls = [(one.short_mm is not None and LIMIT.exceeded(one.short_mm), LIMIT.exceeded(one.true_mm)) for one in group]
    return MeasurementRow(
        *names,
        n=len(seen),
        unseen=len(group) - len(seen),
        bias_mm=float(errors.mean()) if len(seen) else None,
        sd_mm=float(errors.std(ddof=1)) if len(seen) > 1 else None,
        false_suspicious=sum(called and not true for called, true in calls) / len(group),
        false_benign=sum(true and not called for called, true in calls) / len(group),
    )


def _in_order(item: tuple[tuple[str, ...], Any]) -> tuple[Any, ...]:
    """Bands by size, orientations from the normal to the plane, the rest as it came."""
    _, _, _, scanner, size, orientation = item[0]
    bands = [band_name(band) for band in BANDS_MM]
    return (
        bands.index(size) if size in bands else len(bands),
        scanner,
        ORIENTATIONS.index(orientation) if orientation in ORIENTATIONS else -1,
    )


def _short(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
