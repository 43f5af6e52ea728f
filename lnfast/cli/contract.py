"""``lnfast run --contract``: called by another system, which names the folders in the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

Command = TypeVar("Command", bound=Callable[..., Any])
_FOLDERS = ("studies", "input_folder", "out")
# What is fixed by the contract of mercure.
_NOT_OF_MERCURE = (*_FOLDERS, "list_only", "as_json", "html", "dicom")


def contract_option(command: Command) -> Command:
    """Add the option to a command."""
    option = click.option(
        "--contract",
        type=click.Choice(["mercure", "monai"]),
        help="Called as a processing module of mercure, which names both folders and the settings; or as an "
        "application package of MONAI Deploy, which names both folders.",
    )
    return option(command)


def package_folders() -> tuple[tuple[Path, ...], Path]:
    """Return the studies and the output folder of an application package.

    Raises:
        UsageError: ``no-folder``.
    """
    from lnfast.contracts.packages import INPUT, OUTPUT, folder_named

    _refuse_options("monai", _FOLDERS)
    return (folder_named(os.environ, INPUT),), folder_named(os.environ, OUTPUT)


def run_mercure(options: dict[str, Any]) -> str:
    """Run the task of a module of mercure.

    Args:
        options: of ``lnfast run``, by name; those that are settings hold where the task has none of that name.

    Returns:
        A line about the result.

    Raises:
        LnfastError: as `lnfast.contracts.mercure.run_module`.
    """
    from lnfast.contracts.mercure import Settings, run_module

    _refuse_options("mercure", _NOT_OF_MERCURE)
    defaults = Settings(**{field.name: options[field.name] for field in fields(Settings) if field.name in options})
    report = run_module(os.environ, defaults)
    return f"{report.study.name}: {report.n_stage}, {len(report.suspicious)} of {len(report.nodes)} nodes suspicious"


def _refuse_options(contract: str, names: tuple[str, ...]) -> None:
    context = click.get_current_context()
    given = [name for name in names if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    if given:
        words = [parameter.get_error_hint(context) for parameter in context.command.params if parameter.name in given]
        message = f"{contract} names what is read and written; leave out {', '.join(words)}"
        raise click.BadParameter(message, param_hint="'--contract'")
