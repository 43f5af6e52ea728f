"""Several processes add digital patients to one folder at the same moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RACE = """
import json, multiprocessing, sys
from dataclasses import replace
from pathlib import Path
from lnfast.cohort import add_case
from lnfast.errors import UsageError
from lnfast.phantom import make_phantom

out, rounds = Path(sys.argv[1]), int(sys.argv[2])
n1 = make_phantom(10, "achieva", "n1")
cases = [n1, replace(n1, requested_stage="n0"), replace(n1, seed=11), replace(n1, seed=12)]
context = multiprocessing.get_context("fork")
gate, answers = context.Barrier(len(cases)), context.Queue()

def writer(case):
    for attempt in range(rounds):
        gate.wait()
        try:
            add_case(out / str(attempt), case)
            answers.put((attempt, case.seed, case.requested_stage, "written"))
        except UsageError as error:
            answers.put((attempt, case.seed, case.requested_stage, error.code))
        except BaseException as error:
            answers.put((attempt, case.seed, case.requested_stage, repr(error)))

processes = [context.Process(target=writer, args=(case,)) for case in cases]
for process in processes:
    process.start()
print(json.dumps([answers.get(timeout=200) for _ in range(rounds * len(cases))]))
"""


@pytest.mark.skipif(os.name != "posix", reason="fork")
def test_of_two_patients_of_the_same_name_the_first_is_added_and_all_are_counted(tmp_path: Path) -> None:
    """Seed 10 comes for stage n1 and for n0, which are two patients; seeds 11 and 12 come beside them."""
    rounds = 4
    command = [sys.executable, "-c", RACE, str(tmp_path), str(rounds)]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert completed.returncode == 0, completed.stderr
    answers = json.loads(completed.stdout)
    for attempt in range(rounds):
        outcomes = {(seed, stage): outcome for number, seed, stage, outcome in answers if number == attempt}
        folder = tmp_path / str(attempt)
        stage = json.loads((folder / "truth" / "phantom_achieva_000010.json").read_text())["stage_asked"]
        rejected = {"n0": "n1", "n1": "n0"}[stage]
        assert outcomes[10, stage] == outcomes[11, "n1"] == outcomes[12, "n1"] == "written", outcomes
        assert outcomes[10, rejected] == "output-exists", outcomes
        assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 3
        assert not list(folder.rglob(".*")), "a temporary file was left"
