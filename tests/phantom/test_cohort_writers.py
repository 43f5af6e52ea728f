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
cases = [n1, replace(n1, stage_asked="n0"), replace(n1, seed=11), replace(n1, seed=12)]
context = multiprocessing.get_context("fork")
gate, answers = context.Barrier(len(cases)), context.Queue()

def writer(case):
    for turn in range(rounds):
        gate.wait()
        try:
            add_case(out / str(turn), case)
            answers.put((turn, case.seed, case.stage_asked, "written"))
        except UsageError as error:
            answers.put((turn, case.seed, case.stage_asked, error.code))
        except BaseException as error:
            answers.put((turn, case.seed, case.stage_asked, repr(error)))

processes = [context.Process(target=writer, args=(case,)) for case in cases]
for process in processes:
    process.start()
print(json.dumps([answers.get(timeout=200) for _ in range(rounds * len(cases))]))
"""


@pytest.mark.skipif(os.name != "posix", reason="fork")
def test_of_two_patients_of_one_name_one_is_added_and_all_are_counted(tmp_path: Path) -> None:
    """Seed 10 comes for stage n1 and for n0, which are two patients; seeds 11 and 12 come beside them."""
    rounds = 4
    command = [sys.executable, "-c", RACE, str(tmp_path), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for turn in range(rounds):
        said = {(seed, stage): answer for at, seed, stage, answer in answers if at == turn}
        folder = tmp_path / str(turn)
        filed = json.loads((folder / "truth" / "phantom_achieva_000010.json").read_text())["stage_asked"]
        other = {"n0": "n1", "n1": "n0"}[filed]
        assert said[10, filed] == said[11, "n1"] == said[12, "n1"] == "written", said
        assert said[10, other] == "output-exists", said
        assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 3
        assert not list(folder.rglob(".*")), "a temporary file was left"
