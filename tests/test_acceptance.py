"""The shipped model on patients it has never seen: twenty phantoms of each kind whose seeds are kept from training."""

from __future__ import annotations

from functools import reduce
from operator import add

import pytest

from lnfast.engine import Engine
from lnfast.geometry import Volume
from lnfast.matching import Comparison, NodeMap, compare, node_map
from lnfast.measure import n_stage
from lnfast.phantom import LIFELIKE, REALISTIC, SCANNERS, Variety, make_phantom

SEEDS = range(20)  # training refuses the seeds below 100
# Of realistic phantoms 0.8.0 finds 42 of 47 and 43 of its 55 calls are right; 0.7.0 had 41 of 47 and 43 of 52. Of the
# default, which is further from people and which neither learned anything from, it finds 21 of 26 and 21 of 41 are
# right; 0.7.0 had 21 of 26 and 21 of 45. No more may be lost unseen. The goal is the paper's 0.98 and 0.98.
AT_LEAST = {"realistic": (0.87, 0.77), "default": (0.78, 0.49)}
VARIETIES: dict[str, Variety] = {"realistic": REALISTIC, "default": LIFELIKE}

Answers = list[tuple[int, str, str, Comparison]]


@pytest.fixture(scope="module", params=list(VARIETIES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def answers(kind: str) -> Answers:
    """(seed, true stage, stage found, comparison) for each phantom."""
    rows = []
    with Engine() as engine:
        for seed in SEEDS:
            phantom = make_phantom(seed, tuple(SCANNERS)[seed % len(SCANNERS)], variety=VARIETIES[kind])
            truth = node_map(Volume(phantom.labels, phantom.volume.grid), engine.rules)
            result = engine.run(phantom.volume)
            comparison = compare(NodeMap(result.labels, result.nodes), truth)
            rows.append((seed, n_stage(truth.nodes, engine.rules), result.n_stage, comparison))
    return rows


def test_suspicious_nodes_are_found_and_few_are_invented(answers: Answers, kind: str) -> None:
    total = reduce(add, (comparison.detection for *_, comparison in answers))
    assert total.detected + total.missed >= 20
    recall, precision = AT_LEAST[kind]
    assert total.recall is not None and total.recall >= recall, total
    assert total.precision is not None and total.precision >= precision, total


def test_no_n1_patient_is_called_n0(answers: Answers) -> None:
    assert {truth for _, truth, *_ in answers} == {"N0", "N1"}
    missed = [seed for seed, truth, predicted, _ in answers if (truth, predicted) == ("N1", "N0")]
    assert missed == []
