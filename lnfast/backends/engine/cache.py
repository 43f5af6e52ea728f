"""The cache of this machine: engines that were certified here, and self-tests that passed since it started.

    <user cache>/lnfast/engines/<key>/     an engine folder, whole or absent
    <user cache>/lnfast/engines/<key>.lock held while it is built
    <user cache>/lnfast/proofs/<key>.json  a self-test that passed, until the next start

A key is a hash over everything that the answer depends on, so that an engine under a key is the requested one.
``LNFAST_CACHE`` names another folder. Reading needs no lock: a folder gets its name when it is complete. A user without
a home folder has no cache: nothing is found and nothing is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lnfast.atomic import write_file
from lnfast.backends.engine.folder import EngineFolder, check_certified, check_model, read_engine_folder
from lnfast.backends.machine import boot_id, cpu_kind
from lnfast.card import Model
from lnfast.errors import EngineError, UsageError

RECIPE = 1  # the version of how `lnfast.export` builds engines: those of another version are not found


def root() -> Path | None:
    """Return the folder, which need not exist; None for a user without a home folder (a container, a service)."""
    override = os.environ.get("LNFAST_CACHE")
    if override:
        return Path(override)
    from platformdirs import user_cache_path

    try:
        path = user_cache_path("lnfast", appauthor=False)
    except (RuntimeError, OSError, KeyError):  # no HOME, and a user whom the system does not know
        return None
    return path if path.is_absolute() else None  # a "~" that could not be resolved


def problem() -> str | None:
    """Return why there is no cache and none can be created, for people; None where there is one, even read-only."""
    folder = root()
    mend = "so every start proves the engine anew; set LNFAST_CACHE to a folder that may be written"
    if folder is None:
        return f"this user has no home folder, {mend}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be made ({error.strerror}), {mend}"
    return None


def key_of(model: Model, target: str, version: str, made_for: tuple[str, ...], precision: str) -> str:
    """Return the key of an engine, 64 hexadecimal digits.

    Args:
        model: its file, its probe and the deciding entries of its card are hashed.
        target, version: the runtime.
        made_for: kind of CPU, or compute capabilities.
        precision: of the engine.
    """
    card = model.card
    parts = (str(RECIPE), *card.sha256.values(), card.decisive, target, version, *made_for, precision)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def folder_of(key: str) -> Path:
    """Return the folder of an engine, which need not exist.

    Raises:
        UsageError: ``no-cache``.
    """
    folder = root()
    if folder is None:
        raise UsageError(
            "no-cache",
            "this user has no home folder to keep an engine in; give export -o DIR, or set LNFAST_CACHE to a folder",
        )
    return folder / "engines" / key


def find(model: Model, key: str, device: str) -> EngineFolder | None:
    """Return the engine of a key, certified for a device, every hash checked; None where there is none.

    Raises:
        EngineError: there is one, and it is damaged or not what its key says.
    """
    if root() is None:
        return None
    folder = folder_of(key)
    try:
        if not folder.is_dir():
            return None
    except OSError as error:  # for example the cache of another user
        raise EngineError("engine-missing", f"{folder} cannot be looked at: {error.strerror}") from error
    engine = read_engine_folder(folder)
    check_model(engine, model)
    check_certified(engine, device)
    engine.check_files()
    return engine


def engines() -> Iterator[EngineFolder]:
    """Yield all engines in the cache, without damaged ones."""
    cache = root()
    if cache is None:
        return
    folder = cache / "engines"
    names = sorted(entry.name for entry in os.scandir(folder) if entry.name[0] != ".") if folder.is_dir() else []
    for name in names:
        if (folder / name).is_dir():
            with contextlib.suppress(EngineError, OSError):
                yield read_engine_folder(folder / name)


@contextlib.contextmanager
def building(key: str) -> Iterator[None]:
    """Hold the lock to build the engine of a key; another process that builds it waits."""
    from filelock import FileLock

    folder = folder_of(key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        yield


def proof_key(*facts: str) -> str | None:
    """Return the key of a self-test, which holds until the machine starts anew; None where that cannot be known."""
    boot = boot_id()
    return None if boot is None else hashlib.sha256("\n".join((cpu_kind(), boot, *facts)).encode()).hexdigest()


def read_proof(key: str | None) -> dict[str, Any] | None:
    """Return the facts of a self-test that passed; None where there are none, or none that can be read."""
    cache = root()
    if key is None or cache is None:
        return None
    try:
        facts = json.loads((cache / "proofs" / f"{key}.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def write_proof(key: str | None, facts: dict[str, Any]) -> None:
    """Store the facts of a self-test that passed; where nothing can be written, the next start proves again."""
    cache = root()
    if key is None or cache is None:
        return
    with contextlib.suppress(OSError):
        write_file(cache / "proofs" / f"{key}.json", json.dumps(facts).encode("ascii"))
