"""``RUN/run.json``: the settings that identify a run; another run in the same folder is refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnfast.errors import UsageError

if TYPE_CHECKING:
    from training.fit.prior_weights import PriorWeights
    from training.recipe.run_config import RunConfig


def settings_of(
    config: RunConfig, start: PriorWeights | None, teacher: PriorWeights | None, cases: dict[str, Any]
) -> dict[str, Any]:
    """What ``run.json`` says, as JSON gives it back. Devices and real scans are not in it: they
    change nothing that is learned."""
    settings = asdict(config) | {"cases": cases}
    for name in ("accelerator", "devices", "real"):
        del settings[name]
    for role, prior in (("start", start), ("teacher", teacher)):
        settings[role] = None if prior is None else {"run": str(prior.run.resolve()), "weights": prior.sha256}
    same: dict[str, Any] = json.loads(json.dumps(settings))
    return same


def read_run_settings(run: Path) -> dict[str, Any] | None:
    """Read ``run.json``; None where there is none.

    Raises:
        UsageError: ``bad-run``.
    """
    path = run / "run.json"
    try:
        settings = json.loads(path.read_bytes())
        if not isinstance(settings, dict) or not isinstance(settings.get("cases"), dict):
            raise ValueError("it holds no object with cases")
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UsageError("bad-run", f"{path} cannot be read ({error}); give another folder") from error
    return settings


def check_same_run(run: Path, now: dict[str, Any]) -> None:
    """Compare the settings of a run with those of its ``run.json``; nothing is written.

    What an older ``run.json`` does not say is not compared.

    Raises:
        UsageError: ``other-run``, naming what differs; ``bad-run``.
    """
    was = read_run_settings(run)
    if was is None:
        return
    was, now = _comparable(was), _comparable(now)
    differences = [f"{name} was {was[name]}, is {now.get(name)}" for name in sorted(was) if was[name] != now.get(name)]
    if differences:
        raise UsageError("other-run", f"{run} is of another run ({'; '.join(differences)}); give another folder")


def _comparable(settings: dict[str, Any]) -> dict[str, Any]:
    """Return flat settings without the paths of other runs, which their weights identify."""
    flat = {name: value for name, value in settings.items() if name not in ("cases", "start", "teacher")}
    flat |= {f"cases.{name}": value for name, value in settings["cases"].items()}
    for role in ("start", "teacher"):
        prior = settings.get(role)
        # An older run.json has the other run's path as it was spelled, or "None".
        flat[f"with {role}"] = prior not in (None, "None")
        if isinstance(prior, dict):
            flat[role] = prior.get("weights")
    return flat
