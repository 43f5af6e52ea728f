"""The engines that a machine keeps: served when they are whole, passed over and built again when they are not.

Whatever happens to the process that builds one, to the disk or to the folder, no half engine has a final name, and
studies are served.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from engine_files import LARGE, deep_blob_network, write_studies
from model_files import SHAPE_ZYX, make_model_folder

import lnfast
from lnfast.backends.choice import version_of
from lnfast.backends.engine import cache as engine_cache
from lnfast.backends.engine.folder import EngineFolder, read_engine_folder
from lnfast.backends.engine.manifest import MANIFEST, blob_name
from lnfast.backends.machine import device_kind
from lnfast.backends.openvino import offers
from lnfast.card import Model, load_model
from lnfast.cli import main
from lnfast.errors import EngineError, LnfastError
from lnfast.export import Request, export_to_cache
from lnfast.network import Network

BLOB = blob_name(SHAPE_ZYX)
KILLS = 20
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(make_model_folder(tmp_path_factory.mktemp("model") / "tiny", deep_blob_network()))


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three studies with a node of 10 x 12 x 15 mm each."""
    return write_studies(tmp_path_factory.mktemp("studies"), (LARGE, 1000))


@pytest.fixture
def request_(studies: Path) -> Request:
    return Request("openvino", "int8", calibration=studies, windows=False)


def key_of(model: Model, precision: str = "int8") -> str:
    return engine_cache.key_of(model, "openvino", version_of("openvino"), (device_kind("cpu"),), precision)


def find(model: Model) -> EngineFolder | None:
    return engine_cache.find(model, key_of(model), "cpu")


def serves(model: Model) -> tuple[str, str]:
    """The precision that auto takes, and why."""
    with lnfast.Engine(model.folder, "openvino") as engine:
        assert engine.choice is not None
        return engine.info.precision, engine.choice


def final_names() -> list[Path]:
    """Engine folders that a reader would find."""
    place = engine_cache.root() / "engines"
    return [path for path in place.iterdir() if path.name[0] != "." and path.is_dir()] if place.is_dir() else []


def lnfast_command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


# --- what is found ----------------------------------------------------------------------------------------------------


def test_nothing_is_found_where_nothing_is(model: Model) -> None:
    assert find(model) is None
    assert list(engine_cache.engines()) == []
    engine_cache.folder_of(key_of(model)).parent.mkdir(parents=True)
    assert find(model) is None


def test_what_was_made_is_found_and_served(model: Model, request_: Request) -> None:
    exported = export_to_cache(model, request_)
    cached = find(model)
    assert cached is not None and cached.folder == exported.engine.folder == engine_cache.folder_of(key_of(model))
    assert [engine.folder for engine in engine_cache.engines()] == [cached.folder]
    assert serves(model)[0] == "int8"


def test_another_model_threshold_version_or_machine_has_another_key(model: Model, tmp_path: Path) -> None:
    other_model = load_model(make_model_folder(tmp_path / "other", deep_blob_network(inner=3)))
    bolder = load_model(make_model_folder(tmp_path / "bolder", deep_blob_network(), threshold=0.4))
    facts = ("openvino", "1", ("cpu",), "int8")
    keys = [engine_cache.key_of(variant, *facts) for variant in (model, other_model, bolder)]
    keys.append(engine_cache.key_of(model, "onnxruntime", "1", ("cpu",), "int8"))
    keys.append(engine_cache.key_of(model, "openvino", "2", ("cpu",), "int8"))
    keys.append(engine_cache.key_of(model, "openvino", "1", ("another",), "int8"))
    keys.append(engine_cache.key_of(model, "openvino", "1", ("cpu",), "fp32"))
    assert len(set(keys)) == len(keys)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def change_manifest(folder: Path, **changed: object) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a cut blob": ("engine-damaged", lambda folder: cut(folder / BLOB)),
    "no blob": ("engine-damaged", lambda folder: (folder / BLOB).unlink()),
    "a cut manifest": ("bad-manifest", lambda folder: cut(folder / MANIFEST)),
    "no certificate": ("uncertified", lambda folder: change_manifest(folder, certificate=None)),
    "another model": (
        "other-model",
        lambda folder: change_manifest(
            folder, model=dict.fromkeys(("name", "version", "sha256", "probe_sha256", "decisive"), "")
        ),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_engine_is_passed_over_and_made_again(model: Model, request_: Request, damage: str) -> None:
    exported = export_to_cache(model, request_)
    code, breaks = DAMAGES[damage]
    breaks(exported.engine.folder)
    with pytest.raises(EngineError) as caught:
        find(model)
    assert caught.value.code == code
    precision, choice = serves(model)
    assert precision != "int8" and f"passed over: {caught.value.message}" in choice

    again = export_to_cache(model, request_)
    assert again.attempts and again.engine.folder == exported.engine.folder
    assert find(model) is not None and serves(model)[0] == "int8"


def test_an_engine_without_its_manifest_is_made_again(model: Model, request_: Request) -> None:
    exported = export_to_cache(model, request_)
    (exported.engine.folder / MANIFEST).unlink()
    assert serves(model)[0] != "int8"
    export_to_cache(model, request_)


# --- two at once, and one that dies -----------------------------------------------------------------------------------

CHILD = """
import os, sys, time
from pathlib import Path
from lnfast.backends.engine import cache as engine_cache
from lnfast.card import load_model
import lnfast.export
from lnfast.export import Request, export_to_cache
publish = lnfast.export.publish
def announced(*arguments, **options):
    print("publishing", file=sys.stderr, flush=True)
    return publish(*arguments, **options)
lnfast.export.publish = announced
model, studies, precision = load_model(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
recipe, rounds = map(int, sys.argv[4:])
request = Request("openvino", precision, calibration=studies, windows=False)
print("ready", flush=True)
sys.stdin.readline()
for number in range(rounds):
    engine_cache.RECIPE = recipe + number
    exported = export_to_cache(model, request)
    print(len(exported.attempts), exported.engine.folder, flush=True)
"""


def child(model: Model, studies: Path, precision: str, recipe: int, rounds: int) -> subprocess.Popen[str]:
    """Start a process that exports when it reads a line, under as many keys as rounds."""
    started = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(model.folder), str(studies), precision, str(recipe), str(rounds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_make_an_engine_once(model: Model, studies: Path) -> None:
    both = [child(model, studies, "int8", engine_cache.RECIPE, 1) for _ in range(2)]
    for process in both:
        go(process)
    outputs = []
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        outputs.append(out.split())
    assert sorted(attempts for attempts, _ in outputs) == ["0", "1"]
    assert {folder for _, folder in outputs} == {str(engine_cache.folder_of(key_of(model)))}
    assert find(model) is not None


def check_whole(model: Model, folder: Path) -> None:
    """It loads, and every hash is right."""
    engine = read_engine_folder(folder)
    assert engine.manifest.certificate is not None and engine.manifest.certificate["passed"] is True
    assert {path.name for path in folder.iterdir()} == {MANIFEST, *engine.manifest.files}
    for name, entry in engine.manifest.files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]
    candidate = next(offer for offer in offers() if offer.precision == engine.manifest.precision)
    with closing(Network(model, candidate, engine=engine)) as network:
        assert network.info.precision == engine.manifest.precision


@posix
def test_a_killed_export_leaves_no_half_engine(model: Model, studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each child exports under one key after the other until it is killed: at a random moment, or while it writes."""
    seeded, checked = random.Random(0), set[Path]()
    for number in range(KILLS):
        process = child(model, studies, "fp32", 1000 * (number + 1), 1000)
        try:
            go(process)
            if number % 2:
                time.sleep(seeded.uniform(0.02, 2.0))
            else:
                assert process.stderr is not None
                assert process.stderr.readline() == "publishing\n"
                time.sleep(seeded.uniform(0.0, 0.05))
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == -9
        for folder in set(final_names()) - checked:
            check_whole(model, folder)
            checked.add(folder)
    assert checked, "no child lived long enough to make anything"

    again = Request("openvino", "fp32", calibration=studies, windows=False)
    for number in range(KILLS):  # the lock of a killed process holds up no other export of its key
        for recipe in range(1000 * (number + 1), 1000 * (number + 2)):
            monkeypatch.setattr(engine_cache, "RECIPE", recipe)
            if not engine_cache.folder_of(key_of(model, "fp32")).exists():
                break
        assert export_to_cache(model, again).attempts
    for folder in set(final_names()) - checked:
        check_whole(model, folder)


# --- a disk that is full, a folder that cannot be written -------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system as the cache; skips where that is not permitted."""
    place = tmp_path / "mounted"
    place.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("no mount here")

    def make(options: str) -> Path:
        done = subprocess.run(
            [mount, "-t", "tmpfs", "-o", options, "none", str(place)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("mounting is not permitted here")
        monkeypatch.setenv("LNFAST_CACHE", str(place))
        return place

    yield make
    if os.path.ismount(place):
        subprocess.run([umount, str(place)], check=True)


def check_serves_from_the_model(model: Model, studies: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lnfast_command("run", studies / "study0.nii.gz", "-o", out, "--model", model.folder) == 0
    printed = capsys.readouterr()
    assert "N1" in printed.out and (out / "study0" / "report.json").is_file()
    codes = ["no-cache: "] if engine_cache.problem() else []
    assert len(printed.err.splitlines()) == 1 + len(codes) and all(code in printed.err for code in codes)


def export_command(model: Model, studies: Path) -> int:
    return lnfast_command("export", model.folder, "--precision", "int8", "--calibration", studies, "--no-windows")


@posix
def test_a_full_disk_leaves_nothing(
    model: Model,
    studies: Path,
    tmp_path: Path,
    mounted: Callable[[str], Path],
    request_: Request,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = mounted("size=8k")
    with pytest.raises(OSError, match="space"):
        export_to_cache(model, request_)
    assert export_command(model, studies) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("lnfast: os-error: ") and "No space left" in last and str(place) in last
    assert all(path.name.endswith(".lock") for path in (place / "engines").iterdir())
    check_serves_from_the_model(model, studies, tmp_path / "out", capsys)
    assert not list((place / "proofs").glob(".*"))


@posix
def test_a_read_only_cache_serves(
    model: Model, studies: Path, tmp_path: Path, mounted: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = mounted("size=1m,ro")
    check_serves_from_the_model(model, studies, tmp_path / "out", capsys)
    assert not list(place.iterdir())
    assert export_command(model, studies) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("lnfast: os-error: ")


def test_a_file_in_the_caches_place_serves(
    model: Model, studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine_cache.root().write_text("no folder")
    check_serves_from_the_model(model, studies, tmp_path / "out", capsys)
    assert export_command(model, studies) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("lnfast: os-error: ")


@posix
def test_an_engine_on_a_read_only_disk_serves(model: Model, request_: Request, mounted: Callable[[str], Path]) -> None:
    """Reading takes no lock."""
    exported = export_to_cache(model, request_)
    place = mounted("size=1m")
    shutil.copytree(exported.engine.folder, place / "engines" / exported.engine.folder.name)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True, capture_output=True)
    assert serves(model)[0] == "int8"
    with lnfast.Engine(model.folder, "openvino", "cpu", "int8") as engine:
        assert engine.choice is None


def test_a_cache_that_cannot_be_looked_into_serves(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of another user; root may read everything, so the system's error is simulated."""
    real = os.stat

    def closed(path: object, *more: object, **options: object) -> os.stat_result:
        if str(path).startswith(str(engine_cache.root())):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", closed)
    assert serves(model)[0] != "int8"


def test_a_foreign_folder_at_an_engines_path_is_left_alone(model: Model, request_: Request) -> None:
    folder = engine_cache.folder_of(key_of(model))
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    assert serves(model)[0] != "int8"
    with pytest.raises(LnfastError) as caught:
        export_to_cache(model, request_)
    assert caught.value.code == "output-exists"
    assert (folder / "thesis.txt").read_text() == "years of work"
