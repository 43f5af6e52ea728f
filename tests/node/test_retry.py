"""What a person does beside a node that runs: a choice of the series, a result once more, and the end by Ctrl-C."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pydicom
from dicom_network import dataset_bytes, dcmsend, end, store_scp
from exam_files import write_exam
from node_process import NodeProcess, node, target

SERIES = "6"  # the b = 800 series of `write_exam`


def without_b_values(folder: Path) -> list[Path]:
    """An exam whose headers lost the b-values on their way."""
    paths = write_exam(folder, "lost")
    for path in paths:
        dataset = pydicom.dcmread(path)
        del dataset.DiffusionBValue
        dataset.save_as(path)
    return paths


def only_state(service: NodeProcess) -> str | None:
    """The state of the one exam."""
    states = service.states()
    return states[0] if len(states) == 1 else None


def test_a_refused_exam_is_run_by_a_persons_choice_and_its_result_sent_once_more(
    tmp_path: Path, model_folder: Path
) -> None:
    with (
        store_scp(tmp_path / "sink", "+B", "+uf") as sink,
        node(tmp_path / "node", model_folder, [target(sink.port)], receive={"give_up_s": 10}) as service,
    ):
        dcmsend(service.port, *without_b_values(tmp_path / "exam"))
        service.wait(lambda: only_state(service) == "refused", "the exam is refused")
        (exam,) = service.exams().values()
        assert exam["code"] == "no-b-value"

        done = service.call("retry", exam["id"][:6], "--series", SERIES, "--b-value", "800")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{exam['id']}: is run\n", "")
        service.wait(lambda: only_state(service) == "sent", "the exam is run and sent", seconds=30)
        report = json.loads((service.result_folder(exam["id"]) / "report.json").read_text())
        assert report["summary"]["n_stage"] == "N1" and report["study"]["b_value"] == 800
        assert "given-b-value" in {warning["code"] for warning in report["warnings"]}
        first = sorted(map(dataset_bytes, sink.files()))
        assert len(first) == 2

        for path in sink.files():
            path.unlink()
        assert service.call("retry", exam["id"], "--send-again").returncode == 0
        service.wait(lambda: len(sink.files()) == 2 and only_state(service) == "sent", "it is sent again", seconds=30)
        assert sorted(map(dataset_bytes, sink.files())) == first

        assert service.process is not None
        assert end(service.process, signal.SIGINT, 40) == 0, "Ctrl-C is a good end"
        service.process = None
        assert "the node does not run" in service.call("status").stdout
