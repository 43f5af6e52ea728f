"""The drift watch: every so often a released exam is run again in FP32, and its stage compared.

An engine that serves was proven when it was loaded, and certified on phantoms. What it does to the patients of this
scanner, years later and on a machine that may have aged, shows only on them. A stage that differs raises an alarm; a
result that was sent is never changed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lnfast.engine import Engine
from lnfast.matching import shared_voxels
from lnfast.node.ledger import Ledger, StoredResult
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.spool import Spool
from lnfast.result import Result
from lnfast.study import DicomChoice
from lnfast.study.labelmap import read_label_file

STAGE, NODES = "drift-stage", "drift-nodes"

_logger = logging.getLogger("lnfast.node.drift")


@dataclass(frozen=True)
class Drift:
    """How a released result and the same images in FP32 differ.

    Attributes:
        stages: released, in FP32.
        nodes: suspicious nodes of either that touch no suspicious node of the other.
    """

    stages: tuple[str, str]
    nodes: int

    @property
    def is_alarm(self) -> bool:
        """Whether the stage differs."""
        return self.stages[0] != self.stages[1]


class DriftWatch:
    """Remembers which released exam is to be checked, and checks it.

    Args:
        every: after how many results; 0 is never.
        spool, ledger, metrics: of the node.
    """

    def __init__(self, every: int, spool: Spool, ledger: Ledger, metrics: Metrics) -> None:
        self._every, self._spool, self._ledger, self._metrics = every, spool, ledger, metrics
        self.pending: StoredResult | None = None

    def released(self, result: StoredResult) -> None:
        """Note a result that was released; the number of its row decides, so that restarts change nothing."""
        if self._every and result.id % self._every == 0:
            self.pending = result

    def check(self, load: Callable[[], Engine], choice: DicomChoice) -> Drift | None:
        """Run the exam that waits in FP32 and compare; None where its images are others by now.

        Args:
            load: of an engine in FP32, which is closed afterwards.
            choice: with which the exam was read.

        Raises:
            LnfastError: of the engine, the images or the ledger; the exam does not wait any more.
        """
        result, self.pending = self.pending, None
        assert result is not None
        with load() as engine:
            study = engine.read(self._spool.instances(result.exam), choice=choice)
            if study.provenance.sha256 != result.fingerprint:
                return None
            again = engine.analyse(study)
        drift = self._compare(result, again)
        extra = {"exam": result.exam, "result": result.number}
        self._metrics.count("drift_checks_total")
        if drift.is_alarm:
            self._metrics.count("drift_alarms_total")
            message = "released as {}, in FP32 {}".format(*drift.stages)
            self._ledger.note(STAGE, result.exam, message=message)
            _logger.error("drift: %s; export the engine again, or run in FP32", message, extra=extra | {"code": STAGE})
        elif drift.nodes:
            message = f"{drift.nodes} suspicious nodes are only in one of the released result and FP32"
            self._ledger.note(NODES, result.exam, message=message)
            _logger.warning("drift: %s", message, extra=extra | {"code": NODES})
        else:
            _logger.info("no drift: in FP32 the exam has the same stage and nodes", extra=extra)
        return drift

    def _compare(self, result: StoredResult, again: Result) -> Drift:
        folder = self._spool.result_folder(result.exam, result.number)
        released = json.loads((folder / "report.json").read_bytes())
        labels = read_label_file(folder / "labels.nii.gz").values.array
        counts = len(released["nodes"]), len(again.nodes)
        rows = [node["id"] - 1 for node in released["nodes"] if node["suspicious"]]
        columns = [node.id - 1 for node in again.nodes if node.suspicious]
        touching = shared_voxels(labels, again.labels.array, counts)[np.ix_(rows, columns)] > 0
        alone = int((~touching.any(axis=1)).sum() + (~touching.any(axis=0)).sum())
        return Drift((released["summary"]["n_stage"], again.n_stage), alone)
