"""The figures that the paper prints; every measure is shown beside them.

They are of its testing set (n = 41), and for patients of its hold-out set (n = 77).
"""

from __future__ import annotations

from collections.abc import Mapping

PAPER_SEGMENTATION: Mapping[str, Mapping[str, str]] = {
    "all": {"dice": "0.76", "vs": "0.82"},
    "suspicious": {
        "dice": "0.85",
        "ppv": "0.80",
        "tpr": "0.82",
        "vs": "0.86",
        "hd_mm": "2.02",
        "avd_mm": "2.01",
        "mhd": "1.54",
    },
    "largest": {
        "dice": "0.88",
        "ppv": "0.83",
        "tpr": "0.89",
        "vs": "0.88",
        "hd_mm": "2.02",
        "avd_mm": "2.01",
        "mhd": "1.54",
    },
}
PAPER_DETECTION = {"suspicious": ("226/231 0.978", "226/230 0.983", "0.980"), "largest": ("41/41", "41/41", "1.000")}
PAPER_PATIENT = {
    "sensitivity": "1.000 (0.905-1.000)",
    "specificity": "0.925 (0.796-0.984)",
    "auc": "0.963 (0.892-0.993)",
    "kappa": "0.922",
}
# All against suspicious nodes: the paper's P, by LSD.
PAPER_SUBSETS = {"dice": "0.009", "vs": "0.046"}
