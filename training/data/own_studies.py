"""The user's own studies as a source of cases: checked, split by patient, never both trained and validated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnfast.card import ModelCard
from lnfast.errors import StudyError, UsageError
from training.console import print_message
from training.data.batches import CasePool
from training.data.check import Findings, examine, image_id
from training.data.load import load_case
from training.data.nnunet_raw import CaseFiles, open_cases
from training.data.provenance import learned_from
from training.data.source import PriorRun
from training.data.split import Split, check_split, read_split, split_cases, write_split
from training.recipe.card import draft_card

if TYPE_CHECKING:
    from training.data.case import Case


@dataclass(eq=False)
class OwnStudies:
    """Studies in nnU-Net's raw layout, split by patient.

    Attributes:
        folder: with ``dataset.json``.
        seed: of the split, which is drawn once and kept in ``RUN/split.json``.
    """

    folder: Path
    seed: int

    @property
    def name(self) -> str:
        """The last part of the path; where the folder is makes no difference."""
        return self.folder.resolve().name

    def describe(self, run: Path, earlier: Sequence[PriorRun]) -> dict[str, Any]:
        """Check every case and choose the split; return the data's name, split and content.

        Args:
            run: whose ``split.json`` is taken where there is one.
            earlier: runs that this one builds on; of the same data their split is taken next.

        Raises:
            StudyError: ``bad-cases`` after each of them was named on standard error.
            UsageError: ``bad-split`` for a split of other cases; ``leaked-cases``.
        """
        self.split = self._choose(run, earlier)
        check_split(self.split, self.files, partial=True)
        self._refuse_leaks(earlier)
        return {
            "kind": "folder",
            "name": self.name,
            "seed": self.seed,
            "split": self.split.sha256,
            "content": self.findings.sha256,
        }

    def open(self, run: Path, card: ModelCard) -> CasePool:
        """Load the cases of the split's training and validation parts; the test part is never loaded."""
        by_name = {case.name: case for case in self.files}
        used = len(self.split.train) + len(self.split.validation) + len(self.split.test)
        if left := len(by_name) - used:
            print_message(f"split.json leaves out {left} of {len(by_name)} cases of {self.folder}")
        training, validation = (
            tuple(load_case(by_name[name], card) for name in part) for part in (self.split.train, self.split.validation)
        )
        return CasePool(card, training, validation)

    def save_into(self, run: Path) -> None:
        """Write the split into the run."""
        if not (run / "split.json").exists():
            write_split(run / "split.json", self.split)

    def take_new_cases(self, pool: CasePool) -> None:
        """Do nothing: a folder gets no new cases during a run."""

    def provenance(self, pool: CasePool) -> dict[str, Any]:
        """Return the folder's name, its split, and hashes of the training images, for a name may be a patient's."""
        return {
            "kind": "folder",
            "name": self.name,
            "cases": len(pool.training),
            "split": {"seed": self.split.seed, "sha256": self.split.sha256},
            "learned": sorted(self.findings.images[name] for name in self.split.train),
        }

    def validated_on(self, pool: CasePool) -> dict[str, Any]:
        """Return what the header of the weights says about the validation cases."""
        return {"kind": "folder", "name": self.name, "cases": len(pool.validation)}

    @cached_property
    def findings(self) -> Findings:
        """The result of the check, which runs once.

        Raises:
            StudyError: ``bad-cases``.
        """
        findings = examine(self.folder, draft_card())
        for line in findings.problems:
            print_message(str(line))
        if findings.problems:
            bad = len({problem.case for problem in findings.problems})
            raise StudyError("bad-cases", f"{bad} cases or files of {self.folder} cannot be used; mend or remove them")
        return findings

    @cached_property
    def files(self) -> tuple[CaseFiles, ...]:
        """The files of each case, once all were checked."""
        assert self.findings.cases
        return open_cases(self.folder)

    def _choose(self, run: Path, earlier: Sequence[PriorRun]) -> Split:
        if (run / "split.json").exists():
            return read_split(run / "split.json")
        for prior in earlier:
            for source in reversed(learned_from(prior.header)):
                if source["kind"] == "folder" and source["name"] == self.name:
                    return self._as_before(prior.run / "split.json", source.get("split", {}))
        return split_cases(self.files, self.seed)

    def _as_before(self, path: Path, source: dict[str, Any]) -> Split:
        """Return the split of a prior run: from its file, or drawn again with its seed."""
        if path.exists():
            split = read_split(path)
            if source.get("sha256", split.sha256) == split.sha256:
                return split
        return split_cases(self.files, source.get("seed", self.seed))

    def _refuse_leaks(self, earlier: Sequence[PriorRun]) -> None:
        images = self.findings.images
        for prior in earlier:
            known: set[str] = set()
            for source in learned_from(prior.header):
                if source["kind"] != "folder":
                    continue
                if "learned" in source:
                    known.update(source["learned"])
                elif source["name"] == self.name and (prior.run / "split.json").exists():  # an older header
                    known.update(images[name] for name in read_split(prior.run / "split.json").train if name in images)
                else:
                    print_message(f"{prior.run} does not say which cases it learned from; see to it yourself")
            kept_apart = (*self.split.validation, *self.split.test)
            refuse_leaked([name for name in kept_apart if images[name] in known], str(prior.run))


def validation_cases(run: Path, header: dict[str, Any], folder: Path) -> tuple[Case, ...]:
    """Load the validation part of a run's own split.

    Args:
        run: with ``split.json``.
        header: of its weights.
        folder: the data set that the split is of.

    Raises:
        StudyError: of the first case that cannot be read.
        UsageError: ``bad-split``; ``leaked-cases`` when the weights were trained on one of them.
    """
    files = open_cases(folder)
    split = read_split(run / "split.json", files, partial=True)
    by_name, card = {case.name: case for case in files}, draft_card()
    cases = tuple(load_case(by_name[name], card) for name in split.validation)
    known = {image for source in learned_from(header) for image in source.get("learned", ())}
    refuse_leaked([case.name for case in cases if image_id(case.volume) in known], str(run))
    return cases


def refuse_leaked(names: Sequence[str], by: str) -> None:
    """Refuse validation and test cases that were trained on.

    Raises:
        UsageError: ``leaked-cases``, naming them.
    """
    if names:
        raise UsageError(
            "leaked-cases",
            f"{by} has learned from {', '.join(sorted(names))}, which this split keeps for validation or test; put the "
            "split.json of that run into this one",
        )
