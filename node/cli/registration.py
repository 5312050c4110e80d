"""Gather what a person says about a data set: on the command line, in a file, or when asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field, JsonValue

from common.errors import InvalidDatasetError
from common.settings import Settings, load_toml

if TYPE_CHECKING:
    from node.steward.datasets import NewDataset

OptionTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help="An option of its kind, in TOML or as plain text; again for more.",
    ),
]


class Registration(Settings):
    """What a file says about a data set."""

    path: Path
    """From the folder of that file, if it is not absolute."""
    name: str
    tags: tuple[str, ...]
    description: str
    type: str | None = None
    """Its kind; found out from the names of its files if it is not given."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    loading: str | None = None
    """A data-loading plan that is saved at the node."""
    watch: bool = False


def from_file(file: Path) -> NewDataset:
    """Return what a TOML file says about a data set.

    Raises:
        InvalidSettingsError: If it cannot be read or says something else; names every mistake.
    """
    from node.steward.datasets import NewDataset

    found = load_toml(file, Registration)
    return NewDataset(
        path=file.parent / found.path,
        name=found.name,
        tags=found.tags,
        description=found.description,
        data_type=found.type,
        options=found.options,
        loading=found.loading,
        watched=found.watch,
    )


def from_terminal(given: Mapping[str, str | None], *, ask: bool) -> dict[str, str]:
    """Return all answers, asking for the missing ones if there is somebody to ask.

    Raises:
        InvalidDatasetError: If some are missing and there is nobody; names all of them.
    """
    missing = [key for key, value in given.items() if not value]
    if missing and not ask:
        raise InvalidDatasetError(reason=f"missing {', '.join(f'--{key}' for key in missing)}")
    hints = {"tags": "tags, separated by commas"}
    return {key: value or typer.prompt(hints.get(key, key)) for key, value in given.items()}


def options_of(texts: Iterable[str]) -> dict[str, JsonValue]:
    """Return options given as KEY=VALUE, where a value that is no TOML is plain text.

    Raises:
        InvalidDatasetError: If there is no equals sign.
    """
    from common.datasets.families.questions import toml_value

    options: dict[str, JsonValue] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidDatasetError(reason=f"{text!r} is not KEY=VALUE")
        options[key] = toml_value(value)
    return options
