"""The proof that a cohort loses nothing, with the shipped model: ``python tests/cluster/proof [COUNT]``; minutes.

COUNT phantoms (60) are run by ``lnfast run``, and by ``lnfast cohort`` on three machines of one core each, in which in
turn a worker, a machine and the driver are killed. Then the same command does what is left, and all folders must be the
same, but for times. Exit code 1 where they are not.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

TESTS = Path(__file__).parents[2]
sys.path.insert(0, str(TESTS))
MACHINE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


def main(count: int) -> int:
    """Run the proof; return the exit code."""
    from cohorts import content

    work = Path(tempfile.mkdtemp(prefix="lnfast-", dir="/tmp"))
    (work / "ray").mkdir()
    os.environ |= {"RAY_TMPDIR": str(work), "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    try:
        lnfast("phantom", "-o", work / "phantoms", "--count", count, "--seed", 9_100_000)
        images = work / "phantoms" / "imagesTr"
        started = perf_counter()
        lnfast("run", *sorted(images.glob("*.nii.gz")), "-o", work / "run")
        print(f"lnfast run: {count} studies in {perf_counter() - started:.0f} s")
        with_kills(work, images, count)
        expected, got = content(work / "run"), content(work / "out")
        print(f"lnfast cohort: {len(got)} of {count} folders, nothing half-written")
        different = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
        print(f"{len(different)} folders differ from those of lnfast run")
        for name in different:
            print(f"{name}: {first_difference(expected.get(name, {}), got.get(name, {}))}")
        return 1 if different or len(got) != count else 0
    finally:
        shutil.rmtree(work, ignore_errors=True)


def with_kills(work: Path, images: Path, count: int) -> None:
    """Run the cohort; kill a worker, a machine and the driver on the way, and finish it."""
    from cohorts import worker_processes
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**MACHINE, "num_cpus": 0})
    machines = [cluster.add_node(**MACHINE) for _ in range(3)]
    command = ["cohort", images, "-o", work / "out", "--address", cluster.address]
    try:
        driver = subprocess.Popen([sys.executable, "-m", "lnfast", *map(str, command)])

        def kill_worker() -> None:
            os.kill(worker_processes(os.getpid())[0], 9)

        def kill_machine() -> None:
            cluster.remove_node(machines[-1], allow_graceful=False)
            cluster.add_node(**MACHINE)

        kills: list[tuple[str, Callable[[], Any]]] = [
            ("a worker", kill_worker),
            ("a machine", kill_machine),
            ("the driver", driver.kill),
        ]
        for number, (what, kill) in enumerate(kills, start=1):
            while folders(work / "out") < count * number // 4:
                if driver.poll() is not None:
                    raise SystemExit(f"the cohort ended with {driver.returncode} before {what} was killed")
                sleep(0.05)
            kill()
            print(f"killed {what} when {folders(work / 'out')} of {count} were done")
        driver.wait()
        sleep(2)  # the workers of the driver that was killed end with it
        lnfast(*command)
        lnfast(*command, "--json")
    finally:
        cluster.shutdown()


def first_difference(expected: dict[str, bytes], got: dict[str, bytes]) -> str:
    """Return the file that differs, and what stands there on both sides."""
    for name in sorted(expected.keys() | got.keys()):
        left, right = expected.get(name), got.get(name)
        if left is None or right is None:
            return f"{name} is only in {'lnfast cohort' if left is None else 'lnfast run'}"
        if left != right:
            if name.endswith(".gz") and gzip.decompress(left) == gzip.decompress(right):
                return f"{name}: compressed otherwise, and the same within"
            at = next((i for i, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), 0)
            return f"{name}: {left[max(at - 80, 0) : at + 80]!r}, {right[max(at - 80, 0) : at + 80]!r}"
    return "nothing"


def folders(out: Path) -> int:
    """Return how many studies are done."""
    return len(list(out.glob("*/report.json")))


def lnfast(*arguments: object) -> None:
    """Run a command and stop where it fails."""
    call = [sys.executable, "-m", "lnfast", *map(str, arguments)]
    quiet = subprocess.DEVNULL if arguments[0] in ("phantom", "run") else None
    subprocess.run(call, check=True, stdout=quiet, stderr=quiet)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 60))
