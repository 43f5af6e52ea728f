"""The names of measures and quantities, for the terminal, the page and the figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MEASURE_NAMES = {
    "dice": "Dice",
    "ppv": "PPV",
    "tpr": "TPR",
    "vs": "VS",
    "hd_mm": "HD, mm",
    "avd_mm": "AVD, mm",
    "mhd": "MHD",
    "sensitivity": "Sensitivity for N1",
    "specificity": "Specificity",
    "auc": "AUC of the call",
    "auc_short_axis": "AUC of the short axis",
    "kappa": "Kappa",
}
STAGING_MEASURES = ("sensitivity", "specificity", "auc", "auc_short_axis", "kappa")


@dataclass(frozen=True)
class Quantity:
    """A measured quantity of a node, as it is shown.

    Attributes:
        key: in metrics.json.
        name: in lower case.
        unit: of the shown value.
        per_unit: the shown value is the value of metrics.json divided by this.
        places: decimals of the shown value.
    """

    key: str
    name: str
    unit: str
    per_unit: float
    places: int

    def text(self, value: float) -> str:
        """Return a value of metrics.json in this unit, without the sign of a zero."""
        return f"{round(value / self.per_unit, self.places) + 0.0:.{self.places}f}"


QUANTITIES = (
    Quantity("short_axis_mm", "short axis", "mm", 1.0, 2),
    Quantity("volume_mm3", "volume", "cm\u00b3", 1e3, 3),
)


def p_all_against_suspicious(comparison: Mapping[str, Any]) -> float | None:
    """Return the p value by LSD of all against suspicious nodes, from an entry of ``subset_comparison``."""
    tests = (test["p_value"] for test in comparison["lsd"] if set(test["groups"]) == {"all", "suspicious"})
    return next(tests, None)
