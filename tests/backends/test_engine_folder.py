"""An exported engine that is not what it says is refused: one line, exit code 4, and no report of any patient.

The engines are real ones of OpenVINO, built of a tiny model; each kind of damage is done to a copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from engine_files import LARGE, SMALL, deep_blob_network, write_studies, write_study
from model_files import SHAPE_ZYX, make_model_folder
from onnx import numpy_helper

import lnfast
from lnfast import serving
from lnfast.backends import Candidate, machine, openvino
from lnfast.backends.engine import cache as engine_cache
from lnfast.backends.engine.folder import EngineFolder, read_engine_folder
from lnfast.backends.engine.manifest import GRAPH, MANIFEST, Manifest, blob_name
from lnfast.backends.requests import LoadRequest
from lnfast.card import load_model
from lnfast.cli import main
from lnfast.errors import BackendError, EngineError, ModelError
from lnfast.export import Request, export
from lnfast.export.draft import write_draft
from lnfast.network import Network
from lnfast.selftest import SelfTest

BLOB = blob_name(SHAPE_ZYX)
BRIGHT = 1000
Break = Callable[[Path], None]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A certified engine in each precision, never to be changed."""
    place = tmp_path_factory.mktemp("engines")
    model = load_model(make_model_folder(place / "model", deep_blob_network()))
    studies = write_studies(place / "studies", (LARGE, BRIGHT), (SMALL, BRIGHT))
    return {
        precision: export(
            model, place / precision, Request("openvino", precision, calibration=studies, windows=False)
        ).engine.folder
        for precision in ("int8", "fp32")
    }


@pytest.fixture(params=["int8", "fp32"])
def engine(request: pytest.FixtureRequest, engines: dict[str, Path], tmp_path: Path) -> Path:
    """A copy, to be broken."""
    return Path(shutil.copytree(engines[request.param], tmp_path / "engine"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One node of 10 x 12 x 15 mm."""
    return write_study(tmp_path_factory.mktemp("study") / "patient.nii.gz", (LARGE, BRIGHT))


def lnfast_run(engine: Path, study: Path, *more: str) -> int:
    """Exit code of ``lnfast run``, in this process; what it writes goes beside the engine."""
    with pytest.raises(SystemExit) as ended:
        main(["run", str(study), "-o", str(engine.parent / "out"), "--model", str(engine), *more])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def check_refused(engine: Path, message: str, code: str) -> None:
    """One line on stderr that begins with the code and says how to mend it; nothing was written."""
    assert message.startswith(f"lnfast: {code}: ") and message.endswith("\n") and message.count("\n") == 1, message
    assert "export" in message, message
    assert not list(engine.parent.glob("out/*")), "a report of a refused engine"


def change_manifest(folder: Path, **changed: Any) -> None:
    """Write entries of the manifest anew."""
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def manifest(folder: Path) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return entries


def fit(folder: Path, name: str, content: bytes) -> None:
    """A file and its hash in the manifest: a damage that no hash shows."""
    (folder / name).write_bytes(content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    change_manifest(folder, files=manifest(folder)["files"] | {name: entry})


def flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


def rebuild(folder: Path, **weights: float) -> None:
    """Compile the engine's graph again with some weights set to a value, manifest and all."""
    model, built = load_model(folder), read_engine_folder(folder).manifest
    proto = onnx.load(folder / GRAPH if GRAPH in built.files else folder / "model.onnx")
    for tensor in proto.graph.initializer:
        if tensor.name in weights:
            array = np.full_like(numpy_helper.to_array(tensor), weights.pop(tensor.name))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    assert not weights, "the graph has no such weights"
    graph = proto.SerializeToString()
    draft = write_draft(folder.with_name("draft"), built, {GRAPH: graph})
    candidate = Candidate("openvino", "cpu", built.precision, "a test", needs_engine=True)
    fit(folder, BLOB, openvino.compile_blob(LoadRequest(model, candidate, draft, SHAPE_ZYX, 0)))
    if GRAPH in built.files:
        fit(folder, GRAPH, graph)


def other_threshold(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    card["output"]["threshold"] = 0.4
    (folder / "card.json").write_text(json.dumps(card))


def other_model(folder: Path) -> None:
    """The files of another model beside the engine."""
    make_model_folder(folder, deep_blob_network(inner=3))


def other_probe(folder: Path) -> None:
    array, affine, mask = (np.load(folder / "probe.npz")[name] for name in ("array", "affine", "mask"))
    content = (folder / "model.onnx").read_bytes()
    make_model_folder(folder, content, probe=(np.asarray(array + 1, np.int16), affine, mask), name="tiny")


def without(*entry: str) -> Break:
    """A manifest that lacks an entry."""

    def cut(folder: Path) -> None:
        entries = manifest(folder)
        parent = entries
        for key in entry[:-1]:
            parent = parent[key]
        del parent[entry[-1]]
        (folder / MANIFEST).write_text(json.dumps(entries))

    return cut


def certificate(**changed: Any) -> Break:
    return lambda folder: change_manifest(folder, certificate=manifest(folder)["certificate"] | changed)


def text(content: str | bytes) -> Break:
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / MANIFEST).write_bytes(raw) and None


def cut_manifest(part: float) -> Break:
    def cut(folder: Path) -> None:
        content = (folder / MANIFEST).read_bytes()
        (folder / MANIFEST).write_bytes(content[: int(part * len(content))])

    return cut


def cut_blob(folder: Path) -> None:
    content = (folder / BLOB).read_bytes()
    (folder / BLOB).write_bytes(content[: len(content) // 2])


def folder_instead(name: str) -> Break:
    def swap(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return swap


WRONG: dict[str, tuple[str, Break]] = {
    "a manifest of another model": (
        "other-model",
        lambda folder: change_manifest(folder, model=manifest(folder)["model"] | {"sha256": "0" * 64}),
    ),
    "a manifest of another probe": (
        "other-model",
        lambda folder: change_manifest(folder, model=manifest(folder)["model"] | {"probe_sha256": "0" * 64}),
    ),
    "another model": ("other-model", other_model),
    "another probe": ("other-model", other_probe),
    "another threshold": ("other-model", other_threshold),
    "a cut blob": ("engine-damaged", cut_blob),
    "an empty blob": ("engine-damaged", lambda folder: (folder / BLOB).write_bytes(b"") and None),
    "a blob with a bit flipped at its start": ("engine-damaged", lambda folder: flip(folder / BLOB, 0.0)),
    "a blob with a bit flipped in it": ("engine-damaged", lambda folder: flip(folder / BLOB, 0.5)),
    "a blob with a bit flipped at its end": ("engine-damaged", lambda folder: flip(folder / BLOB, 1.0)),
    "no blob": ("engine-damaged", lambda folder: (folder / BLOB).unlink()),
    "a folder for a blob": ("engine-damaged", folder_instead(BLOB)),
    "another runtime version": ("other-version", lambda folder: change_manifest(folder, version="2020.1.0")),
    "another CPU": ("other-device", lambda folder: change_manifest(folder, made_for=["x86_64 abacus"])),
    "no CPU": ("other-device", lambda folder: change_manifest(folder, made_for=[])),
    "no certificate": ("uncertified", lambda folder: change_manifest(folder, certificate=None)),
    "a failed certificate": ("uncertified", certificate(passed=False)),
    "a certificate that only seems to have passed": ("uncertified", certificate(passed="true")),
    "a certificate of another device": ("uncertified", certificate(device="x86_64 abacus")),
    "an empty certificate": ("uncertified", lambda folder: change_manifest(folder, certificate={})),
    "an empty manifest": ("bad-manifest", text("")),
    "a manifest cut to half": ("bad-manifest", cut_manifest(0.5)),
    "a manifest without its end": ("bad-manifest", cut_manifest(0.99)),
    "a manifest that is no text": ("bad-manifest", text(b"\xff\xfe\x00")),
    "a list for a manifest": ("bad-manifest", text("[]")),
    "null for a manifest": ("bad-manifest", text("null")),
    "another schema": ("bad-manifest", lambda folder: change_manifest(folder, schema="lnfast.engine/2")),
    "no schema": ("bad-manifest", without("schema")),
    "no files": ("bad-manifest", without("files")),
    "no probe's hash": ("bad-manifest", without("model", "probe_sha256")),
    "a file without a hash": ("bad-manifest", without("files", BLOB, "sha256")),
    "files that are a list": ("bad-manifest", lambda folder: change_manifest(folder, files=[BLOB])),
    "an unknown target": ("bad-manifest", lambda folder: change_manifest(folder, target="abacus")),
    "an unknown device": ("bad-manifest", lambda folder: change_manifest(folder, device="tpu")),
    "an unknown precision": ("bad-manifest", lambda folder: change_manifest(folder, precision="int4")),
    "an unknown type": ("bad-manifest", lambda folder: change_manifest(folder, dtype="complex64")),
    "a shape of nothing": ("bad-manifest", lambda folder: change_manifest(folder, shapes=[[0, 16, 16]])),
    "a shape without an end": ("bad-manifest", lambda folder: change_manifest(folder, shapes=[[float("inf"), 16, 16]])),
    "a certificate that is a number": ("bad-manifest", lambda folder: change_manifest(folder, certificate=1)),
    "a deep manifest": ("bad-manifest", text("[" * 200_000)),
    "a huge manifest": ("bad-manifest", text(" " * (1 << 20) + "{}")),
    "a folder for a manifest": ("bad-manifest", folder_instead(MANIFEST)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_engine_is_refused(
    wrong: str, engines: dict[str, Path], study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Path(shutil.copytree(engines["int8"], tmp_path / "engine"))
    code, breaks = WRONG[wrong]
    breaks(engine)
    assert lnfast_run(engine, study) == 4
    printed = capsys.readouterr()
    assert not printed.out
    check_refused(engine, printed.err, code)


def test_a_sound_engine_serves(engine: Path, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Or nothing here proves anything."""
    assert lnfast_run(engine, study) == 0
    assert "N1, 1 of 1 nodes suspicious" in capsys.readouterr().out
    report = json.loads((engine.parent / "out" / "patient" / "report.json").read_text())
    assert report["engine"]["certificate"]["passed"] is True


@pytest.mark.parametrize(
    ("code", "weights"),
    [("self-test-failed", {"b": -1000.0}), ("self-test-failed", {"b": 1000.0}), ("non-finite-logits", {"b": np.nan})],
    ids=["blank", "all of it", "NaN"],
)
def test_what_computes_nonsense_is_refused_though_every_hash_is_right(
    engine: Path, study: Path, capsys: pytest.CaptureFixture[str], code: str, weights: dict[str, float]
) -> None:
    rebuild(engine, **weights)
    read_engine_folder(engine).check_files()
    for _ in range(2):  # nor is a failure remembered as a proof
        assert lnfast_run(engine, study) == 4
        message = capsys.readouterr().err
        assert message.startswith(f"lnfast: {code}: ") and message.count("\n") == 1
    assert not list(engine.parent.glob("out/*"))


def test_zero_weights_are_refused(engines: dict[str, Path], study: Path, tmp_path: Path) -> None:
    engine = Path(shutil.copytree(engines["fp32"], tmp_path / "engine"))
    rebuild(engine, w=0.0, b=0.0)
    with pytest.raises(EngineError) as caught:
        lnfast.Engine(engine)
    assert caught.value.code == "self-test-failed"


def test_a_rebuilt_engine_is_as_good(engine: Path, study: Path) -> None:
    """What the tests above do to an engine does no harm of itself."""
    rebuild(engine)
    assert lnfast_run(engine, study) == 0


def test_an_engine_of_another_precision_than_it_says(
    engines: dict[str, Path], study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Path(shutil.copytree(engines["fp32"], tmp_path / "engine"))
    change_manifest(engine, precision="int8")
    assert lnfast_run(engine, study) == 4
    assert capsys.readouterr().err.startswith("lnfast: precision-mismatch: ")
    assert not list(engine.parent.glob("out/*"))


NOT_BLOBS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda blob: b"",
    "a letter": lambda blob: b"x",
    "noise": lambda blob: np.random.default_rng(0).bytes(len(blob)),
    "zeros": lambda blob: bytes(len(blob)),
    "half a blob": lambda blob: blob[: len(blob) // 2],
    "a head and noise": lambda blob: blob[:64] + np.random.default_rng(1).bytes(len(blob) - 64),
    "text": lambda blob: b"<?xml version='1.0'?><net></net>" * 100,
}
MANY = """
import sys
from pathlib import Path
from lnfast.cli import main
study, *engines = sys.argv[1:]
for engine in engines:
    try:
        main(["run", study, "-o", str(Path(engine).parent / "out"), "--model", engine])
    except SystemExit as ended:
        print(ended.code, flush=True)
"""


def test_what_is_no_blob_is_refused_and_the_process_lives(
    engines: dict[str, Path], study: Path, tmp_path: Path
) -> None:
    """The hash is right, so the runtime sees the bytes: in a process of its own, which must not die of them."""
    for name, damage in NOT_BLOBS.items():
        folder = Path(shutil.copytree(engines["int8"], tmp_path / name / "engine"))
        fit(folder, BLOB, damage((folder / BLOB).read_bytes()))
    places = [str(tmp_path / name / "engine") for name in NOT_BLOBS]
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(study), *places], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"the process died of a blob: {done.returncode}, {done.stdout}, {done.stderr}"
    assert done.stdout.split() == ["4"] * len(NOT_BLOBS), done.stderr
    lines = done.stderr.splitlines(keepends=True)
    assert len(lines) == len(NOT_BLOBS), done.stderr
    for place, line in zip(places, lines, strict=True):
        check_refused(Path(place), line, "engine-damaged")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--precision", "fp32"), "precision-unavailable"),
        (("--backend", "onnxruntime"), "backend-unavailable"),
        (("--device", "cuda:0"), "device-unavailable"),
    ],
)
def test_an_engine_is_never_another(
    engines: dict[str, Path],
    study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    code: str,
) -> None:
    engine = Path(shutil.copytree(engines["int8"], tmp_path / "engine"))
    assert lnfast_run(engine, study, *more) == 5
    message = capsys.readouterr().err
    assert message.startswith(f"lnfast: {code}: ") and message.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))
    with pytest.raises(BackendError):
        lnfast.Engine(engine, **{more[0][2:]: more[1]})


def test_what_is_requested_by_name_and_is_there_serves(engine: Path) -> None:
    precision = read_engine_folder(engine).manifest.precision
    with lnfast.Engine(engine, "openvino", "cpu", precision) as served:
        assert served.choice is None and served.info.precision == precision


def test_a_manifest_survives_its_text(engine: Path) -> None:
    original = read_engine_folder(engine)
    again = Manifest.from_json(original.manifest.to_json())
    assert again == original.manifest and EngineFolder(engine, again).sha256 == original.sha256


# --- what was proven is remembered ------------------------------------------------------------------------------------


class Proofs:
    """A counter of the runs of the probe."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._prove = serving.prove
        monkeypatch.setattr(serving, "prove", self)

    def __call__(self, network: Network) -> SelfTest:
        self.count += 1
        return self._prove(network)

    def since(self, folder: Path) -> int:
        """Proofs that loading an engine takes."""
        before = self.count
        with lnfast.Engine(folder) as engine:
            assert engine.self_test.nodes == 1 and engine.self_test.dice >= 0.98
        return self.count - before


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> Proofs:
    return Proofs(monkeypatch)


@pytest.fixture(autouse=True)
def _a_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate the id of a start of the machine, where the system has none."""
    if machine.boot_id() is None:
        monkeypatch.setattr(engine_cache, "boot_id", lambda: "this")


def proof_files() -> list[Path]:
    return sorted((engine_cache.root() / "proofs").iterdir())


def test_an_engine_is_proven_once(engine: Path, proofs: Proofs) -> None:
    assert proofs.since(engine) == 1
    assert proofs.since(engine) == 0
    assert [path.suffix for path in proof_files()] == [".json"]


def test_a_moved_engine_is_the_same(engine: Path, proofs: Proofs) -> None:
    assert proofs.since(engine) == 1
    assert proofs.since(engine.rename(engine.with_name("elsewhere"))) == 0


def test_another_engine_is_proven_again(engine: Path, proofs: Proofs) -> None:
    assert proofs.since(engine) == 1
    rebuild(engine, b=-3.9)
    assert proofs.since(engine) == 1
    assert proofs.since(engine) == 0


def test_another_threshold_is_proven_again(engine: Path, proofs: Proofs) -> None:
    assert proofs.since(engine) == 1
    other_threshold(engine)
    model_entry = manifest(engine)["model"] | {"decisive": load_model(engine).card.decisive}
    change_manifest(engine, model=model_entry)
    assert proofs.since(engine) == 1


def test_a_damaged_engine_is_not_saved_by_an_older_proof(engine: Path, proofs: Proofs) -> None:
    assert proofs.since(engine) == 1
    flip(engine / BLOB, 0.5)
    with pytest.raises(EngineError) as caught:
        lnfast.Engine(engine)
    assert caught.value.code == "engine-damaged"


def test_a_broken_probe_is_proven_again(engine: Path, proofs: Proofs) -> None:
    """The proof was made with the probe that the card names; a file that is another now proves nothing anew."""
    assert proofs.since(engine) == 1
    shutil.rmtree(engine_cache.root() / "proofs")
    flip(engine / "probe.npz", 0.5)
    with pytest.raises(ModelError) as caught:
        lnfast.Engine(engine)
    assert caught.value.code == "model-damaged"


@pytest.mark.parametrize("what", ["boot_id", "cpu_kind"])
def test_another_start_or_machine_proves_again(
    engine: Path, proofs: Proofs, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    assert proofs.since(engine) == 1
    monkeypatch.setattr(engine_cache, what, lambda: "another")
    assert proofs.since(engine) == 1
    assert proofs.since(engine) == 0


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_where_instructions_are_limited_an_engine_made_without_the_limit_is_refused(
    engine: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """oneDNN then computes with other kernels than those that were certified."""
    monkeypatch.setenv(name, "all")
    lnfast.Engine(engine).close()
    monkeypatch.setenv(name, "avx2")
    with pytest.raises(EngineError, match=r"other-device.*up to AVX2"):
        lnfast.Engine(engine)


def test_where_no_start_is_told_of_nothing_is_remembered(
    engine: Path, proofs: Proofs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_cache, "boot_id", lambda: None)
    assert [proofs.since(engine) for _ in range(2)] == [1, 1]
    assert not (engine_cache.root() / "proofs").exists()


CORRUPT = {
    "empty": b"",
    "cut": b'{"dice": 1.0, "no',
    "noise": bytes(range(256)),
    "a list": b"[1.0, 1]",
    "deep": b"[" * 100_000,
}
OF_ANOTHER_FORM = {
    "no entries": b"{}",
    "an entry too few": b'{"dice": 1.0}',
    "an entry too many": b'{"dice": 1.0, "nodes": 1, "more": 1}',
}


@pytest.mark.parametrize("content", CORRUPT)
def test_an_unreadable_proof_is_none(engine: Path, proofs: Proofs, content: str) -> None:
    assert proofs.since(engine) == 1
    (path,) = proof_files()
    path.write_bytes(CORRUPT[content])
    assert proofs.since(engine) == 1
    assert proofs.since(engine) == 0


@pytest.mark.parametrize("content", OF_ANOTHER_FORM)
def test_a_proof_of_another_form_is_none(engine: Path, proofs: Proofs, content: str) -> None:
    assert proofs.since(engine) == 1
    (path,) = proof_files()
    path.write_bytes(OF_ANOTHER_FORM[content])
    assert proofs.since(engine) == 1


def test_a_folder_in_a_proofs_place_is_none(engine: Path, proofs: Proofs) -> None:
    assert proofs.since(engine) == 1
    (path,) = proof_files()
    path.unlink()
    path.mkdir()
    assert [proofs.since(engine) for _ in range(2)] == [1, 1]
    assert proof_files() == [path], "a temporary file was left"


# --- manifests that nobody would write by mistake ---------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
def test_a_pipe_is_not_waited_for(engines: dict[str, Path], study: Path, tmp_path: Path) -> None:
    engine = Path(shutil.copytree(engines["int8"], tmp_path / "engine"))
    (engine / BLOB).unlink()
    os.mkfifo(engine / BLOB)
    command = [sys.executable, "-m", "lnfast", "run", str(study), "-o", str(tmp_path / "out"), "--model", str(engine)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4, check=False)
    assert done.returncode == 4
    check_refused(engine, done.stderr, "engine-damaged")


CRAFTED: dict[str, Break] = {
    "a shape beyond the grid": lambda folder: change_manifest(folder, shapes=[[8, 16, 32]]),
    "a certificate with NaN": certificate(dice={"worst": float("nan"), "mean": 1.0}),
    "an engine for a GPU": lambda folder: change_manifest(folder, device="cuda"),
    "a target of another runtime": lambda folder: change_manifest(folder, target="onnxruntime"),
}


@pytest.mark.parametrize("crafted", CRAFTED)
def test_a_crafted_manifest_is_refused_on_purpose(
    crafted: str, engines: dict[str, Path], study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never an error of lnfast's own, nor one of the user's call."""
    engine = Path(shutil.copytree(engines["int8"], tmp_path / "engine"))
    CRAFTED[crafted](engine)
    assert lnfast_run(engine, study) in (4, 5)
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


NAMELESS: dict[str, Break] = {
    "bad-manifest": text("{}"),
    "engine-damaged": lambda folder: fit(folder, BLOB, b"no blob"),
    "self-test-failed": lambda folder: rebuild(folder, b=-1000.0),
    "non-finite-logits": lambda folder: rebuild(folder, b=np.nan),
}


@pytest.mark.parametrize("code", NAMELESS)
def test_every_refusal_names_the_command(
    code: str, engines: dict[str, Path], study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Path(shutil.copytree(engines["int8"], tmp_path / "engine"))
    NAMELESS[code](engine)
    assert lnfast_run(engine, study) == 4
    message = capsys.readouterr().err
    assert message.startswith(f"lnfast: {code}: ")
    assert "lnfast export" in message
