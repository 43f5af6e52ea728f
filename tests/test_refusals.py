"""docs/refusals.md has a row for each code of lnfast, under the error class that raises it, and no other row."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lnfast import errors

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "refusals.md"
CLASSES = {"LnfastError", "UsageError", "StudyError", "ModelError", "EngineError", "BackendError", "PeerError"}
REPORT, EVALUATION, STDERR, NODE = "report", "evaluation", "stderr", "node"
HEADINGS = {
    "## Codes of a node": NODE,
    "## Warnings in a report": REPORT,
    "## Warnings beside a report": STDERR,
    "## Warnings of an evaluation": EVALUATION,
}
CODE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
# Codes that are no literal where the error is raised: (module, the argument's source) and what it can become.
COMPUTED = {
    # `_known` is called for these two; unknown-device is raised by itself.
    ("backends/choice.py", "f'unknown-{what}'"): ("unknown-backend", "unknown-precision"),
    # `prove_as_asked` compares these two.
    ("backends/host.py", "f'{what}-mismatch'"): ("device-mismatch", "precision-mismatch"),
    # `_exported` compares these three.
    ("serving.py", "f'{what}-unavailable'"): ("backend-unavailable", "precision-unavailable", "device-unavailable"),
    # What `_refused` returns.
    ("backends/trt/execution.py", "code"): ("engine-damaged", "engine-mismatch"),
    # The column `code` of `_KINDS`: its default, and that of the ADC map.
    ("study/kind.py", "kind.code"): ("not-dwi", "adc-map"),
    # `_replacement_warning` is called for these two.
    ("study/affine.py", "f'bad-{bad}'"): ("bad-sform", "bad-qform"),
    # The third column of `_FAILURES`, and what the statuses have that stand in none of its rows.
    ("node/client/answers.py", "code"): (
        "out-of-resources",
        "processing-failure",
        "class-not-supported",
        "not-authorized",
        "class-mismatch",
        "cannot-understand",
        "store-refused",
    ),
    # An error that was raised elsewhere, made again of its value.
    ("cluster/messages.py", "self.code"): (),
    # Pairs that other modules made: collected there.
    ("report/notices.py", "code"): (),
}
# Where warnings are made as bare pairs (code, message), and what shows them.
PAIRS = {"study/": REPORT, "admission.py": REPORT, "evaluate/": EVALUATION}


# Where a node gives an exam, a job, an instance or itself a code without raising an error: the argument's place.
NODE_CALLS = {"_close_exam": 2, "kill": 1, "refuse": 1, "job_dead": 1, "job_failed": 1, "Refusal": 1, "Finding": 0}
# Such codes that a module keeps as plain words before it gives them.
NODE_WORDS = {
    "node/exams/reception.py": ("transfer-aborted", "instance-not-stored"),
    "node/exams/drift.py": ("drift-stage", "drift-nodes"),
    "node/watch/watch.py": ("watch-unreadable", "files-left"),
}


@dataclass(frozen=True, order=True)
class Refusal:
    """A code and its source: the name of an error class, or a kind of warning."""

    by: str
    code: str


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Every module by its path in the package."""
    package = ROOT / "lnfast"
    paths = sorted(package.rglob("*.py"))
    return {path.relative_to(package).as_posix(): ast.parse(path.read_bytes()) for path in paths}


@pytest.fixture(scope="module")
def in_code(trees: dict[str, ast.Module]) -> set[Refusal]:
    """Every code of the package with its source."""
    return {Refusal(by, code) for module, tree in trees.items() for by, code in _all_of(module, tree)}


@pytest.fixture(scope="module")
def rows() -> list[tuple[Refusal, list[str]]]:
    """Each row of the document and its cells."""
    rows, by = [], ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            named = re.search(r"\(`(\w+)`\)$", line)
            by = named[1] if named else HEADINGS.get(line, "")
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            rows.append((Refusal(by, cells[0].strip("`")), cells))
    return rows


def _all_of(module: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (by := _class_of(node)):
            is_value = ast.unparse(node.func) == "ErrorValue"
            code = (
                node.args[is_value]
                if node.args
                else next((part.value for part in node.keywords if part.arg == "code"), None)
            )
            assert code is not None, f"{module}:{node.lineno} has no code"
            yield from ((by, literal) for literal in _codes(module, code))
        elif isinstance(node, ast.Tuple) and (by := _pair(module, node)):
            yield from ((by, literal) for literal in _codes(module, node.elts[0]))
        elif isinstance(node, ast.Call) and module.startswith("node/"):
            yield from _code_of_the_node(node)
        elif module.startswith("cli/") and isinstance(node, ast.JoinedStr):
            yield from _line_of_the_command(node)
    if module in NODE_WORDS:
        words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert set(NODE_WORDS[module]) <= words, f"lnfast/{module} has not all of NODE_WORDS"
        yield from ((NODE, word) for word in NODE_WORDS[module])


def _class_of(call: ast.Call) -> str | None:
    """The error's class, or what a `Notice` is in; None for any other call."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", None)
    if ast.unparse(call.func).startswith("click."):  # becomes the code "usage"
        return None
    if name == "ErrorValue":  # an error as a value: its class, its code
        return ast.literal_eval(call.args[0])
    if name == "Notice":
        # Those that are no part of a report, since the report is written by then.
        beside = isinstance(call.args[0], ast.Constant) and str(call.args[0].value).endswith("-not-written")
        return STDERR if beside else REPORT
    return name if name in CLASSES else None


def _code_of_the_node(call: ast.Call) -> Iterator[tuple[str, str]]:
    """The code that a call gives an exam, a job, an instance or the node, where it is a literal."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", None)
    place = NODE_CALLS.get(name or "", len(call.args))
    if place < len(call.args) and isinstance(call.args[place], ast.Constant):
        yield NODE, str(call.args[place].value)


def _pair(module: str, pair: ast.Tuple) -> str | None:
    """What shows a warning ``(code, message)``; None for a tuple that is none: such a code has a hyphen."""
    by = next((by for place, by in PAIRS.items() if module.startswith(place)), None)
    if by is None or len(pair.elts) != 2 or not isinstance(pair.ctx, ast.Load):
        return None
    first = pair.elts[0]
    if isinstance(first, ast.JoinedStr):
        return by if (module, ast.unparse(first)) in COMPUTED or _starts_like_a_code(first) else None
    is_code = isinstance(first, ast.Constant) and isinstance(first.value, str) and "-" in first.value
    return by if is_code and CODE.fullmatch(first.value) else None


def _starts_like_a_code(text: ast.JoinedStr) -> bool:
    start = text.values[0]
    return isinstance(start, ast.Constant) and re.fullmatch(r"[a-z]+-", str(start.value)) is not None


def _codes(module: str, code: ast.expr) -> tuple[str, ...]:
    if isinstance(code, ast.Constant):
        return (str(code.value),)
    source = ast.unparse(code)
    if source == "error.code":  # an error that was raised elsewhere, with more words
        return ()
    assert (module, source) in COMPUTED, f"say in COMPUTED which codes {source} of lnfast/{module} stands for"
    return COMPUTED[module, source]


def _line_of_the_command(text: ast.JoinedStr) -> Iterator[tuple[str, str]]:
    """Lines that begin with a code although no error of ours was raised: ``usage: ...``."""
    start = text.values[0]
    match = re.match(rf"({CODE.pattern}): ", str(start.value)) if isinstance(start, ast.Constant) else None
    if match and match[1] != "lnfast":
        by = {"usage": "UsageError", "no-cache": STDERR}.get(match[1], "LnfastError")
        yield by, match[1]


def test_every_code_has_a_row_under_its_class_and_every_row_is_a_code(
    in_code: set[Refusal], rows: list[tuple[Refusal, list[str]]]
) -> None:
    documented = {refusal for refusal, _ in rows}
    assert sorted(in_code - documented) == [], "docs/refusals.md lacks these"
    assert sorted(documented - in_code) == [], "nothing says these of docs/refusals.md"


def test_no_code_has_two_rows_under_one_class(rows: list[tuple[Refusal, list[str]]]) -> None:
    documented = [refusal for refusal, _ in rows]
    assert len(documented) == len(set(documented))


def test_every_row_says_what_its_code_means_and_what_to_do(rows: list[tuple[Refusal, list[str]]]) -> None:
    for refusal, cells in rows:
        assert CODE.fullmatch(refusal.code)
        assert len(cells) == 3 and all(cells), refusal


def test_every_heading_has_the_exit_code_of_its_class(rows: list[tuple[Refusal, list[str]]]) -> None:
    headings = re.findall(r"^## Exit code (\d): .*\(`(\w+)`\)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: int(number) for number, name in headings} == {
        name: getattr(errors, name).exit_code for name in CLASSES
    }
    assert {refusal.by for refusal, _ in rows} == CLASSES | set(HEADINGS.values())


def test_every_class_of_errors_is_looked_for() -> None:
    known = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert known == CLASSES


def test_no_class_is_derived_elsewhere_from_an_error_and_no_computed_code_is_stale(
    trees: dict[str, ast.Module],
) -> None:
    derived = {
        f"{module}: {node.name}"
        for module, tree in trees.items()
        if module != "errors.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and {ast.unparse(base).rpartition(".")[2] for base in node.bases} & CLASSES
    }
    assert derived == set()
    sources = {
        (module, ast.unparse(node))
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.expr)
    }
    assert set(COMPUTED) <= sources


def test_the_kinds_of_images_have_only_the_codes_that_are_listed() -> None:
    from lnfast.study.kind import _KINDS

    assert {kind.code for kind in _KINDS} == set(COMPUTED["study/kind.py", "kind.code"])


def test_every_limit_of_admission_stands_in_the_document_as_it_is_in_the_code(
    rows: list[tuple[Refusal, list[str]]],
) -> None:
    from lnfast import admission, measure, selftest
    from lnfast.report.notices import SLICE_SPACING_RATIO

    text = {refusal: " | ".join(cells) for refusal, cells in rows}
    (low, high), (least, most) = admission.IN_PLANE_MM, admission.THROUGH_PLANE_MM
    alike, filled = admission.AIR_IS_BODY
    short, tall = admission.ZSCORE_HEIGHT
    wanted = {
        ("StudyError", "no-pelvis"): (
            f"{low:g} to {high:g} mm",
            f"{least:g} to {most:g} mm",
            f"{admission.FEWEST_SLICES} slices",
            f"{admission.FEWEST_PIXELS} x {admission.FEWEST_PIXELS} pixels",
        ),
        ("StudyError", "few-greys"): (f"fewer than {admission.FEWEST_GREYS} ",),
        ("StudyError", "no-body"): (
            f"less than {admission.LEAST_BODY:.0%}",
            f"more than {filled:.0%}",
            f"more than {alike:g} times",
        ),
        ("StudyError", "inverted-greys"): (f"less than {admission.LEAST_SKEW:g} times",),
        ("StudyError", "untrusted-greys"): (
            f"less than {admission.LEAST_SPREAD:.0%}",
            f"more than {admission.UNTRUSTED_SHARE:.0%}",
            f"{short:g} to {tall:g} deviations",
            f"more than {admission.ZSCORE_PADDING:g} height",
        ),
        (REPORT, "unusual-greys"): (
            f"more than {admission.UNUSUAL_SHARE:.1%}",
            f"{admission.UNUSUAL_PATCH_MM2 / 100:g} cm2",
            f"more than {admission.UNUSUAL_SATURATED:.2%}",
        ),
        (REPORT, "not-axial"): (f"{SLICE_SPACING_RATIO:g} times",),
        ("EngineError", "self-test-failed"): (f"{selftest.DICE_AT_LEAST:g}", f"{selftest.ELLIPSOID_WITHIN_MM:g} mm"),
        ("UsageError", "bad-rules"): (f"{measure.SMALLEST_LIMIT_MM:g} to {measure.LARGEST_LIMIT_MM:g} mm",),
    }
    for refusal, parts in wanted.items():
        row = text[Refusal(*refusal)].replace(" %", "%").lower()
        for part in parts:
            assert part in row, f"{refusal[1]}: {part}"
