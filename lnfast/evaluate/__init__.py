"""A prediction against a truth: every measure of the clinical method, as its paper defines it.

    inputs/         folders, label maps, reports and groups -> pairs of files
    measures/       the measures: arrays and nodes in, numbers out
    evaluation.py   both of the above, study by study
    output/         metrics.json, the tables, the figures and the page
    extra.py        scipy, statsmodels, scikit-learn, matplotlib: the one way to them

What is handed out here needs none of the packages behind the extra ``evaluate``; neither does importing it.
"""

from __future__ import annotations

from lnfast.evaluate.measures.comparison import (
    Comparison,
    Detection,
    NodeMap,
    Pair,
    compare,
    dice,
    node_map,
    shared_voxels,
)

__all__ = ["Comparison", "Detection", "NodeMap", "Pair", "compare", "dice", "node_map", "shared_voxels"]
