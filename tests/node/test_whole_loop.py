"""dcmsend -> node -> Orthanc: what a PACS gives back passes every validator, for N1, N0 and an enhanced file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from dicom_network import Orthanc, dcmsend, orthanc
from exam_files import write_exam
from node_process import NodeProcess, node, target
from validators import CHECKS, validate, validators

from lnfast.study.dicom.identity import exam_id, load_key

# Not those that store and retrieve by themselves, which the node does here, and not PixelMed, which takes 20 s of the
# many nodes and is in tests/dicom.
OFFLINE = " ".join(name for name in CHECKS.split() if name not in ("dcmtk_store", "orthanc", "pixelmed"))
SIEMENS, PHILIPS, EMPTY = "prostatex-0000", "philips-enhanced-dti", "no nodes"


@dataclass(frozen=True)
class Exam:
    """What was sent, and what came back.

    Attributes:
        source: folder that was sent.
        returned: folder of the SEG and SR that the PACS gave back.
        stored: folder of the result in the spool.
    """

    source: Path
    returned: Path
    stored: Path

    @property
    def n_stage(self) -> str:
        return str(json.loads((self.stored / "report.json").read_text())["summary"]["n_stage"])


@pytest.fixture(scope="module")
def pacs() -> Iterator[Orthanc]:
    with orthanc() as peer:
        yield peer


@pytest.fixture(scope="module")
def loop(
    pacs: Orthanc, model_folder: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Exam]]:
    folder = tmp_path_factory.mktemp("loop")
    data = shared_data.parent / "dicom" / "data"
    write_exam(folder / EMPTY, "empty", EMPTY)
    sources = {SIEMENS: data / SIEMENS, PHILIPS: data / PHILIPS, EMPTY: folder / EMPTY}
    with node(folder / "node", model_folder, [target(pacs.port, aet=pacs.aet)]) as service:
        for source in sources.values():
            dcmsend(service.port, source)
            dcmsend(pacs.port, source, called=pacs.aet)  # as the scanner does by itself
        exams = service.wait_settled(len(sources))
        assert {exam["state"] for exam in exams.values()} == {"sent"}, exams
        assert service.stop() == 0
        returned = pacs.save_instances(folder / "pacs")
        yield {name: _exam(service, source, returned, folder / f"back {name}") for name, source in sources.items()}


def _exam(service: NodeProcess, source: Path, instances: list[Path], folder: Path) -> Exam:
    sent = next(path for path in sorted(source.rglob("*")) if path.is_file())
    study = pydicom.dcmread(sent, specific_tags=["StudyInstanceUID"]).StudyInstanceUID
    folder.mkdir()
    for path in instances:
        dataset = pydicom.dcmread(path, specific_tags=["StudyInstanceUID", "Modality"])
        if dataset.StudyInstanceUID == study and dataset.Modality != "MR":
            (folder / f"{dataset.Modality}.dcm").write_bytes(path.read_bytes())
    return Exam(source, folder, service.result_folder(exam_id(study, load_key(service.spool / "id.key"))))


@pytest.mark.parametrize(
    ("name", "stage", "modalities"),
    [(SIEMENS, "N1", {"SEG", "SR"}), (PHILIPS, "N1", {"SEG", "SR"}), (EMPTY, "N0", {"SR"})],
)
def test_what_the_pacs_gives_back_is_what_the_node_wrote(
    loop: dict[str, Exam], name: str, stage: str, modalities: set[str]
) -> None:
    exam = loop[name]
    assert exam.n_stage == stage
    assert {path.stem for path in exam.returned.iterdir()} == modalities
    for path in exam.returned.iterdir():
        back, stored = pydicom.dcmread(path), pydicom.dcmread(exam.stored / f"{path.stem.lower()}.dcm")
        assert back == stored


@pytest.mark.parametrize("name", [SIEMENS, PHILIPS, EMPTY])
def test_every_validator_accepts_what_came_back(loop: dict[str, Exam], shared_data: Path, name: str) -> None:
    exam = loop[name]
    script = validators(shared_data)
    checked = validate(script, exam.returned, exam.source, exam.stored / "labels.nii.gz", OFFLINE)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("PASS") == len(OFFLINE.split())


def test_results_lie_in_the_patient_and_study_of_their_images(loop: dict[str, Exam], pacs: Orthanc) -> None:
    assert len(pacs.ids("studies")) == len(pacs.ids("patients")) == len(loop)
