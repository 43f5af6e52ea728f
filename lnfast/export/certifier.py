"""Certify candidate engines against FP32; the FP32 answers, which take longest, are computed once."""

from __future__ import annotations

from lnfast.backends import Candidate
from lnfast.backends.engine.folder import EngineFolder
from lnfast.backends.machine import device_kind
from lnfast.backends.protocol import Progress
from lnfast.errors import EngineError
from lnfast.export.certificate import (
    Certificate,
    Difference,
    Reference,
    certify,
    compare_with_reference,
    references,
)
from lnfast.export.studies import StudySet
from lnfast.network import Network
from lnfast.selftest import prove


class Certifier:
    """The comparison of engines with one FP32 reference on the same studies.

    Args:
        reference: FP32, on the whole grid.
        studies: the studies that the certificate rests on.
        threads: on a CPU; 0 takes one per core.
        progress: told of each study.
    """

    def __init__(self, reference: Network, studies: StudySet, threads: int, progress: Progress) -> None:
        self._reference = reference
        self._studies = studies
        self._threads = threads
        self._progress = progress
        self._answers: list[Reference] = []
        self._coming = iter(references(studies, reference))

    def answer(self, index: int) -> Reference:
        """Return the FP32 answer to a study, computed when it is first needed."""
        while len(self._answers) <= index:
            self._answers.append(next(self._coming))
        return self._answers[index]

    @property
    def answered(self) -> int:
        """The number of studies that FP32 has answered."""
        return len(self._answers)

    def certify(self, engine: EngineFolder, candidate: Candidate) -> tuple[Certificate | None, str]:
        """Return the certificate of an engine, or None and the reason against it, the first study that differs.

        Raises:
            UsageError: ``proves-nothing``.
        """
        network = Network(self._reference.model, candidate, engine=engine, threads=self._threads)
        try:
            prove(network)
            differences: list[Difference] = []
            for index, _ in enumerate(self._studies.names):
                self._progress(f"certifying {candidate.precision}", index, len(self._studies))
                differences.append(compare_with_reference(network, self.answer(index)))
                if not differences[-1].harmless:
                    return None, _objection(differences)
            info = self._reference.info
            reference = f"{info.name} {info.version} {info.precision} on {info.device}"
            return certify(differences, device_kind(candidate.device), reference, self._studies.source), ""
        except EngineError as error:
            return None, str(error)
        finally:
            network.close()


def _objection(differences: list[Difference]) -> str:
    last = differences[-1]
    flips = f"the stage flips by {' and '.join(last.flips)}, " if last.flips else ""
    return (
        f"not-certified: in study {len(differences)} {flips}{last.lost} suspicious nodes are lost and "
        f"{last.added} added"
    )
