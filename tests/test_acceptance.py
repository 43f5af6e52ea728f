"""The shipped model on patients it has never seen: twenty phantoms whose seeds are kept from training."""

from __future__ import annotations

from functools import reduce
from operator import add

import pytest

from lnfast.engine import Engine
from lnfast.geometry import Volume
from lnfast.matching import Comparison, NodeMap, compare, node_map
from lnfast.measure import n_stage
from lnfast.phantom import SCANNERS, make_phantom

SEEDS = range(20)  # training refuses the seeds below 100
# 0.3.0 finds 25 of 26 and 25 of its 55 calls are right, which is 0.455; 0.2.0 had 24 of 26 and 24 of 46. No more may be
# lost unseen. The goal is the paper's 0.97.
PRECISION_AT_LEAST = 0.45


@pytest.fixture(scope="module")
def answers() -> list[tuple[int, str, str, Comparison]]:
    """(seed, true stage, stage found, comparison) for each phantom."""
    rows = []
    with Engine() as engine:
        for seed in SEEDS:
            phantom = make_phantom(seed, tuple(SCANNERS)[seed % len(SCANNERS)])
            truth = node_map(Volume(phantom.labels, phantom.volume.grid), engine.rules)
            result = engine.run(phantom.volume)
            comparison = compare(NodeMap(result.labels, result.nodes), truth)
            rows.append((seed, n_stage(truth.nodes, engine.rules), result.n_stage, comparison))
    return rows


def test_suspicious_nodes_are_found_and_few_are_invented(answers: list[tuple[int, str, str, Comparison]]) -> None:
    total = reduce(add, (comparison.detection for *_, comparison in answers))
    assert total.detected + total.missed >= 20
    assert total.recall is not None and total.recall >= 0.9, total
    assert total.precision is not None and total.precision >= PRECISION_AT_LEAST, total


def test_no_n1_patient_is_called_n0(answers: list[tuple[int, str, str, Comparison]]) -> None:
    assert {truth for _, truth, *_ in answers} == {"N0", "N1"}
    missed = [seed for seed, truth, predicted, _ in answers if (truth, predicted) == ("N1", "N0")]
    assert missed == []
