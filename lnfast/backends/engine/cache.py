"""What this machine keeps between runs: engines that were certified here, and what was proven since it started.

    <user cache>/lnfast/engines/<key>/     an engine folder, whole or absent
    <user cache>/lnfast/engines/<key>.lock held while it is made
    <user cache>/lnfast/proofs/<key>.json  a self-test that was passed, until the next start

A key is a hash over everything that the answer depends on, so that what is found is what was asked for.
``LNFAST_CACHE`` names another folder. Reading needs no lock: a folder gets its name when it is complete. A user without
a home folder has no cache: nothing is found and nothing is kept.
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

RECIPE = 1  # of `lnfast.export`: engines of another one are not found


def root() -> Path | None:
    """The folder, not necessarily there; None for a user without a home folder (a container, a service)."""
    named = os.environ.get("LNFAST_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    try:
        found = user_cache_path("lnfast", appauthor=False)
    except (RuntimeError, OSError, KeyError):  # no HOME, and a user whom the system does not know
        return None
    return found if found.is_absolute() else None  # "~" that nobody could resolve


def problem() -> str | None:
    """Why there is no cache and none can be made, for a person; None where there is one, a read-only one too."""
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
    """64 hexadecimal digits.

    Args:
        model: its file, its probe and what its card decides.
        target, version: the runtime.
        made_for: kind of CPU, or compute capabilities.
        precision: of the engine.
    """
    card = model.card
    parts = (str(RECIPE), *card.sha256.values(), card.decisive, target, version, *made_for, precision)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def folder_of(key: str) -> Path:
    """Where an engine lies or would lie.

    Raises:
        UsageError: ``no-cache``.
    """
    place = root()
    if place is None:
        raise UsageError(
            "no-cache",
            "this user has no home folder to keep an engine in; give export -o DIR, or set LNFAST_CACHE to a folder",
        )
    return place / "engines" / key


def find(model: Model, key: str, device: str) -> EngineFolder | None:
    """The engine of a key, certified for a device, every file proven; None where there is none.

    Raises:
        EngineError: there is one, and it is damaged or not what its key says.
    """
    if root() is None:
        return None
    folder = folder_of(key)
    try:
        if not folder.is_dir():
            return None
    except OSError as error:  # such as a cache of another user
        raise EngineError("engine-missing", f"{folder} cannot be looked at: {error.strerror}") from error
    engine = read_engine_folder(folder)
    check_model(engine, model)
    check_certified(engine, device)
    engine.check_files()
    return engine


def engines() -> Iterator[EngineFolder]:
    """All that are kept, damaged ones left out."""
    above = root()
    if above is None:
        return
    place = above / "engines"
    names = sorted(entry.name for entry in os.scandir(place) if entry.name[0] != ".") if place.is_dir() else []
    for name in names:
        if (place / name).is_dir():
            with contextlib.suppress(EngineError, OSError):
                yield read_engine_folder(place / name)


@contextlib.contextmanager
def making(key: str) -> Iterator[None]:
    """Hold the right to make the engine of a key; another process that wants to waits."""
    from filelock import FileLock

    folder = folder_of(key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        yield


def proof_key(*facts: str) -> str | None:
    """Of a self-test: what was proven holds until the machine starts anew; None where it does not tell when it did."""
    boot = boot_id()
    return None if boot is None else hashlib.sha256("\n".join((cpu_kind(), boot, *facts)).encode()).hexdigest()


def remembered(key: str | None) -> dict[str, Any] | None:
    """What `remember` kept; None where there is nothing, or nothing that can be read."""
    place = root()
    if key is None or place is None:
        return None
    try:
        told = json.loads((place / "proofs" / f"{key}.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def remember(key: str | None, facts: dict[str, Any]) -> None:
    """Keep a proof; where nothing can be written nothing is kept, and the next start proves again."""
    above = root()
    if key is None or above is None:
        return
    with contextlib.suppress(OSError):
        write_file(above / "proofs" / f"{key}.json", json.dumps(facts).encode("ascii"))
