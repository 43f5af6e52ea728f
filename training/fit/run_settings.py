"""``RUN/run.json``: what a run is; another one in the same folder is refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnfast.errors import UsageError

if TYPE_CHECKING:
    from training.fit.prior_weights import Earlier
    from training.recipe.run_config import RunConfig


def identity(
    config: RunConfig, start: Earlier | None, teacher: Earlier | None, cases: dict[str, Any]
) -> dict[str, Any]:
    """What ``run.json`` says, as JSON gives it back. Devices and real scans are not in it: they
    change nothing that is learned."""
    said = asdict(config) | {"cases": cases}
    for name in ("accelerator", "devices", "real"):
        del said[name]
    for role, one in (("start", start), ("teacher", teacher)):
        said[role] = None if one is None else {"run": str(one.run.resolve()), "weights": one.sha256}
    same: dict[str, Any] = json.loads(json.dumps(said))
    return same


def read_identity(run: Path) -> dict[str, Any] | None:
    """What ``run.json`` says, None where there is none.

    Raises:
        UsageError: ``bad-run``.
    """
    path = run / "run.json"
    try:
        said = json.loads(path.read_bytes())
        if not isinstance(said, dict) or not isinstance(said.get("cases"), dict):
            raise ValueError("it holds no object with cases")
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UsageError("bad-run", f"{path} cannot be read ({error}); give another folder") from error
    return said


def check_same(run: Path, now: dict[str, Any]) -> None:
    """Compare a run with what it was; nothing is written.

    What an older ``run.json`` does not say is not compared.

    Raises:
        UsageError: ``other-run``, naming what differs; ``bad-run``.
    """
    was = read_identity(run)
    if was is None:
        return
    was, now = _comparable(was), _comparable(now)
    told = [f"{name} was {was[name]}, is {now.get(name)}" for name in sorted(was) if was[name] != now.get(name)]
    if told:
        raise UsageError("other-run", f"{run} is of another run ({'; '.join(told)}); give another folder")


def _comparable(said: dict[str, Any]) -> dict[str, Any]:
    """Flat, and without where another run lies: its weights say which it is."""
    flat = {name: value for name, value in said.items() if name not in ("cases", "start", "teacher")}
    flat |= {f"cases.{name}": value for name, value in said["cases"].items()}
    for role in ("start", "teacher"):
        one = said.get(role)
        # An older run.json has the other run's path as it was spelled, or "None".
        flat[f"with {role}"] = one not in (None, "None")
        if isinstance(one, dict):
            flat[role] = one.get("weights")
    return flat
