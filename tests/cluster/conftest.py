"""A cluster of Ray with three machines, all on this one; it is slow to start, and a module shares it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cohorts import make_model, write_studies

MACHINE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster`: a head without cores, and three machines of one core each."""
    folder = Path(tempfile.mkdtemp(prefix="lnfast-", dir="/tmp"))  # Ray's sockets have paths of 107 bytes at most
    (folder / "ray").mkdir()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # the workers' classes are in tests/
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={**MACHINE, "num_cpus": 0})
        try:
            for _ in range(3):
                cluster.add_node(**MACHINE)
            yield cluster
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight studies in one folder."""
    return write_studies(tmp_path_factory.mktemp("studies") / "ar chive é", 8)


@pytest.fixture(scope="module")
def expected(model: Path, studies: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """What ``lnfast run`` writes of them, without times."""
    from cohorts import content

    from lnfast import Engine

    out = tmp_path_factory.mktemp("run")
    with Engine(model) as engine:
        list(engine.run_many(studies, out=out))
    assert os.listdir(out)
    return content(out)
