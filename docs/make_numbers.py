"""Write the tables of docs/benchmarks.md and their pictures from benchmarks/results.

python docs/make_numbers.py
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
sys.path.append(str(ROOT))  # last: the kernels of an installed lnfast are compiled, those of a checkout need not be

from benchmarks.harness.rows import BenchmarkFile, Row, read_json  # noqa: E402
from benchmarks.report import plots  # noqa: E402
from benchmarks.report.console import format_number  # noqa: E402

# The machine on which each group was measured; the kernels do not change with the model.
MACHINES = {
    "network": "xeon-limited-to-vnni-2-cores",
    "pipeline": "xeon-limited-to-vnni-2-cores",
    "coldstart": "xeon-limited-to-vnni-2-cores",
    "memory": "xeon-limited-to-vnni-2-cores",
    "kernels": "epyc-avx512-2-cores",
    "scaling": "epyc-avx512-2-cores",
}
# Other machines, for the blocks whose name ends so: with instructions for tiles; without any for 8 bits.
OTHERS = {
    "amx": dict.fromkeys(("network", "pipeline", "coldstart", "memory"), "xeon-amx-2-cores"),
    "avx2": dict.fromkeys(("network", "pipeline", "coldstart", "memory"), "epyc-avx2-2-cores"),
}
BLOCK = re.compile(r"(<!-- numbers: (\w+) -->\n).*?(<!-- numbers: end -->)", re.DOTALL)
INT8 = "openvino int8 engine"
EAGER, MONAI = "pytorch eager fp32", "monai eager fp32"
METHOD = "pytorch eager fp32 pipeline of the U-Net"
NETWORKS = {
    INT8: "OpenVINO INT8, certified",
    f"{INT8}, in its windows": "the same in the patient's window, mean of 24 (PyTorch: the whole grid)",
    "openvino bf16 engine": "OpenVINO BF16, certified",
    "openvino fp32": "OpenVINO FP32",
}
MODES = {
    "pytorch channels_last_3d fp32": "channels_last",
    "pytorch compile channels_last_3d fp32": "compiled channels_last",
    "pytorch channels_last_3d bf16 autocast": "BF16 autocast, channels_last",
}
# Of the kernels: the name of the work on the page, and its rows.
LABEL, MEASURE = ("64x256x256, 27 nodes", "label"), ("64x256x256, 27 nodes", "label + measure")
KERNELS = (
    ("label 64x256x256, 27 nodes", *LABEL, "cc3d"),
    ("", *LABEL, "SimpleITK"),
    ("", *LABEL, "scikit-image"),
    ("", *LABEL, "scipy.ndimage"),
    ("the same and all measures", *MEASURE, "cc3d + trimesh"),
    ("box of one node, here exact, there not", "each of 27 nodes", "box", "trimesh"),
    ("the same of 20,004 voxels", "one node of 20004 voxels", "box", "trimesh"),
    ("statistics and resampling", "28x240x240 to 64x256x256", "statistics + resample", "numpy + torch"),
    ("logits to native mask", "64x256x256 to 28x240x240", "threshold + resample", "torch"),
    ("file's voxels to input, logits to nodes", "ingenia 28x240x240", "all", "numpy + torch + cc3d + trimesh"),
)


class Results:
    """The rows of all groups.

    Args:
        files: by group.
        others: of the machines of `OTHERS`.
    """

    def __init__(self, files: dict[str, BenchmarkFile], others: dict[str, Results] | None = None) -> None:
        self.files = files
        self.others = others or {}

    def row(self, bench: str, stage: str, subject: str, peer: str) -> Row:
        """Return the first row of that description: a pipeline's is of all studies.

        Raises:
            StopIteration: there is none.
        """
        description = (stage, subject, peer)
        return next(row for row in self.files[bench].rows if (row.stage, row.subject, row.peer) == description)

    def against_both(self, bench: str, stage: str, peers: str = "") -> tuple[Row, Row]:
        """Return the rows of the INT8 engine against PyTorch and against MONAI."""
        of_torch, of_monai = (self.row(bench, stage, f"lnfast {INT8}", peer + peers) for peer in (EAGER, MONAI))
        return of_torch, of_monai


def read() -> Results:
    """Read the files of `MACHINES` and `OTHERS` in benchmarks/results."""
    return Results(_files(MACHINES), {name: Results(_files(machines)) for name, machines in OTHERS.items()})


def _files(machines: dict[str, str]) -> dict[str, BenchmarkFile]:
    folder = ROOT / "benchmarks" / "results"
    return {group: read_json(folder / f"{group}-{machine}.json") for group, machine in machines.items()}


def network(results: Results) -> Iterator[tuple[str, ...]]:
    """Yield the table of one inference, by engine."""
    rows = [row for row in results.files["network"].rows if row.stage == "infer"]
    fastest = min((row for row in rows if row.subject == INT8), key=lambda row: row.peer_median).peer
    eager, best = (results.row("network", "infer", INT8, peer).peer_median for peer in (EAGER, fastest))
    yield (
        "engine",
        "ms",
        f"PyTorch FP32, eager: {eager:.0f} ms",
        f"PyTorch's best, {MODES[fastest]}: {best:.0f} ms",
        "Dice with FP32",
    )
    for subject, name in NETWORKS.items():
        if not any(row.subject == subject for row in rows):
            continue
        of_eager, of_best = (results.row("network", "infer", subject, peer) for peer in (EAGER, fastest))
        ms = f"{of_eager.subject_median:.0f}"
        overlap = "" if subject.endswith("windows") else f"{of_eager.agreement['dice']:.3f}"  # of the whole grid
        yield name, ms, f"{_ratio(of_eager)} times", f"{_ratio(of_best)} times", overlap


def study(results: Results) -> Iterator[tuple[str, ...]]:
    """Yield the table of a study from file to report with the INT8 engine."""
    yield "", "lnfast", "PyTorch, eager FP32", "MONAI", "the paper's method in PyTorch", ""
    method = {stage: results.row("pipeline", stage, f"lnfast {INT8}", METHOD) for stage in ("total", "around")}
    total, around = (results.against_both("pipeline", stage, " pipeline") for stage in ("total", "around"))
    share = around[0].subject_median / total[0].subject_median
    for name, rows, share_text in (
        ("warm, a study, median of three scanners", (*total, method["total"]), ""),
        ("of it, all but the network", (*around, method["around"]), f", {100 * share:.0f} %"),
        ("from the start of a process", results.against_both("coldstart", "report"), ""),
        ("peak memory of such a process", results.against_both("memory", "peak"), ""),
    ):
        ours = _amount(rows[0].subject_median, rows[0])
        theirs = [_amount(row.peer_median, row) for row in rows] + [""] * (3 - len(rows))
        yield name, ours + share_text, *theirs, ", ".join(map(_ratio, rows)) + " times"


def kernels(results: Results) -> Iterator[tuple[str, ...]]:
    """Yield the table of the kernels, where possible through `lnfast_ext.Components` as well."""
    yield "work", "against", "ms", "with `Components`", "ratios"
    for work, inputs, stage, peer in KERNELS:
        rows = [
            row
            for row in results.files["kernels"].rows
            if (row.study, row.stage, row.peer) == (inputs, stage, peer) and row.subject.startswith("lnfast_ext")
        ]
        ms = [format_number(row.subject_median) for row in rows]
        yield work, peer, ms[0], "".join(ms[1:]), ", ".join(map(_ratio, rows))


def dicom(results: Results) -> Iterator[tuple[str, ...]]:
    """Yield the table of reading a DICOM series."""
    yield "reader", "ms", "lnfast: ms", "ratio"
    for row in results.files["pipeline"].rows:
        if row.stage == "read DICOM":
            yield row.peer, f"{row.peer_median:.0f}", f"{row.subject_median:.1f}", _ratio(row)


BLOCKS = {
    "network": network,
    "network_amx": network,
    "network_avx2": network,
    "study": study,
    "study_amx": study,
    "study_avx2": study,
    "dicom": dicom,
    "kernels": kernels,
}


def filled(page: str, results: Results) -> str:
    """Return the page with its blocks written anew.

    Args:
        page: with a place for each of `BLOCKS`.
        results: of `read`.
    """

    def block(match: re.Match[str]) -> str:
        source = results.others.get(match[2].rpartition("_")[2], results)
        return match[1] + _table(BLOCKS[match[2]](source)) + match[3]

    return BLOCK.sub(block, page)


def main() -> None:
    """Rewrite docs/benchmarks.md and docs/images."""
    results = read()
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    rows = [row for file in results.files.values() for row in file.rows]
    tables = {name: table for file in results.files.values() for name, table in file.tables.items()}
    plots.draw(rows, tables, ROOT / "docs" / "images")


def _amount(value: float, row: Row) -> str:
    return f"{value / 1000:.3g} s" if row.unit == "ms" and value >= 1000 else f"{value:.0f} {row.unit}"


def _ratio(row: Row) -> str:
    """The ratio, or the verdict where the two answers differ."""
    if row.ratio is None:
        return str(row.agreement["verdict"])
    return f"{row.ratio:.0f}" if row.ratio >= 100 else f"{row.ratio:.1f}"


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    heading, *body = rows
    lines = (heading, ("---",) * len(heading), *body)
    return "".join(re.sub(" +", " ", f"| {' | '.join(line)} |\n") for line in lines)


if __name__ == "__main__":
    main()
